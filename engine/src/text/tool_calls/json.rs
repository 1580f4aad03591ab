//! JSON that is not complete yet: the beginning of a call, and where an object ends.

use serde_json::Value;

/// What the beginning of an object says of it.
#[derive(Debug, PartialEq)]
pub enum Head {
    /// Too short to say.
    Incomplete,
    /// It is a call: its name comes first, and then the arguments, an object that begins at this byte.
    Call {
        /// The function.
        name: String,
        /// Where `{` of the arguments stands.
        arguments: usize,
    },
    /// Something else; it may yet be a call once it is complete.
    Other,
}

/// Reads `{"name": "...", "arguments": {` or the same with `parameters`.
pub fn head(text: &str) -> Head {
    match read_head(text) {
        Ok((name, arguments)) if !name.is_empty() => Head::Call { name, arguments },
        Ok(_) | Err(Some(Mismatch)) => Head::Other,
        Err(None) => Head::Incomplete,
    }
}

/// It is not what was expected, whatever follows.
struct Mismatch;

fn read_head(text: &str) -> Result<(String, usize), Option<Mismatch>> {
    let rest = &mut { text };
    expect(rest, "{")?;
    expect(rest, "\"name\"")?;
    expect(rest, ":")?;
    let name = string(rest)?;
    expect(rest, ",")?;
    match expect(rest, "\"arguments\"") {
        Err(Some(Mismatch)) => expect(rest, "\"parameters\"")?,
        other => other?,
    }
    expect(rest, ":")?;
    skip(rest);
    match rest.chars().next() {
        Some('{') => Ok((name, text.len() - rest.len())),
        Some(_) => Err(Some(Mismatch)),
        None => Err(None),
    }
}

fn skip(rest: &mut &str) {
    *rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
}

fn expect(rest: &mut &str, word: &str) -> Result<(), Option<Mismatch>> {
    skip(rest);
    match rest.strip_prefix(word) {
        Some(behind) => {
            *rest = behind;
            Ok(())
        }
        None if word.starts_with(*rest) => Err(None),
        None => Err(Some(Mismatch)),
    }
}

fn string(rest: &mut &str) -> Result<String, Option<Mismatch>> {
    expect(rest, "\"")?;
    let mut escaped = false;
    let end = rest.bytes().position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    });
    let end = end.ok_or(None)?;
    let string = serde_json::from_str(&format!("\"{}\"", &rest[..end])).map_err(|_| Some(Mismatch))?;
    *rest = &rest[end + 1..];
    Ok(string)
}

/// The name and the arguments of a complete object, if it is a call.
pub fn call(object: &str) -> Option<(String, String)> {
    let mut object: serde_json::Map<String, Value> = serde_json::from_str(object).ok()?;
    let name = object.get("name")?.as_str().filter(|name| !name.is_empty())?.to_owned();
    let arguments = match object.remove("arguments").or_else(|| object.remove("parameters"))? {
        // Some models write the object as a string.
        Value::String(text) if serde_json::from_str::<serde_json::Map<String, Value>>(&text).is_ok() => text,
        Value::Null => "{}".to_owned(),
        Value::Object(arguments) => Value::Object(arguments).to_string(),
        _ => return None,
    };
    Some((name, arguments))
}

/// Looks for the end of an object in text that comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct ObjectEnd {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl ObjectEnd {
    /// Begins inside the object, behind its `{`.
    pub fn inside() -> Self {
        Self { depth: 1, ..Self::default() }
    }

    /// Takes the next piece; the byte behind the object's end, if it is in this piece.
    pub fn find(&mut self, piece: &str) -> Option<usize> {
        for (at, byte) in piece.bytes().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_call_as_soon_as_its_arguments_begin() {
        let text = r#" { "name" : "say \"hi\"" ,"parameters": {"#;
        assert_eq!(head(text), Head::Call { name: "say \"hi\"".into(), arguments: text.len() - 1 });
        for cut in 0..text.len() {
            assert_eq!(head(&text[..cut]), Head::Incomplete, "{}", &text[..cut]);
        }
    }

    #[test]
    fn other_orders_and_other_objects_wait_for_their_end() {
        for text in
            [r#"{"arguments""#, "[", r#"{"name": 1"#, r#"{"name": "a", "arguments": "x"#, r#"{"name": "", "arguments": {"#]
        {
            assert_eq!(head(text), Head::Other, "{text}");
        }
    }

    #[test]
    fn a_complete_object_is_a_call_whatever_its_order() {
        let call = |object: &str| call(object).map(|(name, arguments)| format!("{name}({arguments})"));
        assert_eq!(call(r#"{"arguments": {"b": 1, "a": 2}, "name": "f"}"#).unwrap(), r#"f({"b":1,"a":2})"#);
        assert_eq!(call(r#"{"name": "f", "arguments": "{\"a\": 1}"}"#).unwrap(), r#"f({"a": 1})"#);
        assert_eq!(call(r#"{"name": "f", "parameters": null}"#).unwrap(), "f({})");
        for none in [r#"{"name": "f"}"#, r#"{"arguments": {}}"#, r#"{"name": "f", "arguments": [1]}"#, "{,}"] {
            assert_eq!(call(none), None, "{none}");
        }
    }

    #[test]
    fn braces_in_strings_do_not_end_an_object() {
        let text = r#"{"a": "}\"}", "b": [{}]}, x"#;
        assert_eq!(ObjectEnd::default().find(text), Some(text.len() - 3));
        let mut end = ObjectEnd::default();
        assert_eq!(
            text.char_indices().find_map(|(at, c)| end.find(c.encode_utf8(&mut [0; 4])).map(|_| at + 1)),
            Some(text.len() - 3)
        );
    }
}
