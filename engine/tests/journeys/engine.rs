//! Engines of random size and patience, whose connections are in memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use sojourn_engine::backend::scripted::{EOS, Script, Scripted};
use sojourn_engine::clock::Clock;
use sojourn_engine::http::{self, Accept, Api, Settings, Startup};
use sojourn_engine::metrics::steps::Steps;
use sojourn_engine::model::generation_config::GenerationConfig;
use sojourn_engine::recorder::{Recorder, Sink};
use sojourn_engine::scheduler::Scheduler;
use sojourn_engine::scheduler::state::{Limits, Policy};
use sojourn_engine::served::{Served, ServedSlot};
use sojourn_engine::telemetry::Tracing;
use sojourn_engine::telemetry::context::RequestContext;
use sojourn_engine::telemetry::export::counts::Counts;
use sojourn_engine::telemetry::propagation::Propagators;
use sojourn_engine::text::{ChatTemplate, Text, bytes};
use sojourn_journey::record::Journey;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::ask::pick;

pub const MODEL: &str = "scripted";
pub const API_KEY: &str = "key";
pub const MAX_BODY_BYTES: usize = 4096;
const MAX_MODEL_LEN: u32 = 240;
/// Longest wait for something that must happen.
pub const SOON: Duration = Duration::from_secs(60);

/// A complete journey with what the API layer knows of it.
pub type Told = (Journey, RequestContext);

/// What differs between engines.
#[derive(Debug)]
pub struct Setup {
    script: Script,
    limits: Limits,
    settings: Settings,
}

impl Setup {
    /// Draws an engine: small enough that requests are in each other's way.
    pub fn draw(dice: &mut StdRng) -> Self {
        let block = *pick(dice, &[4, 16]);
        let script = Script {
            batch: *pick(dice, &[1, 8]),
            block,
            blocks: dice.random_range(100..320) / block,
            length: dice.random_range(2..40),
            step: Duration::from_micros(*pick(dice, &[0, 50, 200, 500])),
            token: Duration::from_micros(*pick(dice, &[0, 0, 5])),
            ..Script::default()
        };
        let limits = Limits {
            max_num_seqs: dice.random_range(1..=8),
            max_num_batched_tokens: dice.random_range(2..64),
            max_queue_size: dice.random_range(1..=20),
            policy: *pick(dice, &[Policy::Fcfs, Policy::Priority]),
            queue_timeout: pick(dice, &[None, None, Some((3, 15))])
                .map(|(least, most)| millis(dice, least, most).as_secs_f64()),
            prefix_caching: dice.random_bool(0.5),
        };
        let settings = Settings {
            request_timeout: pick(dice, &[None, None, None, Some((5, 50))]).map(|(least, most)| millis(dice, least, most)),
            client_stall_timeout: millis(dice, 10, 30),
            max_body_bytes: MAX_BODY_BYTES,
            api_key: dice.random_bool(0.5).then(|| API_KEY.to_owned()),
            drain_timeout: millis(dice, 0, 20),
        };
        Self { script, limits, settings }
    }

    /// Starts it.
    pub fn start(self) -> Engine {
        let (told, journeys) = mpsc::unbounded_channel();
        let (begun, requests_begun) = watch::channel(0);
        let propagators = Propagators::default();
        let sink = Arc::new(Collected { told, begun });
        let tracing = Tracing { sink, counts: Counts::default(), propagators, baggage: ["session.id".to_owned()].into() };
        let clock = Clock::start();
        let slot = ServedSlot::default();
        let (startup, progress) =
            watch::channel(Startup { waiting_for: String::new(), done_bytes: 0, total_bytes: None, stalled: false });
        let api = Api::new(slot.clone(), clock, Some(tracing), self.settings, progress);
        let steps = Steps::new(api.metrics.scheduler().clone(), None, false);
        let (stop, mut stopped) = watch::channel(false);
        let on_failure = {
            let stop = stop.clone();
            move |_: String| stop.send_modify(|stop| *stop = true)
        };
        let backend = Box::new(Scripted::new(self.script));
        let scheduler = Scheduler::start(self.limits, backend, clock, SOON, steps, on_failure).unwrap();
        let template = ChatTemplate::compile(bytes::TEMPLATE.to_owned(), String::new(), String::new()).unwrap();
        let text = Arc::new(Text::new(Arc::new(bytes::tokenizer()), Some(template), vec![EOS]));
        slot.fill(Served {
            name: MODEL.to_owned(),
            created: 0,
            max_model_len: MAX_MODEL_LEN,
            tool_call_format: text.tool_call_format(),
            generation: GenerationConfig::default(),
            text,
            scheduler: scheduler.clone(),
        });
        let (connect, connections) = mpsc::unbounded_channel();
        // A stop sender that is gone means a stop, too.
        let shutdown = async move { drop(stopped.wait_for(|stop| *stop).await) };
        let server = tokio::spawn(http::serve(InMemory(connections), api.clone(), shutdown));
        Engine { api, scheduler, connect, requests_begun, journeys, stop, server, startup }
    }
}

fn millis(dice: &mut StdRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(dice.random_range(least..most))
}

/// Connections that the clients made.
struct InMemory(mpsc::UnboundedReceiver<DuplexStream>);

impl Accept for InMemory {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(stream) => Ok(stream),
            // Nobody will ever connect again.
            None => std::future::pending().await,
        }
    }
}

struct Collected {
    told: mpsc::UnboundedSender<Told>,
    begun: watch::Sender<u64>,
}

impl Sink<RequestContext> for Collected {
    fn complete(&self, journey: Journey, context: RequestContext) {
        drop(self.told.send((journey, context)));
    }

    fn began(&self, _: &Arc<Recorder>) {
        self.begun.send_modify(|begun| *begun += 1);
    }
}

/// A running engine.
pub struct Engine {
    pub api: Arc<Api>,
    pub scheduler: Scheduler,
    pub connect: mpsc::UnboundedSender<DuplexStream>,
    pub requests_begun: watch::Receiver<u64>,
    pub journeys: mpsc::UnboundedReceiver<Told>,
    pub stop: watch::Sender<bool>,
    pub server: JoinHandle<()>,
    /// The API looks at its other end.
    #[allow(dead_code)]
    startup: watch::Sender<Startup>,
}
