//! Templates of well-known families render as Python's Jinja renders them: `templates/expected.py` says how the expected
//! prompts were made.

use std::path::Path;

use serde_json::Value;

use super::super::TextError;
use super::super::template::{ChatOptions, ChatTemplate};

/// The rendered prompt, or what the template refused the messages with.
fn outcome(template: &ChatTemplate, case: &Value) -> Result<String, String> {
    let mut extra = case.as_object().unwrap().clone();
    let messages = extra.remove("messages").unwrap();
    let options = ChatOptions {
        add_generation_prompt: extra.remove("add_generation_prompt").unwrap().as_bool().unwrap(),
        continue_final_message: false,
        tools: extra.remove("tools"),
        extra,
    };
    match template.render(messages.as_array().unwrap(), &options) {
        Err(TextError::Rejected(message)) => Err(message),
        result => Ok(result.unwrap()),
    }
}

#[test]
fn well_known_templates_render_as_in_python() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/text/tests/templates");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let cases: Value = serde_json::from_str(&read("cases.json")).unwrap();
    let expected: Value = serde_json::from_str(&read("expected.json")).unwrap();
    let mut wrong = Vec::new();
    for (name, expected) in expected.as_object().unwrap() {
        let template = ChatTemplate::compile(read(&format!("{name}.jinja")), "<s>".into(), "</s>".into()).unwrap();
        template.try_out().unwrap();
        for (case, expected) in expected.as_object().unwrap() {
            let expected = match expected["prompt"].as_str() {
                Some(prompt) => Ok(prompt.to_owned()),
                None => Err(expected["rejected"].as_str().unwrap().to_owned()),
            };
            let outcome = outcome(&template, &cases[case]);
            if outcome != expected {
                wrong.push(format!("{name}, {case}:\n  {outcome:?}\n  {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
