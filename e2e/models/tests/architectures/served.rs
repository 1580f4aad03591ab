//! What the engine takes from a model's files besides its weights.

use serde_json::json;
use sojourn_contract::exit::Reason;
use sojourn_engine::backend::load::Dtype;
use sojourn_engine::model::{Source, Wishes, load, size, warm_up};
use sojourn_engine::text::ChatOptions;
use sojourn_models::tiny::{Architecture, CONTEXT_LENGTH, END_OF_TEXT, END_OF_TURN, VOCABULARY};

use crate::models::model;

fn text_side(test: &str, architecture: Architecture, ends: &[&str]) {
    let source = Source::File(model(test, architecture));
    assert!(size(&source).unwrap() > 100_000);
    let mut model = load(&source, &Wishes::default()).unwrap();
    warm_up(model.backend.as_mut()).unwrap();
    assert_eq!(model.max_model_len, CONTEXT_LENGTH);
    assert_eq!(model.text.vocab_size(), VOCABULARY as u32);

    let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
    let prompt = model.text.chat_prompt(&[json!({"role": "user", "content": "the wind"})], &options).unwrap();
    assert_eq!(prompt, "<|im_start|>user\nthe wind<|im_end|>\n<|im_start|>assistant\n");
    let words = model.text.encode("in the wind", false).unwrap();
    assert_eq!(words.iter().map(|id| model.text.token_text(*id)).collect::<String>(), "in the wind");
    assert!(words.len() < "in the wind".len(), "merges apply: {words:?}");

    let ids: Vec<u32> = ends.iter().map(|end| model.text.encode(end, false).unwrap()[0]).collect();
    assert_eq!(model.text.eos_token_ids(), ids);
}

#[test]
fn a_gguf_file_brings_its_tokenizer_template_length_and_end() {
    text_side("gguf-text", Architecture::Llama, &[END_OF_TURN]);
}

#[test]
fn a_directory_brings_its_tokenizer_template_length_and_ends() {
    text_side("directory-text", Architecture::MistralSafetensors, &[END_OF_TURN, END_OF_TEXT]);
}

#[test]
fn a_template_in_a_file_of_its_own_goes_first() {
    let path = model("jinja", Architecture::LlamaSafetensors);
    std::fs::write(path.join("chat_template.jinja"), "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}").unwrap();
    let model = load(&Source::File(path), &Wishes::default()).unwrap();
    let prompt = model.text.chat_prompt(&[json!({"role": "user", "content": "x"})], &ChatOptions::default()).unwrap();
    assert_eq!(prompt, format!("{END_OF_TEXT}x{END_OF_TURN}"));
}

#[test]
fn every_dtype_that_has_kernels_runs_and_the_other_is_refused() {
    for (test, architecture) in [("dtype-gguf", Architecture::Llama), ("dtype-directory", Architecture::LlamaSafetensors)] {
        let source = Source::File(model(test, architecture));
        let load = |dtype| load(&source, &Wishes { dtype, ..Wishes::default() });
        for dtype in [Dtype::Float16, Dtype::Float32] {
            warm_up(load(dtype).unwrap().backend.as_mut()).unwrap_or_else(|error| panic!("{test}, {dtype:?}: {error}"));
        }
        let error = load(Dtype::Bfloat16).err().expect("it is refused");
        assert_eq!(error.termination().reason, Reason::InvalidConfiguration);
    }
}
