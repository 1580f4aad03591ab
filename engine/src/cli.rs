//! The command line. Flag names are vLLM's where vLLM has one; they are written in `sojourn_contract::flag`, because the
//! operator gives them.

mod serve;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sojourn_contract::flag;

use crate::hub;
use crate::journeys::filter::Filter;

pub use serve::{Capacity, Serve, Telemetry, Timeouts, ToolCalls};

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
