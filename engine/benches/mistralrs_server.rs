//! mistral.rs 0.8.1's own engine behind `/v1/completions`, to be measured beside ours: its scheduler, prefix cache and sampler
//! with the defaults of its own server (16 sequences, 16 cached prefixes), its text passed on as it comes. Loaded as ours is
//! (weights as in the file, F32 activations: with its own choice, F16, the CPU is slower).
//!
//! `mistralrs_server MODEL.gguf --host 127.0.0.1 --port PORT`; streams only. `make bench` builds and runs it.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use candle_core::Device;
use clap::Parser;
use mistralrs::core::{
    Constraint, DefaultSchedulerMethod, DeviceMapSetting, GGUFLoaderBuilder, GGUFSpecificConfig, MistralRs, MistralRsBuilder,
    ModelDType, NormalRequest, Request, RequestMessage, Response as Answer, SamplingParams, SchedulerConfig, TokenSource,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, channel};

const MAX_SEQS: usize = 16;
const PREFIX_CACHE: usize = 16;

#[derive(Parser)]
struct Arguments {
    model: PathBuf,
    #[arg(long)]
    host: String,
    #[arg(long)]
    port: u16,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let engine = engine(&arguments.model).await?;
    let routes = Router::new().route("/health", get(|| async {})).route("/v1/completions", post(complete)).with_state(engine);
    let listener = tokio::net::TcpListener::bind((arguments.host.as_str(), arguments.port)).await?;
    axum::serve(listener, routes).await.context("the server ended")
}

async fn engine(model: &std::path::Path) -> anyhow::Result<Arc<MistralRs>> {
    let directory = model.parent().context("the path names no directory")?.to_string_lossy().into_owned();
    let file = model.file_name().context("the path names no file")?.to_string_lossy().into_owned();
    let loader = GGUFLoaderBuilder::new(None, None, directory, vec![file], GGUFSpecificConfig::default(), false, None).build();
    let pipeline = loader.load_model_from_hf(
        None,
        TokenSource::None,
        &ModelDType::F32,
        &Device::Cpu,
        true,
        DeviceMapSetting::dummy(),
        None,
        None,
    )?;
    let sequences = NonZeroUsize::new(MAX_SEQS).context("at least one sequence")?;
    let method = DefaultSchedulerMethod::Fixed(sequences);
    let builder = MistralRsBuilder::new(pipeline, SchedulerConfig::DefaultScheduler { method }, false, None);
    let builder = builder.with_no_prefix_cache(false).with_prefix_cache_n(PREFIX_CACHE);
    // As `ignore_eos` does for the other servers: every answer has its full length.
    Ok(builder.with_disable_eos_stop(true).build().await)
}

async fn complete(State(engine): State<Arc<MistralRs>>, Json(body): Json<Value>) -> Response {
    match ask(&engine, &body).await {
        Ok(answers) => {
            let events = futures::stream::unfold(answers, |mut answers| async move {
                let answer = answers.recv().await?;
                Some((Ok::<_, Infallible>(event(answer)), answers))
            });
            ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
    }
}

async fn ask(engine: &MistralRs, body: &Value) -> anyhow::Result<Receiver<Answer>> {
    let text = body["prompt"].as_str().context("'prompt' must be a string")?.to_owned();
    let max_len = body["max_tokens"].as_u64().and_then(|tokens| usize::try_from(tokens).ok());
    let (response, answers) = channel(4096);
    let request = NormalRequest {
        messages: RequestMessage::Completion { text, echo_prompt: false, best_of: None },
        sampling_params: SamplingParams { max_len, ..SamplingParams::deterministic() },
        response,
        return_logprobs: false,
        is_streaming: true,
        id: 0,
        constraint: Constraint::None,
        suffix: None,
        tools: None,
        tool_choice: None,
        logits_processors: None,
        return_raw_logits: false,
        web_search_options: None,
        model_id: None,
        truncate_sequence: false,
    };
    let sent = engine.get_sender(None)?.send(Request::Normal(Box::new(request))).await;
    anyhow::ensure!(sent.is_ok(), "the engine has ended");
    Ok(answers)
}

fn event(answer: Answer) -> Bytes {
    let data = match answer {
        Answer::CompletionChunk(chunk) => json!({"choices": [{"text": chunk.choices[0].text}]}),
        Answer::CompletionDone(done) => json!({"choices": [], "usage": {"completion_tokens": done.usage.completion_tokens}}),
        Answer::InternalError(error) | Answer::ValidationError(error) => json!({"error": {"message": error.to_string()}}),
        Answer::CompletionModelError(message, _) => json!({"error": {"message": message}}),
        _ => json!({"error": {"message": "an answer of another kind"}}),
    };
    Bytes::from(format!("data: {data}\n\n"))
}
