use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const HERMES: Framing = Framing::Format(ToolCallFormat::Hermes);
const LLAMA: Framing = Framing::Format(ToolCallFormat::Llama3Json);

/// Content and calls of a text that comes in these pieces.
fn parse<'a>(framing: &Framing, parallel: bool, pieces: impl IntoIterator<Item = &'a str>) -> (String, Vec<(String, String)>) {
    let mut parser = ToolCallParser::new(framing.clone(), parallel);
    let mut whole = Parsed::default();
    let mut add = |parsed: Parsed| {
        whole.text.push_str(&parsed.text);
        CallDelta::append(&mut whole.calls, parsed.calls);
    };
    pieces.into_iter().for_each(|piece| add(parser.push(piece)));
    add(parser.finish());
    let indices: Vec<u32> = whole.calls.iter().map(|call| call.index).collect();
    assert_eq!(indices, (0..whole.calls.len() as u32).collect::<Vec<_>>());
    (whole.text, whole.calls.into_iter().map(|call| (call.name.unwrap(), call.arguments)).collect())
}

fn whole(framing: &Framing, text: &str) -> (String, Vec<(String, String)>) {
    parse(framing, true, [text])
}

fn call(name: &str, arguments: &str) -> (String, String) {
    (name.to_owned(), arguments.to_owned())
}

#[test]
fn hermes_calls_stand_between_tags_anywhere() {
    let text = "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call>\"}}\n</tool_call>\n\
        <tool_call>{\"arguments\": {}, \"name\": \"g\"}</tool_call>\n";
    let expected = vec![call("f", "{\"a\": \"</tool_call>\"}"), call("g", "{}")];
    assert_eq!(whole(&HERMES, text), ("Let me see.".to_owned(), expected));
}

#[test]
fn llama_calls_are_the_whole_text() {
    let text = "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"type\": \"function\", \"name\": \"g\", \"parameters\": {}}";
    assert_eq!(whole(&LLAMA, text), (String::new(), vec![call("f", "{\"a\": 1}"), call("g", "{}")]));
    for prose in ["The name is {\"name\": \"f\", \"parameters\": {}}", "{\"answer\": 42} is it", " \n", "<|python_tag|>f(1)"] {
        assert_eq!(whole(&LLAMA, prose), (prose.to_owned(), Vec::new()));
    }
}

#[test]
fn what_a_grammar_made_is_an_array_of_calls_or_arguments() {
    let array = r#"[{"name": "f", "arguments": {"a": [1]}}, {"name": "g", "arguments": {}}]"#;
    assert_eq!(whole(&Framing::Array, array), (String::new(), vec![call("f", "{\"a\": [1]}"), call("g", "{}")]));
    let arguments = Framing::Arguments("f".to_owned());
    assert_eq!(whole(&arguments, "{\"a\": {}} "), (String::new(), vec![call("f", "{\"a\": {}}")]));
}

#[test]
fn what_only_looks_like_a_call_is_content() {
    for text in [
        "a < b, <tool_calls>, <tool_call",
        "<tool_call>soon</tool_call>",
        "<tool_call>{\"name\": 1}</tool_call> and so on ",
        "<tool_call>\n{\"name\": \"f\", \"argum",
        "<tool_call> ",
    ] {
        assert_eq!(whole(&HERMES, text), (text.to_owned(), Vec::new()));
    }
}

#[test]
fn arguments_that_were_cut_off_are_a_call_as_far_as_they_came() {
    let text = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"long";
    assert_eq!(whole(&HERMES, text), (String::new(), vec![call("f", "{\"a\": \"long")]));
}

#[test]
fn without_parallel_calls_the_first_one_counts() {
    let text = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call><tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>";
    assert_eq!(parse(&HERMES, false, [text]).1, [call("f", "{}")]);
}

#[test]
fn arguments_are_passed_on_as_they_come() {
    let mut parser = ToolCallParser::new(HERMES, true);
    assert_eq!(parser.push("Hm <tool_call>{\"name\": \"f\", \"arg"), Parsed { text: "Hm".to_owned(), calls: Vec::new() });
    let delta = |name: Option<&str>, arguments: &str| {
        vec![CallDelta { index: 0, name: name.map(str::to_owned), arguments: arguments.to_owned() }]
    };
    assert_eq!(parser.push("uments\": {\"a").calls, delta(Some("f"), "{\"a"));
    assert_eq!(parser.push("\": 1").calls, delta(None, "\": 1"));
    assert_eq!(parser.push("}}</tool").calls, delta(None, "}"));
    assert_eq!(parser.push("_call>"), Parsed::default());
    assert_eq!(parser.finish(), Parsed::default());
}

#[test]
fn the_format_is_read_from_the_template() {
    let of = ToolCallFormat::of_template;
    assert_eq!(of("... return a json object within <tool_call></tool_call> tags"), Some(ToolCallFormat::Hermes));
    assert_eq!(of("{{ '<|python_tag|>' }}"), Some(ToolCallFormat::Llama3Json));
    assert_eq!(of("<tool_call>\n<function=name>"), None);
    assert_eq!(of("<|im_start|>"), None);
}

fn arguments() -> impl Strategy<Value = Value> {
    let text = "[a-z{}\\[\\]\"\\\\<>/ é\n]{0,8}";
    prop::collection::vec((text, text), 0..4).prop_map(|pairs| {
        let pairs = pairs.into_iter().map(|(key, value)| (key, json!([value, {"n": 1}])));
        Value::Object(pairs.collect())
    })
}

#[derive(Debug, Clone)]
enum Part {
    Content(String),
    Call(String, Value),
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let content = "[a-z<>{\"é]{1,3}[ \n]?[a-z{}<é]{1,5}";
    let part = prop_oneof![
        content.prop_map(Part::Content),
        ("[a-z_]{1,6}", arguments()).prop_map(|(name, arguments)| Part::Call(name, arguments)),
    ];
    prop::collection::vec(part, 0..5)
}

/// Cuts a text behind the characters that `cuts` names.
fn cut<'a>(text: &'a str, cuts: &[prop::sample::Index]) -> Vec<&'a str> {
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let mut at: Vec<usize> = cuts.iter().map(|index| boundaries[index.index(boundaries.len())]).collect();
    at.extend([0, text.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn whatever_the_cuts_hermes_calls_and_content_come_out_as_they_were_written(
        parts in parts(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)
    ) {
        let (mut text, mut content, mut calls) = (String::new(), String::new(), Vec::new());
        for part in &parts {
            match part {
                Part::Content(piece) => {
                    text.push_str(piece);
                    content.push_str(piece);
                }
                Part::Call(name, arguments) => {
                    let object = json!({"name": name, "arguments": arguments});
                    text.push_str(&format!("\n<tool_call>\n{object}\n</tool_call>"));
                    calls.push((name.clone(), arguments.to_string()));
                }
            }
        }
        prop_assert_eq!(parse(&HERMES, true, cut(&text, &cuts)), (content, calls));
    }

    #[test]
    fn whatever_the_text_and_the_cuts_the_sum_is_that_of_the_whole(
        words in prop::collection::vec(prop::sample::select(vec![
            "<tool_call>", "</tool_call>", "<|python_tag|>", "{", "}", "\"name\"", "\"arguments\"", "\"parameters\"", ":", ",",
            ";", "\"f\"", "[", "]", " ", "\n", "\\", "x", "é", "{\"name\": \"f\", \"arguments\": {", "{\"name\": \"g\"",
        ]), 0..24),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        parallel: bool,
    ) {
        let text = words.concat();
        for framing in [HERMES, LLAMA, Framing::Array, Framing::Arguments("f".to_owned())] {
            prop_assert_eq!(parse(&framing, parallel, cut(&text, &cuts)), parse(&framing, parallel, [text.as_str()]));
        }
    }
}
