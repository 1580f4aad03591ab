//! The tokenizer of the scripted model: one token a byte, and two special ones.

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, Tokenizer};

use crate::backend::scripted::{BYTES, EOS, TURN};

const EOS_TEXT: &str = "<|end|>";
const TURN_TEXT: &str = "<|turn|>";

/// A chat template of one special token a turn.
pub const TEMPLATE: &str = "{% for message in messages %}<|turn|>{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}\
    {% if add_generation_prompt %}<|turn|>assistant: {% endif %}";

/// Makes the tokenizer; ids are those of [`crate::backend::scripted`].
pub fn tokenizer() -> Tokenizer {
    let vocabulary = (0..BYTES).map(|id| (byte_level_char(id as u8).to_string(), id)).collect::<Vec<_>>();
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.into_iter().collect::<tokenizers::models::bpe::Vocab>(), Vec::new())
        .build()
        .expect("256 single characters are a vocabulary");
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, false, false)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens(&[AddedToken::from(EOS_TEXT, true), AddedToken::from(TURN_TEXT, true)]);
    debug_assert_eq!(tokenizer.token_to_id(EOS_TEXT), Some(EOS));
    debug_assert_eq!(tokenizer.token_to_id(TURN_TEXT), Some(TURN));
    tokenizer
}

/// GPT-2's printable character for a byte, which the byte-level decoder undoes.
pub(super) fn byte_level_char(byte: u8) -> char {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let value = u32::from(byte);
    if printable(value) {
        return char::from(byte);
    }
    let offset = (0..value).filter(|other| !printable(*other)).count() as u32;
    char::from_u32(256 + offset).expect("256 to 323 are characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_its_own_token_and_back() {
        let tokenizer = tokenizer();
        let text = "Grüße, 世界!\n\u{0}";
        let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        assert_eq!(ids, text.bytes().map(u32::from).collect::<Vec<_>>());
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
        assert_eq!(tokenizer.encode("a<|turn|>", false).unwrap().get_ids(), [97, TURN]);
        assert_eq!(tokenizer.token_to_id(EOS_TEXT), Some(EOS));
    }
}
