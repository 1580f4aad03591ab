//! The form that a request wants its answer in: OpenAI's `response_format`, vLLM's `structured_outputs` and its older
//! `guided_*` fields.

use serde_json::{Map, Value};

use super::super::error::ApiError;
use super::fields::{Fields, must_be};
use crate::text::grammar::Grammar;

/// The older names, and what the same is called within `structured_outputs`.
const GUIDED: [(&str, &str); 4] =
    [("guided_json", "json"), ("guided_regex", "regex"), ("guided_choice", "choice"), ("guided_grammar", "grammar")];

/// A form, and the field that asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// The field of the request.
    pub field: &'static str,
    /// What the answer must be.
    pub grammar: Grammar,
}

/// Takes the fields; at most one of them may ask for something.
pub fn take(fields: &mut Fields) -> Result<Option<Form>, ApiError> {
    let mut forms: Vec<Form> = Vec::new();
    let mut add = |field, grammar: Option<Grammar>| forms.extend(grammar.map(|grammar| Form { field, grammar }));
    add("response_format", fields.object("response_format")?.map(response_format).transpose()?.flatten());
    add("structured_outputs", fields.object("structured_outputs")?.map(structured_outputs).transpose()?.flatten());
    for (field, kind) in GUIDED {
        add(field, fields.take(field).map(|value| grammar(field, kind, value)).transpose()?);
    }
    match forms.as_slice() {
        [_, second, ..] => {
            let message = format!("'{}' and '{}' both ask for a form; send one of them", forms[0].field, second.field);
            Err(ApiError::invalid(second.field, message))
        }
        _ => Ok(forms.pop()),
    }
}

fn response_format(format: Map<String, Value>) -> Result<Option<Grammar>, ApiError> {
    let mut format = Fields::of(format);
    match format.text("type")?.as_deref() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Grammar::JsonObject)),
        Some("json_schema") => json_schema(format.take("json_schema")).map(Some),
        _ => Err(must_be("response_format", "an object whose 'type' is 'text', 'json_object' or 'json_schema'")),
    }
}

/// `strict` or not, the answer follows the schema.
fn json_schema(value: Option<Value>) -> Result<Grammar, ApiError> {
    const NAME: &str = "response_format.json_schema";
    let Some(Value::Object(mut schema)) = value else {
        return Err(must_be(NAME, "an object with 'name' and 'schema'"));
    };
    if schema.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(must_be("response_format.json_schema.name", "a string, not empty"));
    }
    match schema.remove("schema") {
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Grammar::JsonSchema(schema)),
        _ => Err(must_be("response_format.json_schema.schema", "a JSON schema, which is an object")),
    }
}

fn structured_outputs(object: Map<String, Value>) -> Result<Option<Grammar>, ApiError> {
    const NAME: &str = "structured_outputs";
    let mut fields = Fields::of(object);
    if fields.take("structural_tag").is_some() {
        return Err(ApiError::unsupported(
            NAME,
            "'structural_tag' is not supported; use 'json', 'regex', 'choice' or 'grammar'",
        ));
    }
    let mut grammars = Vec::new();
    for (_, kind) in GUIDED {
        grammars.extend(fields.take(kind).map(|value| grammar(NAME, kind, value)).transpose()?);
    }
    if fields.flag("json_object")? == Some(true) {
        grammars.push(Grammar::JsonObject);
    }
    match grammars.len() {
        1 => Ok(grammars.pop()),
        _ => Err(must_be(NAME, "an object with one of 'json', 'regex', 'choice', 'grammar' and 'json_object'")),
    }
}

fn grammar(field: &'static str, kind: &str, value: Value) -> Result<Grammar, ApiError> {
    match (kind, value) {
        ("json", schema @ Value::Object(_)) => Ok(Grammar::JsonSchema(schema)),
        ("json", Value::String(text)) => match serde_json::from_str(&text) {
            Ok(schema @ Value::Object(_)) => Ok(Grammar::JsonSchema(schema)),
            _ => Err(must_be(field, "a JSON schema, as an object or as its text")),
        },
        ("json", _) => Err(must_be(field, "a JSON schema, as an object or as its text")),
        ("choice", Value::Array(list)) if !list.is_empty() => {
            let text = |value| if let Value::String(text) = value { Some(text) } else { None };
            let texts: Option<Vec<String>> = list.into_iter().map(text).collect();
            let texts = texts.filter(|texts| texts.iter().all(|text| !text.is_empty()));
            texts.map(Grammar::Choice).ok_or_else(|| must_be(field, "an array of strings, none of them empty"))
        }
        ("choice", _) => Err(must_be(field, "an array of strings, none of them empty")),
        ("regex", Value::String(regex)) if !regex.is_empty() => Ok(Grammar::Regex(regex)),
        ("grammar", Value::String(lark)) if !lark.is_empty() => Ok(Grammar::Lark(lark)),
        ("regex", _) => Err(must_be(field, "a regular expression, as a string")),
        (_, _) => Err(must_be(field, "a grammar in Lark's notation, as a string")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(body: Value) -> Result<Option<Form>, ApiError> {
        take(&mut Fields::parse(body.to_string().as_bytes()).unwrap())
    }

    fn form(body: Value) -> (&'static str, Grammar) {
        let form = taken(body).unwrap().unwrap();
        (form.field, form.grammar)
    }

    fn param(body: Value) -> String {
        taken(body).unwrap_err().param.unwrap().into_owned()
    }

    #[test]
    fn every_way_to_ask_for_a_form_is_understood() {
        let schema = json!({"type": "object"});
        let json_schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
        assert_eq!(form(json!({"response_format": json_schema})), ("response_format", Grammar::JsonSchema(schema.clone())));
        assert_eq!(form(json!({"response_format": {"type": "json_object"}})).1, Grammar::JsonObject);
        assert_eq!(form(json!({"structured_outputs": {"json": schema}})).0, "structured_outputs");
        assert_eq!(form(json!({"structured_outputs": {"json_object": true}})).1, Grammar::JsonObject);
        assert_eq!(form(json!({"guided_json": schema.to_string()})), ("guided_json", Grammar::JsonSchema(schema)));
        assert_eq!(form(json!({"guided_choice": ["a", "b"]})).1, Grammar::Choice(vec!["a".into(), "b".into()]));
        assert_eq!(form(json!({"guided_regex": "a+"})).1, Grammar::Regex("a+".into()));
        assert_eq!(form(json!({"guided_grammar": "start: \"a\""})).1, Grammar::Lark("start: \"a\"".into()));
    }

    #[test]
    fn text_is_no_form() {
        assert_eq!(taken(json!({"response_format": {"type": "text"}, "guided_json": null})).unwrap(), None);
        assert_eq!(taken(json!({})).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (json!({"response_format": "json"}), "response_format"),
            (json!({"response_format": {"type": "xml"}}), "response_format"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}),
                "response_format.json_schema.name",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": []}}}),
                "response_format.json_schema.schema",
            ),
            (json!({"structured_outputs": {}}), "structured_outputs"),
            (json!({"structured_outputs": {"regex": "a", "choice": ["b"]}}), "structured_outputs"),
            (json!({"structured_outputs": {"structural_tag": "x"}}), "structured_outputs"),
            (json!({"guided_choice": []}), "guided_choice"),
            (json!({"guided_choice": ["a", 1]}), "guided_choice"),
            (json!({"guided_regex": ""}), "guided_regex"),
            (json!({"guided_json": "{"}), "guided_json"),
            (json!({"guided_regex": "a", "response_format": {"type": "json_object"}}), "guided_regex"),
        ];
        for (body, expected) in cases {
            assert_eq!(param(body.clone()), expected, "{body}");
        }
    }
}
