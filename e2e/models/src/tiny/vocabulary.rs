//! The tokenizer of every tiny model: byte-level BPE with a few merges, ChatML turns.

use serde_json::{Value, json};

/// Ends a text.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Begins a turn of a chat.
pub const START_OF_TURN: &str = "<|im_start|>";
/// Ends a turn, and so a completion.
pub const END_OF_TURN: &str = "<|im_end|>";
/// Tokens that there are.
pub const VOCABULARY: usize = WORDS + SPECIAL.len();

/// Tokens that are no special ones, which come after them.
pub const WORDS: usize = 256 + MERGES.len();

const SPECIAL: [&str; 3] = [END_OF_TEXT, START_OF_TURN, END_OF_TURN];
/// In the order in which they apply; Ġ is a space.
const MERGES: [(&str, &str); 6] = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("a", "n"), ("an", "d")];

/// The chat template.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Every token's text, in the order of ids.
pub fn tokens() -> Vec<String> {
    let bytes = (0..=u8::MAX).map(|byte| byte_level(byte).to_string());
    let merged = MERGES.iter().map(|(left, right)| format!("{left}{right}"));
    bytes.chain(merged).chain(SPECIAL.iter().map(|text| (*text).to_owned())).collect()
}

/// The merges, each as its two halves with a space between.
pub fn merges() -> Vec<String> {
    MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect()
}

/// Whether an id is a special token's.
pub fn is_special(id: usize) -> bool {
    id >= WORDS
}

/// The id of a special token.
pub fn special_id(text: &str) -> u32 {
    let position = SPECIAL.iter().position(|special| *special == text).unwrap_or(0);
    u32::try_from(WORDS + position).unwrap_or(u32::MAX)
}

/// What `tokenizer.json` says.
pub fn tokenizer_json() -> Value {
    let tokens = tokens();
    let added: Vec<Value> = (WORDS..VOCABULARY)
        .map(|id| {
            json!({"id": id, "content": tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let vocabulary: serde_json::Map<String, Value> =
        tokens[..WORDS].iter().enumerate().map(|(id, text)| (text.clone(), json!(id))).collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": merges()},
    })
}

/// GPT-2's printable character for a byte.
pub fn byte_level(byte: u8) -> char {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let value = u32::from(byte);
    if printable(value) {
        return char::from(byte);
    }
    let offset = (0..value).filter(|other| !printable(*other)).count() as u32;
    char::from_u32(256 + offset).unwrap_or(char::REPLACEMENT_CHARACTER)
}
