//! The command line. Flag names are vLLM's where vLLM has one; they are written in `sojourn_contract::flag`, because the
//! operator gives them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use sojourn_contract::{env, flag, port};

use crate::backend::load::{Device, Dtype};
use crate::hub;
use crate::journeys::filter::Filter;
use crate::model::Location;
use crate::model::generation_config::{Origin, Overrides};
use crate::scheduler::state::Policy;
use crate::text::tool_calls::ToolCallFormat;

/// Serves a model behind an OpenAI API and traces each request's journey.
#[derive(Debug, Parser)]
#[command(name = "sojourn-engine", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a model.
    Serve(Box<Serve>),
    /// Fetch a model from the Hugging Face Hub into the cache and print where it is.
    Download(Download),
    /// Check that the journeys in a trace are legal: OTLP JSON, or Jaeger's answer.
    Check(TraceFile),
    /// Draw the journeys in a trace: OTLP JSON, or Jaeger's answer.
    Draw(Draw),
    /// List the journeys in flight and the last that ended in a running engine, or draw one.
    Journeys(Journeys),
}

/// The journeys of a running engine.
#[derive(Debug, Args)]
pub struct Journeys {
    /// A request id, trace id or span id: draws this one.
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// The engine's admin port.
    #[arg(long, default_value = "http://127.0.0.1:8001", value_name = "URL")]
    pub url: String,
    /// Which journeys.
    #[arg(long, value_enum, default_value_t = Filter::All)]
    pub filter: Filter,
    /// How many at most.
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    pub limit: usize,
    /// Goes on as journeys end.
    #[arg(long, conflicts_with = "id")]
    pub follow: bool,
    /// Form of the lines or the drawing.
    #[command(flatten)]
    pub form: Form,
}

/// A trace to read.
#[derive(Debug, Args)]
pub struct TraceFile {
    /// The file; `-` reads standard input.
    pub file: PathBuf,
}

/// A trace to draw.
#[derive(Debug, Args)]
pub struct Draw {
    /// The trace.
    #[command(flatten)]
    pub trace: TraceFile,
    /// Its form.
    #[command(flatten)]
    pub form: Form,
}

/// The form of what is drawn.
#[derive(Debug, Args)]
pub struct Form {
    /// Columns of the drawing.
    #[arg(long, default_value_t = 110)]
    pub width: usize,
    /// Colours.
    #[arg(long, value_enum, default_value_t = When::Auto)]
    pub color: When,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Flags of `download`.
#[derive(Debug, Args)]
pub struct Download {
    /// hf://ORG/REPO[@REVISION][/FILE.gguf]
    #[arg(value_name = "MODEL")]
    pub model: hub::Repository,
    /// What comes from the Hugging Face Hub.
    #[command(flatten)]
    pub hub: hub::Flags,
    /// Seconds without a byte after which the download is given up.
    #[arg(long = flag::STARTUP_TIMEOUT, default_value = "1800", value_name = "SECONDS", value_parser = seconds)]
    pub startup_timeout: Duration,
    /// Form of log lines.
    #[arg(long = "log-format", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

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

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "give a number of seconds, such as 30 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_that_others_may_give_is_known() {
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap();
        let known: Vec<&str> = serve.get_arguments().filter_map(clap::Arg::get_long).collect();
        let unknown: Vec<&&str> = flag::ALL.iter().filter(|flag| !known.contains(*flag)).collect();
        assert!(unknown.is_empty(), "{unknown:?} are in the contract and not on the command line");
    }

    #[test]
    fn the_quick_start_is_understood() {
        let line = "sojourn-engine serve m.gguf --enable-journey-tracing --otlp-traces-endpoint http://localhost:4317 --enable-metrics";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Serve(serve) = cli.command else { panic!("not serve") };
        assert!(serve.telemetry.enable_journey_tracing);
        assert_eq!(serve.telemetry.otlp_traces_endpoint.as_deref(), Some("http://localhost:4317"));
        assert_eq!((serve.port, serve.capacity.max_num_seqs), (8000, 8));
    }

    #[test]
    fn wrong_values_are_refused_with_what_to_write() {
        for (argument, expected) in [
            ("--request-timeout=soon", "number of seconds"),
            ("--max-num-seqs=0", "not in 1.."),
            ("--peak-flops=0", "operations a second"),
            ("--journey-detail=All", "Phases, Journey"),
            ("--tool-call-parser=mistral", "hermes, llama3_json"),
            (r#"--override-generation-config={"temperature":3}"#, "'temperature' must be a number from 0 to 2"),
            ("--gpu-memory-utilization=0", "above 0 and up to 1"),
            ("--gpu-memory-utilization=1.01", "above 0 and up to 1"),
            ("--gpu-memory-utilization=NaN", "above 0 and up to 1"),
            ("--gpu-memory-utilization=90%", "above 0 and up to 1"),
        ] {
            let error = Cli::try_parse_from(["sojourn-engine", "serve", "m.gguf", argument]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
    #[test]
    fn a_part_of_the_gpus_memory_is_said_to_do_nothing_where_it_does_nothing() {
        let said = |arguments: &str| {
            let line = format!("sojourn-engine serve m.gguf {arguments}");
            let Command::Serve(serve) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
                panic!("not serve")
            };
            serve.idle_gpu_memory_utilization()
        };
        assert!(said("--device=cpu --gpu-memory-utilization=1").unwrap().contains("nothing on the CPU"));
        assert!(said("--device=cuda --gpu-memory-utilization=0.5 --kv-cache-tokens=64").unwrap().contains("--kv-cache-tokens"));
        assert_eq!(said("--device=cuda --gpu-memory-utilization=0.5"), None);
        assert_eq!(said("--kv-cache-tokens=64"), None);
    }
}
