//! Jinja as Hugging Face's `apply_chat_template` sets it up: trimmed blocks, Python's methods, `raise_exception`,
//! `strftime_now`, `tojson`, and the markers `{% generation %}`, which say nothing to an engine.

use std::fmt::Write;

use minijinja::value::{Value, from_args};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use super::python_json::tojson;

/// Marks errors that the template raised itself.
const RAISED: &str = "raise_exception: ";

/// An environment for chat templates.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", strftime_now);
    environment
}

/// What the template said when it raised the error itself, also from within a macro.
pub fn raised(error: &Error) -> Option<&str> {
    let mut error: &(dyn std::error::Error + 'static) = error;
    loop {
        let message = error.downcast_ref::<Error>().and_then(Error::detail).and_then(|detail| detail.strip_prefix(RAISED));
        if message.is_some() {
            return message;
        }
        error = error.source()?;
    }
}

/// The local time in a form of `strftime`.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    match write!(text, "{}", chrono::Local::now().format(format)) {
        Ok(()) => Ok(text),
        Err(_) => Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now: '{format}' is no form of strftime"))),
    }
}

/// Python's methods: minijinja's own, and a few that templates use and it lacks.
fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match pycompat::unknown_method_callback(state, value, name, args) {
        Err(error) if error.kind() == ErrorKind::UnknownMethod => {
            let Some(text) = value.as_str() else { return Err(error) };
            text_method(text, name, args).unwrap_or(Err(error))
        }
        result => result,
    }
}

fn text_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let one = || from_args::<(&str,)>(args).map(|(argument,)| argument);
    Some(match name {
        "removeprefix" => one().map(|prefix| text.strip_prefix(prefix).unwrap_or(text).into()),
        "removesuffix" => one().map(|suffix| text.strip_suffix(suffix).unwrap_or(text).into()),
        "isdigit" => from_args::<()>(args).map(|()| (!text.is_empty() && text.chars().all(char::is_numeric)).into()),
        "partition" => one().map(|by| parts(text.split_once(by), by, [text, "", ""])),
        "rpartition" => one().map(|by| parts(text.rsplit_once(by), by, ["", "", text])),
        _ => return None,
    })
}

fn parts(split: Option<(&str, &str)>, by: &str, whole: [&str; 3]) -> Value {
    let parts = split.map_or(whole, |(before, after)| [before, by, after]);
    parts.into_iter().map(Value::from).collect()
}

/// The template with the markers of `{% generation %}` blocks turned into blocks that are always taken: they trim the white
/// space around them as the markers do, and every line keeps its number.
pub fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let word_at = tag.len() - tag.trim_start_matches(['-', '+']).trim_start().len();
        let word = tag.get(word_at..).unwrap_or_default();
        let length = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(word.len());
        let replacement = match &word[..length] {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        let consumed = match replacement {
            Some(replacement) => {
                out.push_str(&tag[..word_at]);
                out.push_str(replacement);
                word_at + length
            }
            None => 0,
        };
        rest = &tag[consumed..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, Error> {
        environment().render_str(&without_generation_marks(template), ())
    }

    #[test]
    fn generation_blocks_are_rendered_and_trim_as_they_say() {
        assert_eq!(render("a {%- generation %} b {% endgeneration -%} c").unwrap(), "a b c");
        assert_eq!(render("{%generation%}b{%endgeneration%}").unwrap(), "b");
        assert_eq!(without_generation_marks("{% if generations %}{% 世"), "{% if generations %}{% 世");
    }

    #[test]
    fn python_methods_that_minijinja_lacks_are_there() {
        let template = "{{ 'abc'.removeprefix('a').removesuffix('c') }} {{ '12'.isdigit() }} {{ 'a=b=c'.partition('=') | join('|') }} \
            {{ 'a=b=c'.rpartition('=') | join('|') }} {{ 'x'.partition('=')[0] }} {{ ' y '.strip() }}";
        assert_eq!(render(template).unwrap(), "b True a|=|b=c a=b|=|c x y");
        assert!(render("{{ 'x'.frobnicate() }}").is_err());
    }

    #[test]
    fn the_time_is_written_as_asked_and_a_wrong_form_is_an_error() {
        let year = render("{{ strftime_now('%Y') }}").unwrap();
        assert!(year.len() == 4 && year.parse::<u32>().is_ok(), "{year}");
        assert!(render("{{ strftime_now('%!') }}").is_err());
    }

    #[test]
    fn what_a_macro_raises_is_found() {
        let error = render("{% macro m() %}{{ raise_exception('no') }}{% endmacro %}{{ m() }}").unwrap_err();
        assert_eq!(raised(&error), Some("no"));
        assert_eq!(raised(&render("{{ 1 + 'a' }}").unwrap_err()), None);
    }
}
