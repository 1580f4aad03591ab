//! Puts the engine together and runs it: the server is up before the model is loaded, and gone when what it was asked is done.

mod traced;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sojourn_contract::exit::{Reason, Termination};
use sojourn_contract::flag;
use sojourn_journey::record::Stamp;
use sojourn_journey::startup::Startup as StartupJourney;
use sojourn_journey::trace::Attributes;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::admin::{self, Admin};
use crate::backend::load::Device;
use crate::backend::load_error::LoadError;
use crate::cli::{self, Serve};
use crate::clock::Clock;
use crate::http::{self, Api, Startup};
use crate::hub::{self, Flags, HubError, Meter, Repository};
use crate::journeys::view::View;
use crate::loading::{self, Loading, Origin};
use crate::metrics::Metrics;
use crate::metrics::mfu::{Mfu, Peak, PeakSource};
use crate::metrics::steps::Steps;
use crate::model::{Location, Model, ModelError, Wishes};
use crate::scheduler::Scheduler;
use crate::scheduler::state::Limits;
use crate::served::{Served, ServedSlot};
use crate::telemetry::export::Exporter;
use traced::Traced;

/// Largest body of a request.
const MAX_BODY_BYTES: usize = 32 << 20;
/// How long the last spans may take on their way out.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Tokens in one step where the flag does not say: a piece of a prompt that others do not wait long for.
const STEP_TOKENS_ONE_BY_ONE: usize = 32;
/// The same on a backend that runs a batch.
const STEP_TOKENS_BATCH: u32 = 2048;

/// Serves a model until SIGTERM, or until it cannot.
pub async fn serve(arguments: Serve, clock: Clock) -> Result<(), Termination> {
    let began = clock.now();
    check_device(&arguments)?;
    if let Some(idle) = arguments.idle_gpu_memory_utilization() {
        tracing::warn!("{idle}");
    }
    if arguments.telemetry.enable_metrics {
        tracing::info!("metrics are always on: --{} changes nothing", flag::ENABLE_METRICS);
    }
    let traced = traced::start(&arguments.telemetry)?;
    let listener = bind(SocketAddr::new(arguments.host, arguments.port)).await?;
    let (startup, progress) = watch::channel(Startup {
        waiting_for: "the model's files".to_owned(),
        done_bytes: 0,
        total_bytes: None,
        stalled: false,
    });
    let slot = ServedSlot::default();
    let exporter = traced.as_ref().map(|traced| traced.exporter.clone());
    let tracing = traced.as_ref().map(Traced::tracing);
    let api = Api::new(slot.clone(), clock, tracing, http_settings(&arguments), progress);
    let metrics = api.metrics.clone();
    let view = traced.map(|traced| View::new(traced.registry, slot.clone(), clock, traced.resource));
    let admin = match arguments.telemetry.admin_port {
        0 => None,
        port => admin::start(port, Admin { api: api.clone(), view }).await,
    };

    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(http::serve(listener, api, async {
        // A sender that is gone means the same.
        drop(stopped.await);
    }));
    let result = tokio::select! {
        result = run(&arguments, clock, began, slot, startup, exporter.as_deref(), &metrics) => result,
        () = asked_to_stop() => Ok(()),
    };
    drop(stop);
    if server.await.is_err() {
        tracing::error!("the HTTP server panicked");
    }
    if let Some(admin) = admin {
        admin.abort();
    }
    if let Some(exporter) = exporter {
        exporter.shutdown(FLUSH_TIMEOUT).await;
    }
    result
}

/// Loads the model, then waits for its backend to fail; never returns otherwise.
async fn run(
    arguments: &Serve,
    clock: Clock,
    began: Stamp,
    slot: ServedSlot,
    startup: watch::Sender<Startup>,
    exporter: Option<&Exporter>,
    metrics: &Metrics,
) -> Result<(), Termination> {
    let (origin, wishes, stall) = (origin(arguments)?, wishes(arguments)?, arguments.timeouts.startup_timeout);
    let loading = loading::load(origin, wishes, clock, stall, startup).await;
    let Loading { model, stages, .. } = loading.map_err(|error| internal(format!("the loader panicked: {error}")))?;
    let outcome = model.map_err(|error| error.termination());
    if let Some(exporter) = exporter {
        let error = outcome.as_ref().err().map(|termination| (termination.reason, termination.message.clone()));
        let attributes = Attributes::default();
        exporter.startup(StartupJourney { began, ended: clock.now(), stages, error, attributes });
    }
    let (failed, failure) = oneshot::channel();
    let model = outcome?;
    let steps = steps(arguments, &model, clock, metrics);
    let served = start_scheduler(arguments, model, clock, steps, failed)?;
    let seconds = clock.now().monotonic - began.monotonic;
    metrics.model_loaded(&served.name, seconds);
    tracing::info!(model = served.name, max_model_len = served.max_model_len, seconds, "ready");
    slot.fill(served);
    match failure.await {
        Ok(error) => Err(internal(error)),
        // The loop ended because it was asked to.
        Err(_) => std::future::pending().await,
    }
}

fn start_scheduler(
    arguments: &Serve,
    model: Model,
    clock: Clock,
    steps: Steps,
    failed: oneshot::Sender<String>,
) -> Result<Served, Termination> {
    let capacity = &arguments.capacity;
    let one_by_one = model.backend.caps().max_batch == 1;
    let step_tokens = if one_by_one { STEP_TOKENS_ONE_BY_ONE } else { STEP_TOKENS_BATCH as usize };
    let limits = Limits {
        max_num_seqs: capacity.max_num_seqs as usize,
        max_num_batched_tokens: capacity.max_num_batched_tokens.map_or(step_tokens, |tokens| tokens as usize),
        max_queue_size: capacity.max_queue_size as usize,
        policy: capacity.scheduling_policy,
        queue_timeout: Some(arguments.timeouts.queue_timeout.as_secs_f64()).filter(|seconds| *seconds > 0.0),
        prefix_caching: !capacity.no_enable_prefix_caching,
    };
    let on_failure = move |error| drop(failed.send(error));
    let scheduler = Scheduler::start(limits, model.backend, clock, arguments.timeouts.step_stall_timeout, steps, on_failure)
        .map_err(|error| internal(format!("the scheduler's thread cannot be started: {error}")))?;
    Ok(Served {
        name: arguments.served_model_name.clone().unwrap_or_else(|| arguments.model.default_name()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        max_model_len: model.max_model_len,
        tool_call_format: arguments.tool_calls.tool_call_parser.or_else(|| model.text.tool_call_format()),
        generation: model.generation,
        text: model.text,
        scheduler,
    })
}

/// Says that a GPU cannot be used before a model is fetched for it.
fn check_device(arguments: &Serve) -> Result<(), Termination> {
    let checked = match (arguments.device, &arguments.model) {
        (Device::Cpu, _) => Ok(()),
        #[cfg(feature = "cuda")]
        (Device::Cuda, Location::Here(crate::model::Source::Scripted(_))) => Ok(()),
        #[cfg(feature = "cuda")]
        (device @ Device::Cuda, _) => crate::backend::mistralrs::device::open(device).map(drop),
        #[cfg(not(feature = "cuda"))]
        (Device::Cuda, _) => Err(LoadError::cpu_build()),
    };
    checked.map_err(|error: LoadError| ModelError::from(error).termination())
}

/// What is counted and logged of each step.
fn steps(arguments: &Serve, model: &Model, clock: Clock, metrics: &Metrics) -> Steps {
    let telemetry = &arguments.telemetry;
    let mfu = telemetry.enable_mfu_metrics.then(|| start_mfu(telemetry.peak_flops, model, clock, metrics)).flatten();
    Steps::new(metrics.scheduler().clone(), mfu, telemetry.enable_logging_iteration_details)
}

/// Model FLOPs, where the model says what it takes to count them.
fn start_mfu(stated: Option<f64>, model: &Model, clock: Clock, metrics: &Metrics) -> Option<Mfu> {
    let Some(architecture) = model.backend.architecture() else {
        tracing::warn!("--{} has no effect: this model does not say how much arithmetic it needs", flag::ENABLE_MFU_METRICS);
        return None;
    };
    let stated = stated.map(|flops| Peak { flops, source: PeakSource::Stated });
    let measured = || model.backend.measure_flops().map(|flops| Peak { flops, source: PeakSource::Measured });
    let peak = stated.or_else(measured);
    match peak {
        Some(Peak { flops, source }) => tracing::info!(flops, source = source.as_str(), "peak of model FLOPs utilisation"),
        None => tracing::warn!("the device's peak is not known: give --{} for the utilisation", flag::PEAK_FLOPS),
    }
    Some(Mfu::start(metrics, architecture, peak, clock))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Termination> {
    let listener = TcpListener::bind(address).await.map_err(|error| Termination {
        reason: Reason::AddressInUse,
        message: format!("cannot listen on {address}: {error}; choose another address or --{}", flag::PORT),
    })?;
    let address = listener.local_addr().map_err(|error| internal(error.to_string()))?;
    tracing::info!(%address, "listening");
    Ok(listener)
}

fn http_settings(arguments: &Serve) -> http::Settings {
    let timeouts = &arguments.timeouts;
    http::Settings {
        request_timeout: Some(timeouts.request_timeout).filter(|timeout| !timeout.is_zero()),
        client_stall_timeout: timeouts.client_stall_timeout,
        max_body_bytes: MAX_BODY_BYTES,
        // An empty variable is one that nobody set.
        api_key: arguments.api_key.clone().filter(|key| !key.is_empty()),
        drain_timeout: timeouts.drain_timeout,
    }
}

/// Fetches a model into the cache and says where it is there.
pub async fn download(arguments: cli::Download) -> Result<PathBuf, Termination> {
    let failed = |error: HubError| Termination { reason: error.reason(), message: error.to_string() };
    let patience = arguments.startup_timeout;
    let wanted = hub_download(arguments.model, &arguments.hub, patience).map_err(failed)?;
    let (progress, _) =
        watch::channel(Startup { waiting_for: String::new(), done_bytes: 0, total_bytes: None, stalled: false });
    let cached = loading::download(&wanted, &Meter::default(), patience, &progress).await.map_err(failed)?;
    Ok(cached.path)
}

fn origin(arguments: &Serve) -> Result<Origin, Termination> {
    match &arguments.model {
        Location::Here(source) => {
            if arguments.hub.revision.is_some() {
                tracing::warn!("--{} does nothing: the model is no repository of the Hugging Face Hub", flag::REVISION);
            }
            Ok(Origin::Here(source.clone()))
        }
        Location::Hub(repository) => hub_download(repository.clone(), &arguments.hub, arguments.timeouts.startup_timeout)
            .map(|download| Origin::Hub(Box::new(download)))
            .map_err(|error| Termination { reason: error.reason(), message: error.to_string() }),
    }
}

fn hub_download(repository: Repository, flags: &Flags, patience: Duration) -> Result<hub::Download, HubError> {
    let settings = hub::Settings::read(flags, patience, |name| std::env::var(name).ok())?;
    hub::Download::new(repository, flags, settings)
}

fn wishes(arguments: &Serve) -> Result<Wishes, Termination> {
    let template = arguments.chat_template.as_ref().map(|path| {
        std::fs::read_to_string(path).map_err(|error| {
            invalid(format!("cannot read the chat template {}: {error}; see --{}", path.display(), flag::CHAT_TEMPLATE))
        })
    });
    let capacity = &arguments.capacity;
    Ok(Wishes {
        max_model_len: capacity.max_model_len,
        device: arguments.device,
        kv_cache_tokens: capacity.kv_cache_tokens,
        gpu_memory_utilization: capacity.gpu_memory_utilization,
        max_num_seqs: capacity.max_num_seqs,
        step_tokens: capacity.max_num_batched_tokens.unwrap_or(STEP_TOKENS_BATCH),
        chat_template: template.transpose()?,
        generation_config: arguments.generation_config.clone(),
        generation_overrides: arguments.override_generation_config.clone(),
        dtype: arguments.dtype,
    })
}

/// Returns on SIGTERM or SIGINT.
async fn asked_to_stop() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            // Without a handler the signal's default action ends the process.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => tracing::info!("SIGTERM: finishing what runs"),
        () = wait(SignalKind::interrupt()) => tracing::info!("SIGINT: finishing what runs"),
    }
}

fn invalid(message: String) -> Termination {
    Termination { reason: Reason::InvalidConfiguration, message }
}

fn internal(message: String) -> Termination {
    Termination { reason: Reason::Internal, message }
}
