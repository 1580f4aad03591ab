//! How journeys leave the engine: the flag, and the `OTEL_*` variables of the specification. Pure: the environment is an
//! argument. A wrong value is warned of and counts as unset, except where going on would send journeys to the wrong place.

use std::time::Duration;

use super::TelemetryError;
use super::destination::Receiver;
use super::environment::Environment;
use super::limits::Limits;
use super::sampler::Sampler;

/// How journeys leave the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where they go; `None` where the specification's variables say that nothing is exported.
    pub destination: Option<Destination>,
    /// Which journeys are exported at all.
    pub sampler: Sampler,
    /// What their spans may hold.
    pub limits: Limits,
    /// How they wait and travel.
    pub batching: Batching,
}

/// Where journeys go.
#[derive(Debug, Clone)]
pub enum Destination {
    /// To an OTLP receiver.
    Otlp(Box<Receiver>),
    /// To standard output, drawn for people.
    Console,
}

/// How journeys wait and travel (`OTEL_BSP_*`). The variables count spans in the SDKs and whole journeys here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Longest time that a journey waits for others to travel with.
    pub schedule_delay: Duration,
    /// How long one request is sent again before it is given up, so that one that nobody takes does not hold up all others.
    pub export_timeout: Duration,
    /// Journeys that may wait.
    pub queue: usize,
    /// Bytes that may wait, as counted by the queue.
    pub queue_bytes: usize,
    /// Journeys in one request.
    pub batch: usize,
    /// How long a receiver is left alone after one failure; more failures in a row double it.
    pub retry_pause: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            schedule_delay: Duration::from_secs(1),
            export_timeout: Duration::from_secs(300),
            queue: 4_096,
            queue_bytes: 64 << 20,
            // Small enough that making and sending one takes no processor away from requests for long.
            batch: 32,
            retry_pause: Duration::from_millis(250),
        }
    }
}

impl Batching {
    /// Largest queue and batch that a variable may ask for; the bound in bytes holds anyway.
    const MOST: usize = 1 << 20;

    fn read(env: &Environment<'_>) -> Self {
        let default = Self::default();
        let count = |name| {
            let valid = |value: &str| value.parse().ok().filter(|count| (1..=Self::MOST).contains(count));
            env.parsed(&[name], "a whole number from 1 to 1048576", valid)
        };
        let queue = count("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(default.queue);
        let asked = count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
        if let Some(asked) = asked.filter(|asked| *asked > queue) {
            env.warn(format!("OTEL_BSP_MAX_EXPORT_BATCH_SIZE is {asked}, more than the queue holds: {queue} is used"));
        }
        Self {
            schedule_delay: env.milliseconds(&["OTEL_BSP_SCHEDULE_DELAY"]).unwrap_or(default.schedule_delay),
            export_timeout: env.milliseconds(&["OTEL_BSP_EXPORT_TIMEOUT"]).unwrap_or(default.export_timeout),
            queue,
            batch: asked.unwrap_or(default.batch).min(queue),
            ..default
        }
    }
}

impl Settings {
    /// Reads `--otlp-traces-endpoint` and the environment.
    ///
    /// # Errors
    /// The destination cannot be told.
    pub fn read(flag: Option<&str>, env: &Environment<'_>) -> Result<Self, TelemetryError> {
        const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
        let disabled = env.truth(&["OTEL_SDK_DISABLED"]).unwrap_or(false);
        let exporter = env.get(EXPORTER).unwrap_or_else(|| "otlp".to_owned());
        let destination = match exporter.as_str() {
            _ if disabled => None,
            "none" => None,
            "console" => Some(Destination::Console),
            "otlp" => Some(Destination::Otlp(Box::new(Receiver::read(flag, env)?))),
            other => return Err(TelemetryError::variable(EXPORTER, other, "write 'otlp', 'console' or 'none'")),
        };
        Ok(Self { destination, sampler: Sampler::read(env), limits: Limits::read(env), batching: Batching::read(env) })
    }
}

/// The part of the log's filter that `OTEL_LOG_LEVEL` sets: how much is told of the export of traces.
pub fn log_directive(env: &Environment<'_>) -> Option<String> {
    let level = |value: &str| match value.to_ascii_lowercase().as_str() {
        "none" | "off" => Some("off"),
        "error" | "fatal" => Some("error"),
        "warn" | "warning" => Some("warn"),
        "info" => Some("info"),
        "debug" => Some("debug"),
        "trace" | "verbose" | "all" => Some("trace"),
        _ => None,
    };
    let level = env.parsed(&["OTEL_LOG_LEVEL"], "none, error, warn, info, debug or trace", level)?;
    Some(format!("sojourn_engine::telemetry={level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(pairs: &[(&str, &str)], body: impl Fn(&Environment<'_>) -> T) -> (T, Vec<String>) {
        let lookup = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let environment = Environment::new(&lookup);
        (body(&environment), environment.into_warnings())
    }

    fn read(pairs: &[(&str, &str)]) -> Settings {
        with(pairs, |env| Settings::read(None, env).unwrap()).0
    }

    #[test]
    fn an_export_that_is_switched_off_has_no_destination() {
        assert!(read(&[("OTEL_SDK_DISABLED", "TRUE")]).destination.is_none());
        assert!(read(&[("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "nonsense")]).destination.is_none());
        assert!(read(&[("OTEL_TRACES_EXPORTER", "none")]).destination.is_none());
    }

    #[test]
    fn only_true_disables() {
        let (settings, warnings) = with(&[("OTEL_SDK_DISABLED", "1")], |env| Settings::read(None, env).unwrap());
        assert!(settings.destination.is_some());
        assert_eq!(warnings, ["OTEL_SDK_DISABLED is '1', which counts as unset: write 'true' or 'false'"]);
    }

    #[test]
    fn the_exporter_is_otlp_unless_another_one_is_named() {
        assert!(matches!(read(&[]).destination, Some(Destination::Otlp(_))));
        assert!(matches!(read(&[("OTEL_TRACES_EXPORTER", " ")]).destination, Some(Destination::Otlp(_))));
        assert!(matches!(read(&[("OTEL_TRACES_EXPORTER", "console")]).destination, Some(Destination::Console)));
        let unknown = with(&[("OTEL_TRACES_EXPORTER", "zipkin")], |env| Settings::read(None, env).unwrap_err().to_string());
        assert_eq!(unknown.0, "OTEL_TRACES_EXPORTER is 'zipkin': write 'otlp', 'console' or 'none'");
    }

    #[test]
    fn the_batch_processors_variables_shape_the_queue() {
        assert_eq!(read(&[]).batching, Batching::default());
        let pairs = [
            ("OTEL_BSP_SCHEDULE_DELAY", "5"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "30000"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16"),
        ];
        let batching = read(&pairs).batching;
        assert_eq!((batching.schedule_delay.as_millis(), batching.export_timeout.as_secs()), (5, 30));
        assert_eq!((batching.queue, batching.batch), (64, 16));
    }

    #[test]
    fn a_wrong_number_is_warned_of_and_the_default_is_used() {
        let pairs = [("OTEL_BSP_SCHEDULE_DELAY", "1s"), ("OTEL_BSP_MAX_QUEUE_SIZE", "0")];
        let (settings, warnings) = with(&pairs, |env| Settings::read(None, env).unwrap());
        assert_eq!(settings.batching, Batching::default());
        let found: Vec<&str> = warnings.iter().filter_map(|warning| warning.split(',').next()).collect();
        assert_eq!(found, ["OTEL_BSP_MAX_QUEUE_SIZE is '0'", "OTEL_BSP_SCHEDULE_DELAY is '1s'"]);
    }

    #[test]
    fn a_batch_is_no_larger_than_the_queue() {
        let pairs = [("OTEL_BSP_MAX_QUEUE_SIZE", "8"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")];
        let (settings, warnings) = with(&pairs, |env| Settings::read(None, env).unwrap());
        assert_eq!((settings.batching.batch, warnings.len()), (8, 1));
        let (small, warnings) = with(&pairs[..1], |env| Settings::read(None, env).unwrap());
        assert_eq!((small.batching.batch, warnings.len()), (8, 0));
    }

    #[test]
    fn the_log_level_is_that_of_the_export() {
        let directive = |value| with(&[("OTEL_LOG_LEVEL", value)], log_directive);
        assert_eq!(directive("DEBUG").0.as_deref(), Some("sojourn_engine::telemetry=debug"));
        assert_eq!(directive("none").0.as_deref(), Some("sojourn_engine::telemetry=off"));
        assert_eq!(directive(""), (None, vec![]));
        assert_eq!((directive("loud").0, directive("loud").1.len()), (None, 1));
    }
}
