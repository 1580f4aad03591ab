//! Reads the collector's log lines for errors, and removes credentials from them. Pure.
//!
//! The reason why a destination gets nothing is in no metric: it is a field `error` of a line that may be of level info
//! ("Exporting failed. Will retry the request after interval."). A configuration that cannot be used is said in plain text.

use serde_json::Value;

/// Longest text that is remembered, bytes.
const LONGEST: usize = 1024;

/// Message of an exporter whose next hop answered with a success and threw spans away.
const PARTIAL_SUCCESS: &str = "Partial success";

/// All that gRPC says of an endpoint whose name cannot be resolved.
const UNRESOLVED: &str = "no children to pick from";

/// An error that the collector told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Name of the component that it is about, `otlp_grpc/tempo-01234567` for instance.
    pub component: Option<String>,
    /// What went wrong, for people.
    pub text: String,
    /// Spans that were given up with it; the collector's metrics count them as failed as long as it runs.
    pub dropped_spans: u64,
    /// Spans that the next hop took and threw away; the collector's metrics count them as sent.
    pub rejected_spans: u64,
}

/// Reads lines in their order; plain text that explains an error goes over several.
#[derive(Debug, Default)]
pub struct Reader {
    plain: Option<String>,
}

impl Reader {
    /// The error that a line tells of, together with the plain lines before it that began to tell of it.
    pub fn read(&mut self, line: &str) -> Option<Complaint> {
        if let Ok(Value::Object(fields)) = serde_json::from_str(line) {
            self.plain = None;
            return structured(&fields);
        }
        let line = line.trim();
        if let Some(plain) = self.plain.as_mut().filter(|_| !line.is_empty()) {
            plain.push(' ');
            plain.push_str(line);
        } else if let Some(error) = line.strip_prefix("Error: ") {
            self.plain = Some(error.to_owned());
        } else if line.starts_with("panic: ") || line.starts_with("fatal error: ") {
            return Some(Complaint::plain(line));
        } else {
            return None;
        }
        self.plain.as_deref().map(Complaint::plain)
    }
}

impl Complaint {
    fn plain(text: &str) -> Self {
        Self { component: None, text: bounded(text), dropped_spans: 0, rejected_spans: 0 }
    }
}

/// Reads a line of zap's JSON encoder.
fn structured(fields: &serde_json::Map<String, Value>) -> Option<Complaint> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let severe = matches!(text("level"), Some("error" | "dpanic" | "panic" | "fatal"));
    let message = text("msg").unwrap_or_default().trim_end_matches('.');
    let is_partial = message.starts_with(PARTIAL_SUCCESS);
    let error = if is_partial { text("message") } else { text("error") };
    if !severe && !is_partial && error.is_none() {
        return None;
    }
    let mut told = error.map_or_else(|| message.to_owned(), |error| format!("{message}: {error}"));
    if told.ends_with(UNRESOLVED) {
        told.push_str(" (the name of the endpoint has no address)");
    }
    let of_spans = text("otelcol.signal").is_none_or(|signal| signal == "traces");
    let count = |key: &str| fields.get(key).and_then(Value::as_u64).filter(|_| of_spans).unwrap_or(0);
    Some(Complaint {
        component: text("otelcol.component.id").or_else(|| text("id")).map(str::to_owned),
        text: bounded(&told),
        dropped_spans: count("dropped_items"),
        rejected_spans: count("dropped_spans"),
    })
}

/// Cuts a text at [`LONGEST`], between two characters.
pub fn bounded(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// Replaces credentials in texts.
#[derive(Clone, Default)]
pub struct Scrubber {
    secrets: Vec<String>,
}

impl Scrubber {
    /// Shortest credential that is looked for as a whole: a shorter one would tear ordinary words.
    const SHORTEST: usize = 4;
    /// Shortest word of a credential that is looked for alone (`Bearer WORD`, a line of a key).
    const SHORTEST_WORD: usize = 8;

    /// Makes one for these values, white space around them aside.
    pub fn new(values: Vec<String>) -> Self {
        let mut secrets: Vec<String> = Vec::new();
        for value in &values {
            let value = value.trim();
            let words = value.split_whitespace().filter(|word| word.len() >= Self::SHORTEST_WORD);
            let whole = Some(value).filter(|value| value.len() >= Self::SHORTEST);
            for secret in whole.into_iter().chain(words) {
                secrets.push(secret.to_owned());
                // As it looks inside a JSON string or a quoted Go string.
                let quoted = Value::from(secret).to_string();
                secrets.push(quoted[1..quoted.len() - 1].to_owned());
            }
        }
        // The longest first, or a part would hide the whole.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// The text without any of the credentials.
    pub fn scrub(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), "***") } else { text }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<Complaint> {
        let mut reader = Reader::default();
        lines.iter().filter_map(|line| reader.read(line)).last()
    }

    #[test]
    fn a_retry_at_level_info_is_an_error_of_its_exporter() {
        let line = r#"{"level":"info","msg":"Exporting failed. Will retry the request after interval.","otelcol.component.id":"otlp_grpc/dead-01234567","otelcol.signal":"traces","error":"connection refused","interval":"6s"}"#;
        let complaint = read(&[line]).unwrap();
        assert_eq!(complaint.component.as_deref(), Some("otlp_grpc/dead-01234567"));
        assert_eq!(complaint.text, "Exporting failed. Will retry the request after interval: connection refused");
        assert_eq!(complaint.dropped_spans, 0);
    }

    #[test]
    fn dropped_spans_are_counted_and_metric_points_are_not() {
        let line = |signal: &str| {
            format!(
                r#"{{"level":"error","msg":"Exporting failed. Dropping data.","otelcol.component.id":"otlp_grpc/dead-01234567","otelcol.signal":"{signal}","error":"interrupted due to shutdown","dropped_items":7}}"#
            )
        };
        assert_eq!(read(&[&line("traces")]).unwrap().dropped_spans, 7);
        assert_eq!(read(&[&line("metrics")]).unwrap().dropped_spans, 0);
    }

    #[test]
    fn a_partial_success_is_an_error_with_its_spans() {
        let line = r#"{"level":"warn","msg":"Partial success response","otelcol.component.id":"otlp_grpc/tempo-01234567","otelcol.signal":"traces","message":"trace too large","dropped_spans":4}"#;
        let complaint = read(&[line]).unwrap();
        assert_eq!(complaint.text, "Partial success response: trace too large");
        assert_eq!((complaint.dropped_spans, complaint.rejected_spans), (0, 4));
    }

    #[test]
    fn an_ordinary_line_is_no_error() {
        assert_eq!(read(&[r#"{"level":"info","msg":"Everything is ready."}"#]), None);
        assert_eq!(read(&[r#"{"level":"warn","msg":"connection refused, says gRPC","grpc_log":true}"#]), None);
        assert_eq!(read(&["hello", ""]), None);
    }

    #[test]
    fn a_refused_configuration_is_told_over_several_lines() {
        let lines = [
            "Error: failed to get config: decoding failed due to the following error(s):",
            "",
            "'receivers' unknown type: \"nope\"",
        ];
        let text = "failed to get config: decoding failed due to the following error(s): 'receivers' unknown type: \"nope\"";
        assert_eq!(read(&lines).unwrap().text, text);
    }

    #[test]
    fn a_name_without_an_address_is_told_as_such() {
        let line = r#"{"level":"info","msg":"Exporting failed.","error":"rpc error: code = Unavailable desc = no children to pick from"}"#;
        let text = read(&[line]).unwrap().text;
        assert!(text.ends_with("no children to pick from (the name of the endpoint has no address)"), "{text}");
    }

    #[test]
    fn a_panic_is_told_without_its_stack() {
        assert_eq!(read(&["panic: boom", "", "goroutine 1 [running]:"]).unwrap().text, "panic: boom");
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let text = bounded(&"é".repeat(LONGEST));
        assert_eq!(text.len(), LONGEST + 3);
        assert!(text.ends_with("é..."));
    }

    #[test]
    fn credentials_are_removed_whole_and_in_part() {
        let scrubber = Scrubber::new(vec!["Bearer 0123456789\n".into(), "say \"sesame\"".into()]);
        assert_eq!(scrubber.scrub("header 'Bearer 0123456789' refused"), "header '***' refused");
        assert_eq!(scrubber.scrub("token 0123456789 refused"), "token *** refused");
        assert_eq!(scrubber.scrub(r#"{"error":"say \"sesame\""}"#), r#"{"error":"***"}"#);
        assert_eq!(scrubber.scrub("nothing to hide"), "nothing to hide");
    }

    #[test]
    fn a_credential_too_short_to_be_one_tears_no_words() {
        assert_eq!(Scrubber::new(vec!["a".into()]).scrub("a bad day"), "a bad day");
    }
}
