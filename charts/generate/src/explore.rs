//! Links into Grafana's Explore: from a metric to the traces behind it, and from a trace to its lines in the log.

use serde_json::{Value, json};

/// URL of a TraceQL query for the dashboard's data source and time. Variables stay variables: Grafana fills them in.
pub fn traces(query: &str) -> String {
    pane("tempo", &json!({"refId": "A", "queryType": "traceql", "query": variables(query)}))
}

/// URL of a LogQL query, the same way.
pub fn logs(query: &str) -> String {
    pane("loki", &json!({"refId": "A", "queryType": "range", "expr": variables(query)}))
}

fn pane(source: &str, query: &Value) -> String {
    let pane = json!({
        "datasource": format!("${{{source}}}"),
        "queries": [query],
        "range": {"from": "${__from}", "to": "${__to}"},
    });
    format!("/explore?schemaVersion=1&panes={}", encoded(&json!({ "a": pane }).to_string()))
}

/// `$name` as `${name:pipe}`: the form that joins several values for a regular expression, and that ends where it should. What
/// has braces already stays: a label of the clicked series, `${__field.labels.reason}`, has one value.
fn variables(query: &str) -> String {
    let mut parts = query.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if part.starts_with('{') {
            text.push_str(&format!("${part}"));
            continue;
        }
        let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(part.len());
        text.push_str(&format!("${{{}:pipe}}{}", &part[..end], &part[end..]));
    }
    text
}

/// Percent-encodes everything but letters, digits, `-_.~` and variables.
fn encoded(text: &str) -> String {
    let mut url = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let variable = rest.starts_with("${").then(|| rest.find('}')).flatten().map(|end| &rest[..=end]);
        let taken = variable.map_or(first.len_utf8(), str::len);
        match variable {
            Some(variable) => url.push_str(variable),
            None if first.is_ascii_alphanumeric() || "-_.~".contains(first) => url.push(first),
            None => rest[..taken].bytes().for_each(|byte| url.push_str(&format!("%{byte:02X}"))),
        }
        rest = &rest[taken..];
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stay_and_everything_else_is_encoded() {
        assert_eq!(variables(r#"a=~"$name" && b > $slow"#), r#"a=~"${name:pipe}" && b > ${slow:pipe}"#);
        assert_eq!(variables(r#"a="${__field.labels.reason}""#), r#"a="${__field.labels.reason}""#);
        assert_eq!(encoded(r#"{"a":"${tempo}"}"#), "%7B%22a%22%3A%22${tempo}%22%7D");
        assert_eq!(encoded("ä ${x:pipe}"), "%C3%A4%20${x:pipe}");
    }
}
