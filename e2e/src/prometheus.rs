//! A real Prometheus on loopback, as a data source of dashboards: what it scrapes is told in its own configuration.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use reqwest::Url;
use serde_json::Value;
use tokio::process::Command;

use crate::local::{Local, free_port};

/// A running Prometheus.
pub struct Prometheus {
    process: Local,
}

/// One series of an answer at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value, which may be NaN.
    pub value: f64,
}

impl Prometheus {
    /// Starts it; `directory` takes its configuration and its data.
    ///
    /// # Errors
    /// It does not start with this configuration; it says why on standard error.
    pub async fn start(program: &Path, directory: &Path, configuration: &Value) -> Result<Self> {
        let file = directory.join("prometheus.yaml");
        std::fs::write(&file, serde_yaml::to_string(configuration)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn");
        Ok(Self { process: Local::start(command, format!("http://127.0.0.1:{port}"), "/-/ready").await? })
    }

    /// What a query answers at this moment (Unix seconds), one sample for each series; nothing where there is none.
    ///
    /// # Errors
    /// It refuses the query.
    pub async fn query(&self, query: &str, at: f64) -> Result<Vec<Sample>> {
        let data = self.get("/api/v1/query", &[("query", query), ("time", &at.to_string())]).await?;
        let result = match data["resultType"].as_str() {
            Some("vector") => data["result"].as_array().context("the answer has no result")?,
            other => bail!("an answer of type {other:?} to {query}"),
        };
        result.iter().map(|series| sample(series).with_context(|| format!("not a sample: {series}"))).collect()
    }

    /// The values that a label has on the series of a selector, as a dashboard's variable asks.
    ///
    /// # Errors
    /// It refuses the selector.
    pub async fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>> {
        let data = self.get(&format!("/api/v1/label/{label}/values"), &[("match[]", selector)]).await?;
        Ok(serde_json::from_value(data)?)
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let url = Url::parse_with_params(&format!("{}{path}", self.process.url), parameters)?;
        let mut answer: Value = reqwest::get(url).await.context("cannot ask Prometheus")?.json().await?;
        if answer["status"] != "success" {
            bail!("Prometheus refuses {parameters:?}: {}", answer["error"]);
        }
        Ok(answer["data"].take())
    }
}

fn sample(series: &Value) -> Option<Sample> {
    let labels = series["metric"].as_object()?.iter();
    let labels = labels.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect::<Option<_>>()?;
    Some(Sample { labels, value: series["value"][1].as_str()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sample_is_read_with_its_labels_and_a_value_that_may_be_no_number() {
        let read = sample(&json!({"metric": {"pod": "a"}, "value": [1.5, "0.25"]})).unwrap();
        assert_eq!(read, Sample { labels: BTreeMap::from([("pod".to_owned(), "a".to_owned())]), value: 0.25 });
        assert!(sample(&json!({"metric": {}, "value": [1.5, "NaN"]})).unwrap().value.is_nan());
        assert_eq!(sample(&json!({"metric": {}})), None);
    }
}
