//! Kubernetes' resource quantities as numbers: just enough to compare two of them and to take a share of a memory limit.

/// The number that a quantity such as `500m`, `1Gi` or `2e3` stands for; `None` for a text of another form.
pub fn parse(text: &str) -> Option<f64> {
    let digits_end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-')).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    let number: f64 = digits.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

/// Whether two texts stand for the same quantity.
pub fn equal(left: &str, right: &str) -> bool {
    match (parse(left), parse(right)) {
        (Some(left), Some(right)) => (left - right).abs() <= f64::EPSILON * left.abs().max(right.abs()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_numbers() {
        for (text, number) in [("1", 1.0), ("500m", 0.5), ("256Mi", 268_435_456.0), ("1.5Gi", 1_610_612_736.0), ("2e3", 2000.0)]
        {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in ["", "Gi", "1Kib", "lots"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_same_amount_in_other_units_is_equal() {
        assert!(equal("1000m", "1") && equal("1024Mi", "1Gi") && equal("0.5", "500m"));
        assert!(!equal("1", "1Gi") && !equal("main", "main"));
    }
}
