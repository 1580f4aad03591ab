//! The `OTEL_*` variables as the specification reads them: an empty value counts as unset, and a wrong one is warned of and
//! counts as unset too. Pure: the environment is an argument, and the warnings are kept for whoever has a log.

use std::cell::RefCell;
use std::time::Duration;

/// What tells the value of a variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// An environment, and what was found wrong in it.
pub struct Environment<'a> {
    lookup: Lookup<'a>,
    warnings: RefCell<Vec<String>>,
}

impl<'a> Environment<'a> {
    /// Reads from `lookup`.
    pub fn new(lookup: Lookup<'a>) -> Self {
        Self { lookup, warnings: RefCell::default() }
    }

    /// A variable's value without the space around it; `None` where it is unset or empty.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The first of `names` that is set, with its value.
    pub fn first(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// The first of `names` with a right value; a wrong one is warned of with what was `expected`.
    pub fn parsed<T>(&self, names: &[&str], expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        names.iter().find_map(|name| {
            let value = self.get(name)?;
            let parsed = parse(&value);
            if parsed.is_none() {
                self.warn(format!("{name} is '{value}', which counts as unset: write {expected}"));
            }
            parsed
        })
    }

    /// A duration in whole milliseconds.
    pub fn milliseconds(&self, names: &[&str]) -> Option<Duration> {
        self.parsed(names, "a whole number of milliseconds", |value| value.parse().ok().map(Duration::from_millis))
    }

    /// A count.
    pub fn count(&self, names: &[&str]) -> Option<usize> {
        self.parsed(names, "a whole number", |value| value.parse().ok())
    }

    /// A truth value; only `true`, in any case, is true.
    pub fn truth(&self, names: &[&str]) -> Option<bool> {
        let parse = |value: &str| match value.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        self.parsed(names, "'true' or 'false'", parse)
    }

    /// Notes something for the log; a later equal one is the same.
    pub fn warn(&self, warning: String) {
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// What was found wrong.
    pub fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner()
    }
}

/// Decodes `%41`; what is no valid escape stays as it is, what is no UTF-8 becomes U+FFFD.
pub fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(pairs: &[(&str, &str)], body: impl Fn(&Environment<'_>) -> T) -> (T, Vec<String>) {
        let lookup = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let environment = Environment::new(&lookup);
        (body(&environment), environment.into_warnings())
    }

    #[test]
    fn an_empty_value_counts_as_unset() {
        let (first, warnings) = read(&[("A", " "), ("B", " x ")], |env| env.first(&["A", "B"]));
        assert_eq!((first, warnings), (Some(("B", "x".to_owned())), vec![]));
    }

    #[test]
    fn a_wrong_value_is_warned_of_once_and_counts_as_unset() {
        let wrong = [("A", "1s"), ("B", "20")];
        let (delay, warnings) = read(&wrong, |env| [env.milliseconds(&["A", "B"]), env.milliseconds(&["A"])]);
        assert_eq!(delay, [Some(Duration::from_millis(20)), None]);
        assert_eq!(warnings, ["A is '1s', which counts as unset: write a whole number of milliseconds"]);
    }

    #[test]
    fn only_true_is_true() {
        let pairs = [("A", "TRUE"), ("B", "false"), ("C", "1")];
        let (truths, warnings) = read(&pairs, |env| ["A", "B", "C"].map(|name| env.truth(&[name])));
        assert_eq!(truths, [Some(true), Some(false), None]);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn escapes_are_decoded_and_what_is_none_stays() {
        assert_eq!(percent_decode("x%2Cy%3Dz Gr%C3%BC%C3%9Fe 100% %zz"), "x,y=z Grüße 100% %zz");
    }
}
