//! Command line of the supervisor.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sojourn_contract::{path, port, sidecar as contract};
use sojourn_sidecar::install::install;
use sojourn_sidecar::memory;
use sojourn_sidecar::observe::Endpoints;
use sojourn_sidecar::run::{Options, run};
use sojourn_sidecar::supervise::event::Timing;

/// Supervises an OpenTelemetry Collector beside an engine.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Copies this program into a directory that another container starts it from.
    #[command(name = contract::INSTALL)]
    Install {
        /// The directory.
        dir: PathBuf,
    },
    /// Runs a collector, renews it when its mounted configuration changes, and outlives it.
    #[command(name = contract::RUN)]
    Run(Box<RunArguments>),
}

#[derive(Args)]
struct RunArguments {
    /// Directory of the mounted configuration.
    #[arg(long, default_value = path::COLLECTOR_CONFIG_DIR)]
    config_dir: PathBuf,
    /// Directory of the mounted credentials, a file for each key; it need not exist.
    #[arg(long, default_value = path::TELEMETRY_CREDENTIALS_DIR)]
    credentials_dir: PathBuf,
    /// Directory for the file that the collector reads, in memory.
    #[arg(long, default_value = path::SIDECAR_RUN_DIR)]
    run_dir: PathBuf,
    /// Where /telemetry and /health are served.
    #[arg(long, default_value_t = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port::SIDECAR)))]
    listen: SocketAddr,
    /// Where the collector serves its own metrics.
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, port::COLLECTOR_METRICS)))]
    metrics_address: SocketAddr,
    /// Where the collector takes OTLP over HTTP.
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, port::OTLP_HTTP)))]
    otlp_address: SocketAddr,
    /// Memory limit of the container [default: its control group's].
    #[arg(long)]
    memory_limit_bytes: Option<u64>,
    /// Longest wait for empty export queues before a change.
    #[arg(long, default_value = "60s", value_parser = duration)]
    drain_timeout: Duration,
    /// Time from SIGTERM to SIGKILL for the collector.
    #[arg(long, default_value = "10s", value_parser = duration)]
    stop_timeout: Duration,
    /// Time from SIGTERM to the end of this program, two thirds of it for the export queues.
    #[arg(long = contract::SHUTDOWN_TIMEOUT, default_value = "14s", value_parser = duration)]
    shutdown_timeout: Duration,
    /// Longest time that a started collector may take to answer.
    #[arg(long, default_value = "60s", value_parser = duration)]
    start_timeout: Duration,
    /// Time that a collector must stay up for its configuration to count as good.
    #[arg(long, default_value = "5s", value_parser = duration)]
    settle_time: Duration,
    /// Time without an answer after which the collector counts as hanging.
    #[arg(long, default_value = "30s", value_parser = duration)]
    hang_timeout: Duration,
    /// First pause before a crashed collector is started again; it doubles with each crash.
    #[arg(long, default_value = "1s", value_parser = duration)]
    backoff: Duration,
    /// Longest pause before a crashed collector is started again.
    #[arg(long, default_value = "60s", value_parser = duration)]
    backoff_max: Duration,
    /// Time after which a refused configuration is tried again.
    #[arg(long, default_value = "10m", value_parser = duration)]
    retry_refused: Duration,
    /// The collector's command; `--config=FILE` is appended.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl RunArguments {
    fn options(self) -> Options {
        Options {
            command: self.command,
            config_dir: self.config_dir,
            credentials_dir: self.credentials_dir,
            run_dir: self.run_dir,
            listen: self.listen,
            endpoints: Endpoints { metrics: self.metrics_address, otlp: self.otlp_address },
            memory_limit: self.memory_limit_bytes.or_else(memory::limit),
            timing: Timing {
                drain: self.drain_timeout,
                stop: self.stop_timeout,
                shutdown: self.shutdown_timeout,
                start: self.start_timeout,
                settle: self.settle_time,
                hang: self.hang_timeout,
                backoff: self.backoff,
                backoff_max: self.backoff_max,
                retry_refused: self.retry_refused,
            },
        }
    }
}

/// Reads `500ms`, `60s` or `10m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("'{text}' is not a duration: write 500ms, 60s or 10m"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("'{text}' has no unit that is known: write 500ms, 60s or 10m")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Install { dir } => println!("{}", install(&dir)?.display()),
        Command::Run(arguments) => {
            // The collector's own log has the same form and goes to the same place.
            tracing_subscriber::fmt().json().with_writer(std::io::stderr).init();
            run(arguments.options()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("10"), Err("'10' has no unit that is known: write 500ms, 60s or 10m".into()));
        assert_eq!(duration("-1s"), Err("'-1s' is not a duration: write 500ms, 60s or 10m".into()));
    }

    #[test]
    fn the_collectors_own_flags_are_left_to_it() {
        let cli = Cli::try_parse_from(["sojourn-sidecar", "run", "--", "/otelcol", "--feature-gates=x"]).unwrap();
        let Command::Run(arguments) = cli.command else { panic!("another command") };
        assert_eq!(arguments.command, ["/otelcol", "--feature-gates=x"]);
    }
}
