//! `serve`: the model, what runs and waits, time limits, telemetry.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use sojourn_contract::{env, flag, port};

use super::{LogFormat, seconds};
use crate::backend::load::{Device, Dtype};
use crate::hub;
use crate::model::Location;
use crate::model::generation_config::{Origin, Overrides};
use crate::scheduler::state::Policy;
use crate::text::tool_calls::ToolCallFormat;

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// A GGUF file, a directory of safetensors, hf://ORG/REPO[@REVISION][/FILE.gguf], or `scripted:` for a model that is not one.
    #[arg(value_name = "MODEL")]
    pub model: Location,
    /// Name of the model in requests and answers [default: ORG/REPO, the directory's name, or the file's without .gguf].
    #[arg(long = flag::SERVED_MODEL_NAME, value_name = "NAME")]
    pub served_model_name: Option<String>,
    /// Address to listen on.
    #[arg(long = flag::HOST, default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub host: std::net::IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long = flag::PORT, default_value_t = port::HTTP)]
    pub port: u16,
    /// Where the model runs; the default is what the build is for.
    #[arg(long = flag::DEVICE, value_enum, default_value_t = Device::default())]
    pub device: Device,
    /// Type of activations and KV, and of weights that are not quantised [auto: float32 on the CPU, bfloat16 on a GPU].
    #[arg(long = flag::DTYPE, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
    /// Clients must send this key as `Authorization: Bearer KEY`.
    #[arg(long = "api-key", env = env::API_KEY, hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Jinja file instead of the model's own chat template.
    #[arg(long = flag::CHAT_TEMPLATE, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// What comes from the Hugging Face Hub.
    #[command(flatten)]
    pub hub: hub::Flags,
    /// Tool calls.
    #[command(flatten)]
    pub tool_calls: ToolCalls,
    /// Where defaults of requests come from: `auto` reads generation_config.json beside the model, if it is there; `vllm`
    /// takes the API's own; a directory is where that file is. Its `max_new_tokens` limits every request.
    #[arg(long = flag::GENERATION_CONFIG, default_value = "auto", value_name = "auto|vllm|FOLDER")]
    pub generation_config: Origin,
    /// Defaults of requests that replace those of the file, such as {"temperature": 0.5}.
    #[arg(long = flag::OVERRIDE_GENERATION_CONFIG, default_value = "{}", hide_default_value = true, value_name = "JSON")]
    pub override_generation_config: Overrides,
    /// Capacity.
    #[command(flatten)]
    pub capacity: Capacity,
    /// Time limits.
    #[command(flatten)]
    pub timeouts: Timeouts,
    /// Tracing and metrics.
    #[command(flatten)]
    pub telemetry: Telemetry,
    /// Form of log lines.
    #[arg(long = "log-format", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How the model calls tools.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tool calls")]
pub struct ToolCalls {
    /// How the model writes tool calls [default: what its chat template shows].
    #[arg(long = flag::TOOL_CALL_PARSER, value_enum, value_name = "FORMAT")]
    pub tool_call_parser: Option<ToolCallFormat>,
    /// Accepted for vLLM's users: requests with tools are always taken where the format is known.
    #[arg(long = flag::ENABLE_AUTO_TOOL_CHOICE)]
    pub enable_auto_tool_choice: bool,
}

impl Serve {
    /// Says why `--gpu-memory-utilization` does nothing, where it is given and does nothing.
    pub fn idle_gpu_memory_utilization(&self) -> Option<String> {
        self.capacity.gpu_memory_utilization?;
        let (given, tokens) = (flag::GPU_MEMORY_UTILIZATION, flag::KV_CACHE_TOKENS);
        match self.device {
            Device::Cpu => Some(format!("--{given} does nothing on the CPU: --{tokens} says how large the KV cache is")),
            Device::Cuda if self.capacity.kv_cache_tokens.is_some() => {
                Some(format!("--{given} does nothing beside --{tokens}, which says how large the KV cache is"))
            }
            Device::Cuda => None,
        }
    }
}

/// How much runs and waits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Capacity")]
pub struct Capacity {
    /// Longest prompt and completion together, in tokens [default: the model's own].
    #[arg(long = flag::MAX_MODEL_LEN, value_name = "TOKENS")]
    pub max_model_len: Option<u32>,
    /// Sequences in the running set at most.
    #[arg(long = flag::MAX_NUM_SEQS, default_value_t = 8, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_num_seqs: u32,
    /// Tokens in one step at most [default: 32 on a backend that runs one sequence at a time, else 2048].
    #[arg(long = flag::MAX_NUM_BATCHED_TOKENS, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    pub max_num_batched_tokens: Option<u32>,
    /// Tokens that the KV cache holds, rounded up to blocks [default: on the CPU 16384, or one request of full length if that is
    /// more; on a GPU what --gpu-memory-utilization leaves].
    #[arg(long = flag::KV_CACHE_TOKENS, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub kv_cache_tokens: Option<u32>,
    /// Part of the GPU's memory that weights, passes and KV cache may use together, above 0 and up to 1; --kv-cache-tokens
    /// counts before it [default: 0.9].
    #[arg(long = flag::GPU_MEMORY_UTILIZATION, value_name = "PART", value_parser = part)]
    pub gpu_memory_utilization: Option<f64>,
    /// Sequences that may wait; a request beyond them is answered 429.
    #[arg(long = flag::MAX_QUEUE_SIZE, default_value_t = 256, value_name = "COUNT")]
    pub max_queue_size: u32,
    /// Who goes first.
    #[arg(long = flag::SCHEDULING_POLICY, value_enum, default_value_t = Policy::Fcfs)]
    pub scheduling_policy: Policy,
    /// Accepted for vLLM's users: prefix caching is on.
    #[arg(long = flag::ENABLE_PREFIX_CACHING, overrides_with = "no_enable_prefix_caching")]
    pub enable_prefix_caching: bool,
    /// Compute every prompt from its first token on, also where an earlier request began with the same tokens.
    #[arg(long = flag::NO_ENABLE_PREFIX_CACHING, overrides_with = "enable_prefix_caching")]
    pub no_enable_prefix_caching: bool,
}

/// Time limits, in seconds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Time limits")]
pub struct Timeouts {
    /// Seconds that a request may take from its arrival; 0 is no limit.
    #[arg(long = flag::REQUEST_TIMEOUT, default_value = "0", value_name = "SECONDS", value_parser = seconds)]
    pub request_timeout: Duration,
    /// Seconds that a request may wait before it first runs; 0 is no limit.
    #[arg(long = flag::QUEUE_TIMEOUT, default_value = "0", value_name = "SECONDS", value_parser = seconds)]
    pub queue_timeout: Duration,
    /// Seconds after which a step of the model counts as stalled; this is reported and nothing else.
    #[arg(long = flag::STEP_STALL_TIMEOUT, default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub step_stall_timeout: Duration,
    /// Seconds after which a client that takes no byte of its answer is cut off.
    #[arg(long = flag::CLIENT_STALL_TIMEOUT, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub client_stall_timeout: Duration,
    /// Seconds that running requests get after SIGTERM.
    #[arg(long = flag::DRAIN_TIMEOUT, default_value = "120", value_name = "SECONDS", value_parser = seconds)]
    pub drain_timeout: Duration,
    /// Seconds without progress after which loading the model is given up.
    #[arg(long = flag::STARTUP_TIMEOUT, default_value = "1800", value_name = "SECONDS", value_parser = seconds)]
    pub startup_timeout: Duration,
}

/// Tracing and metrics.
#[derive(Debug, Args)]
#[command(next_help_heading = "Telemetry")]
pub struct Telemetry {
    /// Trace each request's journey.
    #[arg(long = flag::ENABLE_JOURNEY_TRACING)]
    pub enable_journey_tracing: bool,
    /// Where traces go [default: OTEL_EXPORTER_OTLP_*, then http://localhost:4317].
    #[arg(long = flag::OTLP_TRACES_ENDPOINT, value_name = "URL")]
    pub otlp_traces_endpoint: Option<String>,
    /// Whether phases are spans of their own.
    #[arg(long = flag::JOURNEY_DETAIL, default_value = "Phases", value_parser = detail, value_name = "Phases|Journey")]
    pub journey_detail: sojourn_contract::journey::Detail,
    /// Port of the pages that show journeys, on 127.0.0.1 alone; 0 turns them off.
    #[arg(long = flag::ADMIN_PORT, default_value_t = port::ADMIN)]
    pub admin_port: u16,
    /// Journeys that these pages keep after their end.
    #[arg(long = flag::JOURNEY_HISTORY, default_value_t = 512, value_name = "COUNT")]
    pub journey_history: usize,
    /// W3C baggage members that are copied to the journey, comma-separated.
    #[arg(long = flag::JOURNEY_BAGGAGE, value_delimiter = ',', value_name = "NAME,...")]
    pub journey_baggage: Vec<String>,
    /// Accepted for vLLM's users: metrics are always on.
    #[arg(long = flag::ENABLE_METRICS, action = ArgAction::SetTrue)]
    pub enable_metrics: bool,
    /// Adds model FLOPs to the metrics: the arithmetic that the model needs for its tokens, and how much of the peak it is.
    #[arg(long = flag::ENABLE_MFU_METRICS)]
    pub enable_mfu_metrics: bool,
    /// Floating-point operations a second that the device can do, such as 989e12; the peak of --enable-mfu-metrics
    /// [default: what a product of two F32 matrices reaches at start].
    #[arg(long = flag::PEAK_FLOPS, value_name = "FLOPS", value_parser = flops)]
    pub peak_flops: Option<f64>,
    /// One log line a step, target `iteration`: its tokens, the load and its duration.
    #[arg(long = flag::ENABLE_LOGGING_ITERATION_DETAILS)]
    pub enable_logging_iteration_details: bool,
}

fn part(text: &str) -> Result<f64, String> {
    let part = text.parse().ok().filter(|part: &f64| *part > 0.0 && *part <= 1.0);
    part.ok_or_else(|| "give a part of the memory above 0 and up to 1, such as 0.9".to_owned())
}

fn flops(text: &str) -> Result<f64, String> {
    let flops = text.parse().ok().filter(|flops: &f64| flops.is_finite() && *flops > 0.0);
    flops.ok_or_else(|| "give operations a second, such as 989e12".to_owned())
}

fn detail(text: &str) -> Result<sojourn_contract::journey::Detail, String> {
    text.parse().map_err(|error: sojourn_contract::journey::UnknownWord| error.to_string())
}
