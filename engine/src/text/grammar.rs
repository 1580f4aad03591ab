//! Grammars: an answer that must be of a form (JSON of a schema, a regular expression, ...) is held to it token by token.
//! llguidance does the work; what is here is bounded, panics are errors, and errors never quote what the model wrote.

use std::panic::{AssertUnwindSafe, catch_unwind};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use tokenizers::Tokenizer;
use toktrie_hf_tokenizers::{ByteTokenizer, ByteTokenizerEnv};

use super::TextError;
use crate::scheduler::request::Constraint;

/// White space between the parts of a JSON text: one space, or a new line and its indentation. Without a bound a model may
/// write white space until its tokens are used up.
const WHITE_SPACE: &str = r"[\x20\x09]|\r?\n[\x20\x09]{0,64}";

/// A form that an answer must have.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema(Value),
    /// A text that a regular expression matches from its beginning to its end.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text that a grammar in llguidance's variant of Lark derives.
    Lark(String),
}

impl Grammar {
    fn into_llguidance(self) -> TopLevelGrammar {
        match self {
            Self::JsonObject => TopLevelGrammar::from_json_schema(bounded(json!({"type": "object"}))),
            Self::JsonSchema(schema) => TopLevelGrammar::from_json_schema(bounded(schema)),
            Self::Regex(regex) => TopLevelGrammar::from_regex(&regex),
            Self::Choice(texts) => {
                let texts: Vec<String> = texts.into_iter().map(|text| literal(&text)).collect();
                TopLevelGrammar::from_lark(format!("start: {}", texts.join(" | ")))
            }
            Self::Lark(grammar) => TopLevelGrammar::from_lark(grammar),
        }
    }
}

/// A text as Lark writes it.
pub fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// A schema whose white space is bounded, unless it says how itself.
pub fn bounded(mut schema: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.entry("x-guidance").or_insert_with(|| json!({"whitespace_pattern": WHITE_SPACE}));
    }
    schema
}

/// Compiles grammars for one tokenizer. Making it takes about a second for a large vocabulary.
pub struct GrammarCompiler(ParserFactory);

impl GrammarCompiler {
    /// Reads a tokenizer's vocabulary; fails on kinds of tokenizers that do not say the bytes of their tokens.
    pub fn new(tokenizer: &Tokenizer, eos_token_ids: &[u32]) -> Result<Self, String> {
        let factory = catch_unwind(AssertUnwindSafe(|| factory(tokenizer, eos_token_ids)));
        factory.unwrap_or_else(|_| Err("its vocabulary cannot be read".to_owned())).map(Self)
    }

    /// Compiles a grammar. Takes milliseconds, seconds for the largest that are allowed.
    pub fn compile(&self, grammar: Grammar) -> Result<Box<dyn Constraint>, TextError> {
        let parser = self.0.create_parser(grammar.into_llguidance());
        let parser = parser.map_err(|error| TextError::BadGrammar(first_lines(&format!("{error:#}"))))?;
        Ok(Box::new(Held { matcher: Matcher::new(Ok(parser)) }))
    }
}

fn factory(tokenizer: &Tokenizer, eos_token_ids: &[u32]) -> Result<ParserFactory, String> {
    let mut bytes = ByteTokenizer::from_tokenizer(tokenizer.clone()).map_err(|error| error.to_string())?;
    let vocabulary = bytes.tokrx_info().vocab_size;
    let eos: Vec<u32> = eos_token_ids.iter().copied().filter(|id| *id < vocabulary).collect();
    if eos.is_empty() {
        return Err("the model has no end-of-sequence token".to_owned());
    }
    bytes.set_eos_tokens(&eos);
    let env = ByteTokenizerEnv::new(bytes, None).map_err(|error| error.to_string())?.to_env();
    let mut factory = ParserFactory::new_simple(&env).map_err(|error| error.to_string())?;
    factory.quiet();
    // The state in an error would be the model's text.
    *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
    Ok(factory)
}

/// What an error says before it shows its insides.
fn first_lines(error: &str) -> String {
    let inside = ["\n<state>", "\n<backtrace>", "\n<non-verbose/>"].iter().filter_map(|mark| error.find(mark)).min();
    let mut text = error[..inside.unwrap_or(error.len())].trim_end().to_owned();
    if let Some((end, _)) = text.char_indices().nth(500) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// One sequence that is held to its grammar.
struct Held {
    matcher: Matcher,
}

impl Constraint for Held {
    fn fresh(&self) -> Box<dyn Constraint> {
        Box::new(Self { matcher: self.matcher.clone() })
    }

    fn mask(&mut self, row: &mut [f32]) -> Result<(), String> {
        match self.matcher.compute_mask() {
            Ok(allowed) => {
                apply(&allowed, row);
                Ok(())
            }
            Err(_) => {
                Err("the requested form of the answer leaves no token that could come next, or is too complex".to_owned())
            }
        }
    }

    fn advance(&mut self, token: u32) -> Result<bool, String> {
        let taken = self.matcher.consume_token(token);
        taken.map_err(|_| "the answer could not be held to the requested form".to_owned())?;
        Ok(self.matcher.is_stopped())
    }
}

fn apply(allowed: &SimpleVob, row: &mut [f32]) {
    let words = allowed.as_slice();
    for (logits, word) in row.chunks_mut(u32::BITS as usize).zip(words.iter().copied().chain(std::iter::repeat(0))) {
        if word == u32::MAX {
            continue;
        }
        for (bit, logit) in logits.iter_mut().enumerate() {
            if word & (1 << bit) == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes;
    use super::*;
    use crate::backend::scripted::{EOS, TURN, VOCAB};

    fn compiler() -> GrammarCompiler {
        GrammarCompiler::new(&bytes::tokenizer(), &[EOS]).unwrap()
    }

    fn compile(grammar: Grammar) -> Box<dyn Constraint> {
        compiler().compile(grammar).unwrap()
    }

    /// Token ids that may come next.
    fn allowed(constraint: &mut dyn Constraint) -> Vec<u32> {
        let mut row = vec![0.0; VOCAB as usize];
        constraint.mask(&mut row).unwrap();
        (0..VOCAB).filter(|id| row[*id as usize] == 0.0).collect()
    }

    /// Feeds a text; true once nothing may follow.
    fn feed(constraint: &mut dyn Constraint, text: &str) -> bool {
        let mut over = false;
        for byte in text.bytes() {
            assert!(!over, "{text} goes on after its end");
            assert!(allowed(constraint).contains(&u32::from(byte)), "{:?} of {text} is not allowed", char::from(byte));
            over = constraint.advance(u32::from(byte)).unwrap();
        }
        over
    }

    fn refusal(grammar: Grammar) -> String {
        compiler().compile(grammar).err().unwrap().to_string()
    }

    #[test]
    fn only_what_the_schema_allows_may_come_next() {
        let schema = json!({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"],
            "additionalProperties": false});
        let mut constraint = compile(Grammar::JsonSchema(schema));
        assert_eq!(allowed(constraint.as_mut()), [u32::from(b'{')]);
        feed(constraint.as_mut(), r#"{"a": ""#);
        assert_eq!(allowed(constraint.as_mut()), [u32::from(b'x'), u32::from(b'y')]);
        // No white space follows the last brace.
        assert!(feed(constraint.as_mut(), r#"x"}"#));
    }

    #[test]
    fn the_end_is_allowed_only_where_the_grammar_may_end() {
        let mut constraint = compile(Grammar::Regex("ab?".to_owned()));
        assert_eq!(allowed(constraint.as_mut()), [u32::from(b'a')]);
        assert!(!feed(constraint.as_mut(), "a"));
        assert_eq!(allowed(constraint.as_mut()), [u32::from(b'b'), EOS]);
        assert!(feed(constraint.as_mut(), "b"));
    }

    #[test]
    fn special_tokens_are_not_text() {
        let mut constraint = compile(Grammar::Regex("(?s:.*)".to_owned()));
        let allowed = allowed(constraint.as_mut());
        assert!(allowed.contains(&EOS) && !allowed.contains(&TURN), "{allowed:?}");
    }

    #[test]
    fn a_choice_is_one_of_its_texts_whatever_they_contain() {
        let texts = ["say \"hi\"\n", "a/b|c", "back\\slash"];
        let grammar = Grammar::Choice(texts.iter().map(|text| (*text).to_owned()).collect());
        for text in texts {
            assert!(feed(compile(grammar.clone()).as_mut(), text), "{text}");
        }
    }

    #[test]
    fn a_lark_grammar_is_followed() {
        let mut constraint = compile(Grammar::Lark("start: \"(\" start \")\" | \"x\"".to_owned()));
        assert!(feed(constraint.as_mut(), "((x))"));
    }

    #[test]
    fn white_space_has_an_end() {
        let mut constraint = compile(Grammar::JsonObject);
        feed(constraint.as_mut(), "{\n    ");
        let mut spaces = 4;
        while allowed(constraint.as_mut()).contains(&u32::from(b' ')) {
            feed(constraint.as_mut(), " ");
            spaces += 1;
            assert!(spaces <= 64);
        }
        assert!(allowed(constraint.as_mut()).contains(&u32::from(b'"')));
    }

    #[test]
    fn each_sequence_has_a_state_of_its_own() {
        let first = compile(Grammar::Regex("abc".to_owned()));
        let (mut second, mut third) = (first.fresh(), first.fresh());
        feed(second.as_mut(), "ab");
        assert_eq!(allowed(second.as_mut()), [u32::from(b'c')]);
        assert_eq!(allowed(third.as_mut()), [u32::from(b'a')]);
    }

    #[test]
    fn a_row_longer_than_the_vocabulary_is_masked_to_its_end() {
        let mut constraint = compile(Grammar::Regex("a".to_owned()));
        let mut row = vec![0.0; VOCAB as usize + 100];
        constraint.mask(&mut row).unwrap();
        assert_eq!(row.iter().filter(|logit| logit.is_finite()).count(), 1);
    }

    #[test]
    fn a_token_against_the_grammar_is_an_error_that_does_not_quote_it() {
        let mut constraint = compile(Grammar::Regex("a".to_owned()));
        let error = constraint.advance(u32::from(b'z')).unwrap_err();
        assert!(!error.contains('z'), "{error}");
        assert!(constraint.mask(&mut [0.0; 258]).is_err());
    }

    #[test]
    fn what_cannot_be_compiled_says_why() {
        let unknown = refusal(Grammar::JsonSchema(json!({"type": "thing"})));
        assert!(unknown.contains("thing"), "{unknown}");
        let empty = refusal(Grammar::JsonSchema(json!({"type": "integer", "minimum": 3, "maximum": 2})));
        assert!(empty.contains("nsatisfiable"), "{empty}");
        for wrong in [Grammar::Regex("(".to_owned()), Grammar::Lark("start: other".to_owned()), Grammar::Lark(String::new())] {
            refusal(wrong);
        }
    }

    #[test]
    fn hostile_depth_is_an_error_and_not_a_crash() {
        for grammar in [Grammar::Regex("(".repeat(100_000)), Grammar::Lark(format!("start: {}", "(".repeat(100_000)))] {
            assert!(compiler().compile(grammar).is_err());
        }
    }

    /// `{"anyOf": [{"anyOf": [...]}]}` and the like, as deep as a JSON text may be.
    fn nested(wrap: impl Fn(Value) -> Value) -> Value {
        (0..100).fold(json!({"type": "null"}), |inner, _| wrap(inner))
    }

    #[test]
    fn hostile_schemas_are_compiled_or_refused_and_that_is_all() {
        let compiler = compiler();
        let many: Vec<String> = (0..20_000).map(|n| format!("word{n}")).collect();
        let schemas = [
            json!({"$ref": "#"}),
            json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
            json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
            json!({"type": "array", "items": {"$ref": "#"}}),
            nested(|inner| json!({"anyOf": [inner, {"type": "string"}]})),
            nested(|inner| json!({"allOf": [inner]})),
            nested(|inner| json!({"not": inner})),
            nested(|inner| json!({"type": "array", "items": inner})),
            nested(|inner| json!({"type": "object", "properties": {"a": inner}})),
            json!({"type": "string", "pattern": "^(a|b)*(c{1000}){1000}$"}),
            json!({"type": "string", "pattern": "(".repeat(10_000)}),
            json!({"type": "string", "minLength": 1_000_000, "maxLength": 2_000_000_000}),
            json!({"type": "array", "items": true, "minItems": 1_000_000, "maxItems": 2_000_000}),
            json!({"type": "integer", "minimum": -1e300, "maximum": 1e300, "multipleOf": 1_234_567}),
            json!({"enum": many}),
            json!({"$ref": "https://example.com/schema"}),
            json!({"x-guidance": {"whitespace_pattern": "("}}),
            json!({"x-guidance": 7, "type": "object"}),
        ];
        let compiled =
            schemas.into_iter().filter(|schema| compiler.compile(Grammar::JsonSchema(schema.clone())).is_ok()).count();
        assert!(compiled > 4, "{compiled}");
    }

    #[test]
    fn a_vocabulary_with_byte_fallback_is_understood() {
        use tokenizers::decoders::byte_fallback::ByteFallback;
        use tokenizers::models::bpe::{BPE, Vocab};
        let mut vocabulary: Vocab = (0..256).map(|byte| (format!("<0x{byte:02X}>"), byte)).collect();
        vocabulary.extend([("a".to_owned(), 256), ("ab".to_owned(), 257), ("</s>".to_owned(), 258)]);
        let model = BPE::builder().vocab_and_merges(vocabulary, Vec::new()).byte_fallback(true).build().unwrap();
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_decoder(Some(ByteFallback::default()));
        tokenizer.add_special_tokens(&[tokenizers::AddedToken::from("</s>", true)]);
        let mut constraint =
            GrammarCompiler::new(&tokenizer, &[258]).unwrap().compile(Grammar::Regex("ab?".to_owned())).unwrap();
        let mut row = vec![0.0; 259];
        constraint.mask(&mut row).unwrap();
        let allowed: Vec<usize> = (0..259).filter(|id| row[*id] == 0.0).collect();
        assert_eq!(allowed, [usize::from(b'a'), 256, 257]);
        assert!(constraint.advance(257).unwrap());
    }

    #[test]
    fn a_tokenizer_that_does_not_say_its_bytes_is_refused() {
        let tokenizer = Tokenizer::new(tokenizers::models::bpe::BPE::default());
        assert!(GrammarCompiler::new(&tokenizer, &[EOS]).is_err());
        assert!(GrammarCompiler::new(&bytes::tokenizer(), &[]).is_err());
    }
}
