//! `make bench`: what tracing costs, how long the engine itself takes, and how fast it is beside others. `make bench-cluster`:
//! how long a change takes to its effect, and how the operator fares with very many services.
//!
//! ```text
//! sections (tracing_cost, engine_time, journey_event, export_size, speed) ──> report ──> docs/benchmarks.md
//!      └─ client, open_loop ──> engine (a process of its own) ──OTLP──> receiver (in this process)
//! sections (time_to_effect, many_services) ──> report ──> docs/benchmarks-cluster.md
//!      └─ lab, service, change ──> the sandbox cluster
//! ```
//! Whatever is compared runs in turns (A B C A B C ...), in processes started anew for each turn, so that what the machine
//! does meanwhile, and where a process happens to lie in memory, touches all of it.

pub mod client;
pub mod engine_time;
pub mod export_size;
pub mod journey_event;
pub mod llama_cpp;
pub mod machine;
pub mod many_services;
pub mod open_loop;
pub mod page;
pub mod programs;
pub mod prompts;
pub mod report;
pub mod speed;
pub mod subject;
pub mod time_to_effect;
pub mod tracing_cost;

use std::path::PathBuf;

use anyhow::Result;

use report::Section;

/// What there is to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Tracing off and on, with the real model.
    TracingCost,
    /// The engine's own time at 1,000 requests a second, with a scripted model.
    EngineTime,
    /// One event on the step path.
    JourneyEvent,
    /// Bytes of a kept journey.
    ExportSize,
    /// Speed at 1, 2, 4 and 8 clients, beside other servers.
    Speed,
    /// From an edit of a running service to its effect; on the sandbox cluster.
    TimeToEffect,
    /// A thousand services; on the sandbox cluster.
    ManyServices,
}

impl Part {
    /// Heading of its section.
    pub fn title(self) -> &'static str {
        match self {
            Self::TracingCost => "What tracing costs, with the model",
            Self::EngineTime => "The engine's own time",
            Self::JourneyEvent => "One event on the step path",
            Self::ExportSize => "Bytes of a kept journey",
            Self::Speed => "Speed, beside others",
            Self::TimeToEffect => "From an edit to its effect",
            Self::ManyServices => "A thousand services",
        }
    }
}

/// How much is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The model: a GGUF file, or `scripted:...` to try the program without one.
    pub model: String,
    /// Turns of each thing that is compared, but for the comparison with other servers.
    pub rounds: usize,
    /// Turns of each server.
    pub server_rounds: usize,
    /// Requests of each client in one turn.
    pub requests: usize,
    /// Tokens of each answer.
    pub tokens: u32,
    /// Seconds of open load in one turn.
    pub open_seconds: u32,
    /// Requests a second of open load.
    pub open_rate: u32,
    /// Requests that are active at once where their memory is measured.
    pub active: usize,
    /// Journeys whose bytes are counted.
    pub journeys: usize,
    /// Turns of each edit of a running service.
    pub edits: usize,
    /// Services that the operator gets at once.
    pub services: usize,
    /// Servers to leave out.
    pub without: Vec<speed::Server>,
    /// Where what is built is kept.
    pub cache: PathBuf,
}

impl Plan {
    /// The measurement that the document shows.
    pub fn full(model: String, cache: PathBuf) -> Self {
        Self {
            model,
            rounds: 5,
            server_rounds: 2,
            requests: 2,
            tokens: 48,
            open_seconds: 10,
            open_rate: 1_000,
            active: 500,
            journeys: 2_048,
            edits: 5,
            services: 1_000,
            without: Vec::new(),
            cache,
        }
    }

    /// A short one, to try the program.
    #[must_use]
    pub fn quick(self) -> Self {
        Self {
            rounds: 2,
            server_rounds: 1,
            requests: 1,
            tokens: 16,
            open_seconds: 2,
            active: 100,
            journeys: 256,
            edits: 1,
            services: 50,
            ..self
        }
    }
}

/// Measures these parts, in order. One that fails has a section without tables, and the others are measured all the same: a run
/// takes too long to be lost.
pub async fn measure(plan: &Plan, parts: &[Part]) -> Vec<Section> {
    let mut sections = Vec::new();
    for part in parts {
        sections.push(measure_part(plan, *part).await.unwrap_or_else(|error| {
            say(&format!("{part:?} could not be measured: {error:#}"));
            let how = "An error ended this part of the run; there are no numbers.".to_owned();
            Section { title: part.title(), how, ..Section::default() }
        }));
    }
    sections
}

async fn measure_part(plan: &Plan, part: Part) -> Result<Section> {
    match part {
        Part::TracingCost => tracing_cost::measure(plan).await,
        Part::EngineTime => engine_time::measure(plan).await,
        Part::JourneyEvent => journey_event::measure().await,
        Part::ExportSize => export_size::measure(plan).await,
        Part::Speed => speed::measure(plan).await,
        Part::TimeToEffect => time_to_effect::measure(plan).await,
        Part::ManyServices => many_services::measure(plan).await,
    }
}

/// Tells a person what is being done.
pub fn say(words: &str) {
    eprintln!("bench: {words}");
}
