//! Token ids to text, one at a time, without ever splitting a character.

use std::sync::Arc;

use tokenizers::Tokenizer;

/// What a tokenizer writes for bytes that are no character (yet).
const REPLACEMENT: char = '\u{fffd}';
/// Replacement characters at the end that may still become one: a character has at most four bytes, and a tokenizer that
/// falls back to bytes marks each byte of the run that the unfinished character belongs to.
const MAY_BECOME_WHOLE: usize = 64;
/// Tokens without a point at which the text was whole: far more than any text has.
const MAX_WINDOW: usize = 256;

/// State of one sequence's text.
///
/// A token's text depends on its neighbours (spaces, characters of several tokens), so the last tokens are decoded again with
/// each new one, and what they say beyond what was given out is new.
pub struct Decoder {
    tokenizer: Arc<Tokenizer>,
    skip_special_tokens: bool,
    /// The last tokens: first those whose text is out, then those that wait.
    window: Vec<u32>,
    /// How many of them are out.
    out: usize,
    /// The text of the window that was given out.
    shown: String,
}

impl Decoder {
    /// Begins an empty text, with or without the text of special tokens.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special_tokens: bool) -> Self {
        Self { tokenizer, skip_special_tokens, window: Vec::new(), out: 0, shown: String::new() }
    }

    /// Takes the next token; the text that is whole now, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        self.window.push(id);
        let text = self.decode(&self.window)?;
        let whole = text.trim_end_matches(REPLACEMENT);
        let unfinished = (text.len() - whole.len()) / REPLACEMENT.len_utf8();
        if unfinished == 0 || unfinished > MAY_BECOME_WHOLE || self.window.len() > MAX_WINDOW {
            return self.flush(text);
        }
        // The beginning of a character waits for its end; what stands before it does not.
        let new = whole.strip_prefix(self.shown.as_str()).filter(|new| !new.is_empty())?.to_owned();
        self.shown.push_str(&new);
        Some(new)
    }

    /// What is left at the end: an unfinished character, as U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let text = self.decode(&self.window)?;
        let rest = self.flush(text);
        *self = Self::new(self.tokenizer.clone(), self.skip_special_tokens);
        rest
    }

    /// Gives out all that is new, and keeps the tokens behind it as the neighbours of the next.
    fn flush(&mut self, text: String) -> Option<String> {
        let waiting = self.window.split_off(self.out.min(self.window.len()));
        let new = match text.strip_prefix(self.shown.as_str()) {
            Some(new) => new.to_owned(),
            // What was given out reads differently with these tokens behind it: they are told alone.
            None => self.decode(&waiting)?,
        };
        if new.is_empty() {
            // Tokens without text (special ones, a first space) stay, as the next one's text may depend on them.
            if waiting.len() <= MAX_WINDOW {
                self.window.extend(waiting);
            }
            return None;
        }
        self.shown = self.decode(&waiting).unwrap_or_default();
        self.out = waiting.len();
        self.window = waiting;
        Some(new)
    }

    fn decode(&self, ids: &[u32]) -> Option<String> {
        self.tokenizer.decode(ids, self.skip_special_tokens).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes;
    use super::*;

    fn decoder() -> Decoder {
        Decoder::new(Arc::new(bytes::tokenizer()), true)
    }

    #[test]
    fn a_character_of_several_tokens_comes_whole() {
        let mut decoder = decoder();
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
        let mut decoder = decoder();
        assert_eq!(decoder.push(0xe2), None);
        assert_eq!(decoder.finish(), Some("\u{fffd}".to_owned()));
    }

    #[test]
    fn bytes_that_never_become_a_character_are_given_out_in_bounded_pieces() {
        let mut decoder = decoder();
        let mut text: String = (0..1000).filter_map(|_| decoder.push(0xff)).collect();
        assert!(text.chars().count() > 900, "{}", text.chars().count());
        text.push_str(&decoder.finish().unwrap_or_default());
        assert_eq!(text, "\u{fffd}".repeat(1000));
    }

    #[test]
    fn special_tokens_are_left_out_or_kept() {
        let text = |skip| {
            let mut decoder = Decoder::new(Arc::new(bytes::tokenizer()), skip);
            let ids = [97, crate::backend::scripted::EOS, 98];
            ids.into_iter().filter_map(|id| decoder.push(id)).collect::<String>()
        };
        assert_eq!((text(true).as_str(), text(false).as_str()), ("ab", "a<|end|>b"));
    }
}
