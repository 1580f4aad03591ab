//! mistral.rs's own engine: its scheduler, sampler and cache management, one request in flight, no prefix cache.

use std::path::Path;
use std::sync::{Arc, Mutex};

use mistralrs::core::{
    Constraint, DefaultSchedulerMethod, DeviceMapSetting, GGUFLoaderBuilder, GGUFSpecificConfig, Loader, MistralRs,
    MistralRsBuilder, ModelDType, NormalLoaderBuilder, NormalRequest, NormalSpecificConfig, Request, RequestMessage,
    SamplingParams, SchedulerConfig, TokenSource,
};
use mistralrs::{Device, Tensor};

/// The greedy continuation of each prompt.
pub fn generate(model: &Path, prompts: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = engine(model).await;
        let mut all = Vec::new();
        for prompt in prompts {
            all.push(complete(&engine, prompt, count).await);
        }
        all
    })
}

async fn engine(model: &Path) -> Arc<MistralRs> {
    let pipeline = loader(model).load_model_from_hf(
        None,
        TokenSource::None,
        &ModelDType::F32,
        &Device::Cpu,
        true,
        DeviceMapSetting::dummy(),
        None,
        None,
    );
    let method = DefaultSchedulerMethod::Fixed(1.try_into().unwrap());
    let scheduler = SchedulerConfig::DefaultScheduler { method };
    MistralRsBuilder::new(pipeline.unwrap(), scheduler, false, None).with_no_prefix_cache(true).build().await
}

fn loader(model: &Path) -> Box<dyn Loader> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    if model.is_dir() {
        let specific = NormalSpecificConfig::default();
        return NormalLoaderBuilder::new(specific, None, None, Some(text(model)), false, None).build(None).unwrap();
    }
    let (directory, file) = (text(model.parent().unwrap()), text(Path::new(model.file_name().unwrap())));
    GGUFLoaderBuilder::new(None, None, directory, vec![file], GGUFSpecificConfig::default(), false, None).build()
}

async fn complete(engine: &MistralRs, prompt: &[u32], count: usize) -> Vec<u32> {
    // It is asked for the logits of each token before its own sampler takes the best.
    let chosen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let (tap, length) = (chosen.clone(), prompt.len());
    let processor = move |logits: &Tensor, context: &[u32]| {
        let mut chosen = tap.lock().unwrap();
        assert_eq!(context[length..], chosen[..], "its sampler took what was the best");
        chosen.push(best(&logits.to_vec1::<f32>()?));
        Ok(logits.clone())
    };
    let (response, mut responses) = tokio::sync::mpsc::channel(count + 16);
    let mut sampling = SamplingParams::deterministic();
    sampling.temperature = Some(0.0);
    sampling.max_len = Some(count);
    let request = NormalRequest {
        messages: RequestMessage::CompletionTokens(prompt.to_vec()),
        sampling_params: sampling,
        response,
        return_logprobs: false,
        is_streaming: true,
        id: 0,
        constraint: Constraint::None,
        suffix: None,
        tools: None,
        tool_choice: None,
        logits_processors: Some(vec![Arc::new(processor)]),
        return_raw_logits: false,
        web_search_options: None,
        model_id: None,
        truncate_sequence: false,
    };
    engine.get_sender(None).unwrap().send(Request::Normal(Box::new(request))).await.unwrap();
    while responses.recv().await.is_some() {}
    let mut ids = chosen.lock().unwrap().clone();
    assert!(ids.len() >= count, "mistral.rs generated {} of {count} tokens", ids.len());
    ids.truncate(count);
    ids
}

fn best(row: &[f32]) -> u32 {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter().position(|logit| *logit == highest).unwrap() as u32
}
