//! Token ids to text, one at a time, without ever splitting a character.

use std::sync::Arc;

use tokenizers::Tokenizer;
use tokenizers::tokenizer::step_decode_stream;

/// State of one sequence's text.
pub struct Decoder {
    tokenizer: Arc<Tokenizer>,
    skip_special_tokens: bool,
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
}

impl Decoder {
    /// Begins an empty text, with or without the text of special tokens.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special_tokens: bool) -> Self {
        Self { tokenizer, skip_special_tokens, ids: Vec::new(), prefix: String::new(), prefix_index: 0 }
    }

    /// Takes the next token; the text that is whole now, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let Self { tokenizer, skip_special_tokens, ids, prefix, prefix_index } = self;
        match step_decode_stream(tokenizer, id, *skip_special_tokens, ids, prefix, prefix_index) {
            Ok(text) => text,
            // The tokens so far read differently with this one behind them: begin anew here rather than repeat text.
            Err(_) => {
                *self = Self::new(self.tokenizer.clone(), self.skip_special_tokens);
                self.tokenizer.decode(&[id], self.skip_special_tokens).ok()
            }
        }
    }

    /// What is left at the end: an unfinished character, as U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let text = self.tokenizer.decode(&self.ids, self.skip_special_tokens).ok()?;
        let rest = text.get(self.prefix.len()..).filter(|rest| !rest.is_empty()).map(str::to_owned);
        *self = Self::new(self.tokenizer.clone(), self.skip_special_tokens);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes;
    use super::*;

    #[test]
    fn a_character_of_several_tokens_comes_whole() {
        let mut decoder = Decoder::new(Arc::new(bytes::tokenizer()), true);
        let pieces: Vec<Option<String>> = "aé€".bytes().map(|byte| decoder.push(u32::from(byte))).collect();
        let expected = [Some("a"), None, Some("é"), None, None, Some("€")];
        assert_eq!(pieces, expected.map(|piece| piece.map(str::to_owned)));
        assert_eq!(decoder.finish(), None);
    }

    #[test]
    fn special_tokens_are_text_where_they_are_asked_for() {
        use crate::backend::scripted::TURN;
        let text = |skip| Decoder::new(Arc::new(bytes::tokenizer()), skip).push(TURN).unwrap_or_default();
        assert_eq!((text(true).as_str(), text(false).as_str()), ("", "<|turn|>"));
    }

    #[test]
    fn an_unfinished_character_is_marked_at_the_end() {
        let mut decoder = Decoder::new(Arc::new(bytes::tokenizer()), true);
        assert_eq!(decoder.push(0xe2), None);
        assert_eq!(decoder.finish(), Some("\u{fffd}".to_owned()));
    }
}
