//! Log lines, for people or as JSON. A line that concerns a request carries `request_id` and, with tracing on, `trace_id` and
//! `span_id` (of `llm_request`), the names by which OpenTelemetry's log data model correlates: in JSON as top-level fields,
//! whether they stand on the event or on a span around it.

use std::fmt;
use std::io::IsTerminal;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::cli::LogFormat;
use crate::telemetry::environment::Environment;
use crate::telemetry::settings::log_directive;

/// What is logged where `RUST_LOG` does not say.
const DEFAULT_FILTER: &str = "info,mistralrs_core=error,mistralrs_quant=error";

/// Logs to standard error from now on; `RUST_LOG` filters, or else `OTEL_LOG_LEVEL`.
pub fn start(format: LogFormat) {
    let environment = Environment::new(&|name| std::env::var(name).ok());
    let default = [DEFAULT_FILTER.to_owned()].into_iter().chain(log_directive(&environment)).collect::<Vec<_>>().join(",");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colored = std::io::stderr().is_terminal();
    match format {
        LogFormat::Text => text(filter, std::io::stderr, colored).init(),
        LogFormat::Json => json(filter, std::io::stderr).init(),
    }
    environment.into_warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
}

/// Lines for people.
pub fn text<W>(filter: EnvFilter, writer: W, colored: bool) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colored);
    Registry::default().with(filter).with(lines)
}

/// One JSON object a line.
pub fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false).event_format(JsonLine);
    Registry::default().with(filter).with(SpanFields).with(lines)
}

/// Keeps the fields of spans for the lines inside of them.
struct SpanFields;

/// Fields of one span.
struct Kept(Map<String, Value>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanFields {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Kept(fields.0));
    }
}

/// Writes an event as one JSON object.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Fields::default();
        let text = |text: &str| Value::from(text);
        line.0.insert("timestamp".to_owned(), text(&timestamp()));
        line.0.insert("level".to_owned(), text(event.metadata().level().as_str()));
        line.0.insert("target".to_owned(), text(event.metadata().target()));
        // From the outermost span to the event: the nearest word counts.
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(Kept(fields)) = span.extensions().get::<Kept>() {
                line.0.extend(fields.clone());
            }
        }
        event.record(&mut line);
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// Now, in RFC 3339 with microseconds, as tracing-subscriber writes it.
fn timestamp() -> String {
    use tracing_subscriber::fmt::time::{FormatTime, SystemTime as Rfc3339};
    let mut text = String::new();
    match Rfc3339.format_time(&mut Writer::new(&mut text)) {
        Ok(()) => text,
        Err(_) => format!("{:?}", SystemTime::now()),
    }
}

/// Collects fields as JSON values.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
