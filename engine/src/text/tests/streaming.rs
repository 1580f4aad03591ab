//! What a stream shows, piece by piece, is what the whole text says, however tokens cut it.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::normalizers::replace::Replace;
use tokenizers::{DecoderWrapper, Tokenizer};

use super::super::bytes::byte_level_char;
use super::super::decode::Decoder;
use super::super::stop::StopFilter;

/// A tokenizer of these tokens, in this order; only its decoder is used.
fn tokenizer(tokens: &[String], decoder: impl Into<DecoderWrapper>) -> (Arc<Tokenizer>, Vec<u32>) {
    let mut vocabulary = HashMap::new();
    let ids = tokens.iter().map(|token| {
        let next = u32::try_from(vocabulary.len()).unwrap();
        *vocabulary.entry(token.clone()).or_insert(next)
    });
    let ids = ids.collect();
    let model = WordLevel::builder().vocab(vocabulary.into_iter().collect()).unk_token("?".into()).build().unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_decoder(Some(decoder));
    (Arc::new(tokenizer), ids)
}

/// Tokens of bytes, cut anywhere, as byte-level BPE has them.
fn byte_level(text: &str, cuts: &[usize]) -> (Arc<Tokenizer>, Vec<u32>) {
    let bytes = text.as_bytes();
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    at.dedup();
    let token = |ends: &[usize]| bytes[ends[0]..ends[1]].iter().map(|byte| byte_level_char(*byte)).collect::<String>();
    let tokens: Vec<String> = at.windows(2).map(token).collect();
    tokenizer(&tokens, ByteLevel::default())
}

/// Tokens of characters, and of single bytes for every third one, as Llama 2's tokenizer has them.
fn byte_fallback(text: &str, cuts: &[usize]) -> (Arc<Tokenizer>, Vec<u32>) {
    let mut tokens: Vec<String> = vec!["▁".to_owned()];
    for (index, c) in text.chars().enumerate() {
        let as_bytes = cuts.get(index % cuts.len().max(1)).is_some_and(|cut| cut % 3 == 0);
        let mut utf8 = [0; 4];
        match c {
            ' ' => tokens.push("▁".to_owned()),
            _ if as_bytes => tokens.extend(c.encode_utf8(&mut utf8).bytes().map(|byte| format!("<0x{byte:02X}>"))),
            _ => tokens.push(c.to_string()),
        }
    }
    let decoders: Vec<DecoderWrapper> = vec![
        Replace::new("▁", " ").unwrap().into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
        Strip::new(' ', 1, 0).into(),
    ];
    tokenizer(&tokens, Sequence::new(decoders))
}

fn pieces(tokenizer: &Arc<Tokenizer>, ids: &[u32]) -> Vec<String> {
    let mut decoder = Decoder::new(tokenizer.clone(), true);
    let mut pieces: Vec<String> = ids.iter().filter_map(|id| decoder.push(*id)).collect();
    pieces.extend(decoder.finish());
    pieces
}

/// What is shown of these pieces, and whether a stop string ended it.
fn shown(pieces: &[String], stop: &[String], include: bool) -> (String, bool) {
    let mut filter = StopFilter::new(stop.to_vec()).including(include);
    let mut text: String = pieces.iter().map(|piece| filter.push(piece)).collect();
    text.push_str(&filter.finish());
    (text, filter.stopped())
}

fn text() -> impl Strategy<Value = String> {
    // Few letters, so that stop strings occur and nearly occur; U+2581 and U+FFFD mean something to the decoders.
    let letter = prop_oneof![
        4 => prop::sample::select(vec!['a', 'b', ' ', 'é', '€', '😀', '\n']),
        1 => any::<char>().prop_filter("what decoders rewrite", |c| !matches!(c, '▁' | '\u{fffd}')),
    ];
    prop::collection::vec(letter, 0..40).prop_map(|letters| letters.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_says_what_the_whole_text_says(
        text in text(),
        cuts in prop::collection::vec(0usize..200, 1..60),
        stop in prop::collection::vec("[ab é€😀]{1,3}", 0..3),
        include: bool,
    ) {
        for (tokenizer, ids) in [byte_level(&text, &cuts), byte_fallback(&text, &cuts)] {
            let pieces = pieces(&tokenizer, &ids);
            prop_assert_eq!(pieces.concat(), text.as_str());
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            let (shown, stopped) = shown(&pieces, &stop, include);
            let first = stop.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at))).min();
            prop_assert_eq!(stopped, first.is_some());
            let expected = first.map_or(text.as_str(), |(end, at)| if include { &text[..end] } else { &text[..at] });
            prop_assert_eq!(shown, expected);
        }
    }
}
