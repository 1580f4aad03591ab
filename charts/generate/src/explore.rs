//! Links into Grafana's Explore, from a metric to the traces behind it.

use serde_json::json;

/// URL of a TraceQL query for the dashboard's data source and time. Variables stay variables: Grafana fills them in.
pub fn url(query: &str) -> String {
    let pane = json!({
        "datasource": "${tempo}",
        "queries": [{"refId": "A", "queryType": "traceql", "query": variables(query)}],
        "range": {"from": "${__from}", "to": "${__to}"},
    });
    format!("/explore?schemaVersion=1&panes={}", encoded(&json!({ "traces": pane }).to_string()))
}

/// `$name` as `${name:pipe}`: the form that joins several values for a regular expression, and that ends where it should.
fn variables(query: &str) -> String {
    let mut parts = query.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
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
        assert_eq!(encoded(r#"{"a":"${tempo}"}"#), "%7B%22a%22%3A%22${tempo}%22%7D");
        assert_eq!(encoded("ä ${x:pipe}"), "%C3%A4%20${x:pipe}");
    }
}
