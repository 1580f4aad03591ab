//! JSON in templates as Python has it: objects keep the order of their keys, and `tojson` writes what `json.dumps` writes.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// A JSON value for a template. minijinja's own conversion sorts the keys of objects, which changes what a model reads.
pub fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Object(object) => {
            let keys: Vec<Value> = object.keys().map(Value::from).collect();
            let values = object.iter().map(|(key, value)| (key.clone(), value_of(value))).collect();
            Value::from_object(JsonObject { keys, values })
        }
        serde_json::Value::Array(list) => list.iter().map(value_of).collect(),
        serde_json::Value::Null => Value::from(()),
        scalar => Value::from_serialize(scalar),
    }
}

/// An object with its keys in the order in which they were written.
#[derive(Debug)]
struct JsonObject {
    keys: Vec<Value>,
    values: HashMap<String, Value>,
}

impl Object for JsonObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.values.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.keys.clone())
    }
}

/// The filter `tojson` with the arguments that Hugging Face's has: Python's `json.dumps`, without its escapes for HTML and,
/// unless asked for, without those for letters beyond ASCII.
pub fn tojson(value: &Value, ensure_ascii: Option<bool>, indent: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let given = |name: &str| named.get::<Option<Value>>(name).map(|value| value.filter(|value| !value.is_none()));
    let indent = indent_of(if indent.is_some() { indent } else { given("indent")? })?;
    let separators = given("separators")?;
    let between = match &indent {
        Some(_) => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let (item, key) = separators.map_or(Ok(between), separators_of)?;
    let flag = |name: &str| named.get::<Option<bool>>(name).map(Option::unwrap_or_default);
    let ensure_ascii = if let Some(given) = ensure_ascii { given } else { flag("ensure_ascii")? };
    let sort_keys = flag("sort_keys")?;
    named.assert_all_used()?;
    let mut writer = Writer { out: String::new(), ensure_ascii, indent, item, key, sort_keys };
    writer.value(value, 0)?;
    Ok(Value::from_safe_string(writer.out))
}

fn indent_of(value: Option<Value>) -> Result<Option<String>, Error> {
    let Some(value) = value else { return Ok(None) };
    if let Some(text) = value.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let spaces = usize::try_from(value).ok().filter(|spaces| *spaces <= 64);
    spaces.map(|spaces| Some(" ".repeat(spaces))).ok_or_else(|| wrong("tojson: 'indent' is a string or a number up to 64"))
}

fn separators_of(value: Value) -> Result<(String, String), Error> {
    let at = |index: usize| value.get_item_by_index(index).ok().and_then(|text| text.as_str().map(str::to_owned));
    at(0).zip(at(1)).ok_or_else(|| wrong("tojson: 'separators' is a pair of strings"))
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// `json.dumps` in the making.
struct Writer {
    out: String,
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => self.object(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            kind => return Err(wrong(format!("a value of the kind {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut items = value.try_iter()?.peekable();
        if items.peek().is_none() {
            self.out.push_str("[]");
            return Ok(());
        }
        self.out.push('[');
        for (index, item) in items.enumerate() {
            self.next(index, depth + 1);
            self.value(&item, depth + 1)?;
        }
        self.line(depth);
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if keys.is_empty() {
            self.out.push_str("{}");
            return Ok(());
        }
        if self.sort_keys {
            keys.sort();
        }
        self.out.push('{');
        for (index, key) in keys.into_iter().enumerate() {
            self.next(index, depth + 1);
            self.string(&key_text(&key)?);
            self.out.push_str(&self.key);
            self.value(&value.get_item(&key)?, depth + 1)?;
        }
        self.line(depth);
        self.out.push('}');
        Ok(())
    }

    fn next(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out.push_str(&self.item);
        }
        self.line(depth);
    }

    /// A new line, if the text is indented.
    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn number(&mut self, value: &Value) {
        match f64::try_from(value.clone()) {
            Ok(number) if !value.is_integer() => self.out.push_str(&float_repr(number)),
            _ => self.out.push_str(&value.to_string()),
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && c > '~') => self.escape(c),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String does not fail.
            write!(self.out, "\\u{unit:04x}").ok();
        }
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number => Ok(key.to_string()),
        kind => Err(wrong(format!("a key of the kind {kind} is not JSON serializable"))),
    }
}

/// `repr(float)`: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e16 on.
fn float_repr(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{number:?}"),
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::*;

    fn render(template: &str, json: &str) -> String {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let value = value_of(&serde_json::from_str(json).unwrap());
        environment.render_str(template, context! { x => value }).unwrap()
    }

    // The expected texts are those of Python 3.12's json.dumps(x, ensure_ascii=False, ...).
    #[test]
    fn tojson_writes_what_json_dumps_writes() {
        let json = r#"{"z": 1, "a": [true, null, 1.0, 1e16, 1e-5, 0.0001, "<é'&\u0007\u007f"], "e": {}, "l": []}"#;
        let plain = "{\"z\": 1, \"a\": [true, null, 1.0, 1e+16, 1e-05, 0.0001, \"<é'&\\u0007\u{7f}\"], \"e\": {}, \"l\": []}";
        assert_eq!(render("{{ x | tojson }}", json), plain);
        let json = r#"{"b": [1, {"c": "é😀"}], "a": -2}"#;
        let cases = [
            ("{{ x | tojson(indent=2) }}", "{\n  \"b\": [\n    1,\n    {\n      \"c\": \"é😀\"\n    }\n  ],\n  \"a\": -2\n}"),
            ("{{ x | tojson(separators=(',', ':')) }}", r#"{"b":[1,{"c":"é😀"}],"a":-2}"#),
            ("{{ x | tojson(sort_keys=True) }}", r#"{"a": -2, "b": [1, {"c": "é😀"}]}"#),
            ("{{ x | tojson(ensure_ascii=true) }}", r#"{"b": [1, {"c": "\u00e9\ud83d\ude00"}], "a": -2}"#),
            ("{{ x.b | tojson(indent='\t', ensure_ascii=False) }}", "[\n\t1,\n\t{\n\t\t\"c\": \"é😀\"\n\t}\n]"),
            ("{{ x | tojson(none) }}", r#"{"b": [1, {"c": "é😀"}], "a": -2}"#),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template, json), expected, "{template}");
        }
    }

    #[test]
    fn an_object_behaves_like_a_dictionary() {
        let template = "{{ x.b }} {{ x['a'] }} {{ x.c is defined }} {{ 'a' in x }} {{ x | length }} {{ x is mapping }} \
            {% for k, v in x | items %}{{ k }}={{ v }};{% endfor %}";
        assert_eq!(render(template, r#"{"b": 1, "a": "y"}"#), "1 y False True 2 True b=1;a=y;");
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        assert!(environment.render_str("{{ nothing | tojson }}", ()).is_err());
        assert!(environment.render_str("{{ 1 | tojson(colour=1) }}", ()).is_err());
    }
}
