//! Numbers as people read them.

/// A duration with as many digits as say something.
pub fn duration(seconds: f64) -> String {
    let millis = seconds * 1e3;
    if seconds == 0.0 {
        "0 ms".to_owned()
    } else if millis < 0.9995 {
        format!("{:.0} µs", seconds * 1e6)
    } else if millis < 9.95 {
        format!("{millis:.1} ms")
    } else if millis < 999.5 {
        format!("{millis:.0} ms")
    } else if seconds < 99.95 {
        format!("{seconds:.2} s")
    } else {
        format!("{seconds:.0} s")
    }
}

/// A count with its noun.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A number with one decimal where it matters.
pub fn rate(per_second: f64) -> String {
    if per_second < 9.95 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_digits_that_say_something() {
        let cases = [
            (0.0, "0 ms"),
            (0.000_42, "420 µs"),
            (0.000_999_9, "1.0 ms"),
            (0.0035, "3.5 ms"),
            (0.42, "420 ms"),
            (0.9999, "1.00 s"),
            (1.84, "1.84 s"),
            (723.0, "723 s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
