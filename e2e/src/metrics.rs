//! An engine's `/metrics` page, as far as tests and measurements read it.

use anyhow::{Context, Result};

/// The samples of one scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Page {
    /// Reads the page of the engine at `url`.
    pub async fn scrape(url: &str) -> Result<Self> {
        let address = format!("{url}/metrics");
        let text = reqwest::get(&address).await.and_then(reqwest::Response::error_for_status);
        let text = text.with_context(|| format!("cannot read {address}"))?.text().await?;
        Ok(Self::read(&text))
    }

    /// Reads OpenMetrics text; what is no sample is left out.
    pub fn read(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sum of all samples of this name with these labels; 0 without one.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matches = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.iter().any(|(k, v)| k == key && v == value);
            sample.name == name && labels.iter().all(has)
        };
        // Not `sum()`, whose zero is negative.
        self.0.iter().filter(matches).fold(0.0, |sum, sample| sum + sample.value)
    }
}

/// `name{key="value",...} 1.0`; our label values hold neither quotes nor commas.
fn sample(line: &str) -> Option<Sample> {
    let (head, rest) = match line.split_once('{') {
        Some((name, rest)) => (name, Some(rest)),
        None => (line.split_once(' ')?.0, None),
    };
    let (labels, value) = match rest {
        Some(rest) => rest.split_once("} ")?,
        None => ("", line.split_once(' ')?.1),
    };
    let label = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()));
    Some(Sample {
        name: head.to_owned(),
        labels: labels.split(',').filter_map(label).collect(),
        value: value.split_whitespace().next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP r requests\n# TYPE r counter\nr_total{operation=\"chat\",outcome=\"ok\"} 3\n\
                        r_total{operation=\"text\",outcome=\"ok\"} 2\nr_total{operation=\"chat\",outcome=\"error\"} 1\n\
                        vllm:num_requests_running{model_name=\"m\"} 4.0\nplain 0.5\n# EOF\n";

    #[test]
    fn samples_are_summed_over_the_labels_that_were_not_asked_for() {
        let page = Page::read(PAGE);
        assert_eq!(page.sum("r_total", &[("outcome", "ok")]), 5.0);
        assert_eq!(page.sum("r_total", &[]), 6.0);
        assert_eq!(page.sum("vllm:num_requests_running", &[("model_name", "m")]), 4.0);
        assert_eq!(page.sum("plain", &[]), 0.5);
        assert_eq!(page.sum("missing", &[]), 0.0);
    }
}
