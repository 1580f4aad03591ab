//! An engine in the test's own process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sojourn_contract::journey::{AbortPhase, AbortReason, Detail, Outcome};
use sojourn_engine::backend::scripted::{EOS, Script, Scripted};
use sojourn_engine::clock::Clock;
use sojourn_engine::http::{self, Api, Settings, Startup};
use sojourn_engine::journeys::registry::Registry;
use sojourn_engine::metrics::steps::Steps;
use sojourn_engine::model::generation_config::GenerationConfig;
use sojourn_engine::recorder::Sink;
use sojourn_engine::scheduler::Scheduler;
use sojourn_engine::scheduler::state::{Limits, Policy};
use sojourn_engine::served::{Served, ServedSlot};
use sojourn_engine::telemetry::Tracing;
use sojourn_engine::telemetry::context::RequestContext;
use sojourn_engine::telemetry::export::Exporter;
use sojourn_engine::telemetry::export::counts::Counts;
use sojourn_engine::telemetry::propagation::Propagators;
use sojourn_engine::text::{ChatTemplate, Text, bytes};
use sojourn_journey::check::check;
use sojourn_journey::record::Journey;
use sojourn_journey::spans::describe;
use sojourn_journey::trace::{Span, Trace};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Longest wait for something that must happen.
pub const SOON: Duration = Duration::from_secs(20);

/// Journeys that are kept after their end.
pub const HISTORY: usize = 8;

/// Name of the served model.
pub const MODEL: &str = "scripted";

/// A chat template that knows tools, and by its tags how calls are written.
pub const TOOL_TEMPLATE: &str = "{% for tool in tools or [] %}{{ tool.function.name }}: {{ tool.function.description }}\n{% endfor %}\
    {% if tools %}Call them within <tool_call> tags.\n{% endif %}\
    {% for message in messages %}<|turn|>{{ message.role }}: {{ message.content }}\
    {% for call in message.tool_calls or [] %}{{ call.function.name }} of {{ call.function.arguments.city }}{% endfor %}\n{% endfor %}\
    {% if add_generation_prompt %}<|turn|>assistant: {% endif %}";

/// Baggage members that journeys carry.
fn baggage() -> Arc<[String]> {
    ["session.id".to_owned()].into()
}

/// What differs between tests.
pub struct Setup {
    pub script: Script,
    pub limits: Limits,
    pub settings: Settings,
    pub stall_timeout: Duration,
    pub max_model_len: u32,
    pub template: &'static str,
    pub generation: GenerationConfig,
    pub tracing: bool,
    pub propagators: Propagators,
    /// Where journeys go instead of [`Engine::journey`].
    pub exporter: Option<Arc<Exporter>>,
    pub loaded: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            script: Script { length: 20, ..Script::default() },
            limits: Limits {
                max_num_seqs: 8,
                max_num_batched_tokens: 2048,
                max_queue_size: 16,
                policy: Policy::Fcfs,
                queue_timeout: None,
                prefix_caching: true,
            },
            settings: Settings {
                request_timeout: None,
                client_stall_timeout: SOON,
                max_body_bytes: 1 << 20,
                api_key: None,
                drain_timeout: SOON,
            },
            stall_timeout: Duration::from_secs(30),
            max_model_len: 8192,
            template: bytes::TEMPLATE,
            generation: GenerationConfig::default(),
            tracing: true,
            propagators: Propagators::default(),
            exporter: None,
            loaded: true,
        }
    }
}

impl Setup {
    /// One token a step, this far apart, `length` of them.
    pub fn slow(length: u32, token: Duration) -> Self {
        Self { script: Script { length, step: token, ..Script::default() }, ..Self::default() }
    }

    /// One sequence at a time.
    pub fn one_at_a_time(mut self) -> Self {
        self.limits.max_num_seqs = 1;
        self
    }

    pub async fn start(self) -> Engine {
        super::logs::ask_every_time();
        let (sink, journeys) = mpsc::unbounded_channel();
        let (next, counts): (Arc<dyn Sink<RequestContext>>, Counts) = match self.exporter {
            Some(exporter) => (exporter.clone(), exporter.counts().clone()),
            None => (Arc::new(Collected(sink)), Counts::default()),
        };
        let registry = self.tracing.then(|| Arc::new(Registry::new(HISTORY, next)));
        let tracing = registry.clone().map(|registry| Tracing {
            sink: registry,
            counts,
            propagators: self.propagators,
            baggage: baggage(),
        });
        let clock = Clock::start();
        let backend = Box::new(Scripted::new(self.script));
        let slot = ServedSlot::default();
        let startup = Startup { waiting_for: "the weights".to_owned(), done_bytes: 1, total_bytes: Some(2), stalled: false };
        let (startup, progress) = watch::channel(startup);
        let api = Api::new(slot.clone(), clock, tracing, self.settings, progress);
        let steps = Steps::new(api.metrics.scheduler().clone(), None, false);
        let scheduler = Scheduler::start(self.limits, backend, clock, self.stall_timeout, steps, drop::<String>).unwrap();
        let template = ChatTemplate::compile(self.template.to_owned(), String::new(), String::new()).unwrap();
        let text = Arc::new(Text::new(Arc::new(bytes::tokenizer()), Some(template), vec![EOS]));
        let served = Served {
            name: MODEL.to_owned(),
            created: 1_700_000_000,
            max_model_len: self.max_model_len,
            tool_call_format: text.tool_call_format(),
            generation: self.generation,
            text,
            scheduler: scheduler.clone(),
        };
        if self.loaded {
            slot.fill(served);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(http::serve(listener, api.clone(), async { drop(stopped.await) }));
        Engine { address, api, scheduler, startup, registry, journeys, stop: Some(stop), server }
    }
}

struct Collected(mpsc::UnboundedSender<(Journey, RequestContext)>);

impl Sink<RequestContext> for Collected {
    fn complete(&self, journey: Journey, context: RequestContext) {
        drop(self.0.send((journey, context)));
    }
}

/// A running engine.
pub struct Engine {
    pub address: SocketAddr,
    pub api: Arc<Api>,
    pub scheduler: Scheduler,
    pub startup: watch::Sender<Startup>,
    /// What the admin port looks at; `None` with tracing off.
    pub registry: Option<Arc<Registry>>,
    journeys: mpsc::UnboundedReceiver<(Journey, RequestContext)>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Engine {
    /// The next journey that is complete; it must be a legal one.
    pub async fn journey(&mut self) -> Told {
        let next = tokio::time::timeout(SOON, self.journeys.recv()).await.expect("a journey in time");
        let (journey, context) = next.expect("the engine runs");
        let mut id = context.span_id;
        let next_id = || {
            id = id.wrapping_add(1);
            id
        };
        let frame = context.clone().into_frame(Detail::Phases);
        let spans = describe(&journey, &frame, next_id);
        let report = check(&Trace { spans: spans.clone() });
        assert!(report.is_legal(), "{report}\n{journey:#?}");
        Told { journey, context, request: spans.into_iter().next().expect("llm_request") }
    }

    /// No journey is complete.
    pub fn assert_no_journey(&mut self) {
        assert!(self.journeys.try_recv().is_err());
    }

    /// Begins the shutdown.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for the server's end.
    pub async fn ended(&mut self) {
        tokio::time::timeout(SOON, &mut self.server).await.expect("the server ends in time").unwrap();
    }

    /// Waits until so many sequences run and wait.
    pub async fn load(&self, running: usize, waiting: usize) {
        let reached = async {
            loop {
                let load = self.scheduler.load();
                if (load.running, load.waiting) == (running, waiting) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(SOON, reached).await;
        assert!(reached.is_ok(), "the load stays at {:?}", self.scheduler.load());
    }
}

/// A journey as a test sees it.
pub struct Told {
    pub journey: Journey,
    pub context: RequestContext,
    /// The span of the request.
    pub request: Span,
}

impl Told {
    /// Names of the events of the API layer.
    pub fn api(&self) -> Vec<&str> {
        self.request.events.iter().map(|event| event.name.trim_start_matches("api.")).collect()
    }

    /// Last event of each sequence, as written on its span.
    pub fn finished(&self) -> Vec<String> {
        let last = |core: &Vec<sojourn_journey::record::CoreRecord>| format!("{:?}", core.last().expect("an event").event);
        self.journey.cores.iter().map(last).collect()
    }

    pub fn end(&self) -> (Outcome, Option<AbortReason>, Option<AbortPhase>) {
        let facts = self.journey.facts();
        (facts.outcome.expect("complete"), facts.abort_reason, facts.abort_phase)
    }

    /// An attribute of the request's span, as text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.request.attributes.get(name).map(ToString::to_string)
    }
}
