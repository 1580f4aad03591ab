//! The parts of the text side together.

mod streaming;
mod templates;

use std::sync::Arc;

use super::{Text, TextError, bytes};

#[test]
fn a_text_beyond_any_context_is_refused_before_it_is_tokenized() {
    let text = Text::new(Arc::new(bytes::tokenizer()), None, Vec::new());
    // The longest token is <|turn|>.
    let encoded = |length: usize| text.encode_within(&"x".repeat(length), false, 10);
    assert!(matches!(encoded(88), Err(TextError::TooLong { at_least: 11, limit: 10 })));
    assert_eq!(encoded(87).unwrap().len(), 87, "this may yet fit, for all that is known before");
}
