//! How fast the engine is at 1, 2, 4 and 8 clients, beside mistral.rs's own engine and llama.cpp on the same file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use super::client::{Burst, closed_loop};
use super::prompts::Prompts;
use super::report::{Bound, Section, Table, Unit, Verdict};
use super::subject::{Subject, Tracing};
use super::{Part, Plan, llama_cpp, programs, say};
use crate::local::Local;
use crate::statistics::{Spread, percentile};

const CLIENTS: [usize; 4] = [1, 2, 4, 8];

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Server {
    /// Ours, tracing on.
    Sojourn,
    /// mistral.rs 0.8.1's own engine.
    Mistralrs,
    /// llama.cpp's own server.
    LlamaCpp,
}

impl Server {
    /// In the order of the turns.
    const ALL: [Self; 3] = [Self::Sojourn, Self::Mistralrs, Self::LlamaCpp];

    fn name(self) -> &'static str {
        match self {
            Self::Sojourn => "Sojourn",
            Self::Mistralrs => "mistral.rs 0.8.1",
            Self::LlamaCpp => "llama.cpp",
        }
    }
}

/// What one turn gave.
#[derive(Debug, Clone, PartialEq)]
struct Turn {
    tokens_per_second: f64,
    first_tokens: Vec<f64>,
    worst_gap: f64,
}

impl From<&Burst> for Turn {
    fn from(burst: &Burst) -> Self {
        Self { tokens_per_second: burst.tokens_per_second(), first_tokens: burst.first_tokens(), worst_gap: burst.worst_gap() }
    }
}

/// Turns by server and clients.
type Turns = BTreeMap<(Server, usize), Vec<Turn>>;

/// Measures it.
pub async fn measure(plan: &Plan) -> Result<Section> {
    let mut programs = BTreeMap::new();
    let mut notes = Vec::new();
    for server in Server::ALL.into_iter().filter(|server| *server != Server::Sojourn) {
        match program(server, plan).await {
            Ok(Some(program)) => drop(programs.insert(server, program)),
            Ok(None) => notes.push(format!("{} was left out of this run.", server.name())),
            Err(error) => {
                say(&format!("{} is not measured: {error:#}", server.name()));
                notes.push(format!("{} could not be measured: its server could not be built here.", server.name()));
            }
        }
    }
    let mut turns = Turns::new();
    for round in 1..=plan.server_rounds {
        for server in Server::ALL {
            let program = programs.get(&server);
            if program.is_some() || server == Server::Sojourn {
                say(&format!("speed: round {round} of {}, {}", plan.server_rounds, server.name()));
                for (clients, turn) in one_round(server, program.map(PathBuf::as_path), plan).await? {
                    turns.entry((server, clients)).or_default().push(turn);
                }
            }
        }
    }
    Ok(section(plan, &turns, notes))
}

/// The other servers' programs; `None` for one that is to be left out.
async fn program(server: Server, plan: &Plan) -> Result<Option<PathBuf>> {
    if plan.without.contains(&server) {
        return Ok(None);
    }
    match server {
        Server::Sojourn => Ok(None),
        Server::Mistralrs => programs::compile("mistralrs_server").await.map(Some),
        Server::LlamaCpp => llama_cpp::server(&plan.cache).await.map(Some),
    }
}

/// One server, started anew, at each number of clients.
async fn one_round(server: Server, program: Option<&Path>, plan: &Plan) -> Result<Vec<(usize, Turn)>> {
    // Every server gets the same prompts.
    let mut prompts = Prompts::default();
    let mut turns = Vec::new();
    let (local, subject) = start(server, program, plan).await?;
    let url = local.as_ref().or(subject.as_ref().map(|subject| &subject.engine)).context("nothing runs")?.url.clone();
    closed_loop(&url, 1, 1, 4, &mut prompts).await?;
    for clients in CLIENTS {
        say(&format!("  {clients} clients"));
        turns.push((clients, Turn::from(&closed_loop(&url, clients, 1, plan.tokens, &mut prompts).await?)));
    }
    Ok(turns)
}

async fn start(server: Server, program: Option<&Path>, plan: &Plan) -> Result<(Option<Local>, Option<Subject>)> {
    let Some(program) = program else {
        return Ok((None, Some(Subject::start(&plan.model, Tracing::Phases, &[]).await?)));
    };
    let mut command = Command::new(program);
    match server {
        Server::LlamaCpp => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
            command.args(["--model", &plan.model, "--parallel", "8", "--ctx-size", "16384", "--threads", &threads]);
        }
        _ => drop(command.arg(&plan.model)),
    }
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    Ok((Some(Local::server(command, "/health").await?), None))
}

fn section(plan: &Plan, turns: &Turns, notes: Vec<String>) -> Section {
    let of = |server, clients, value: &dyn Fn(&Turn) -> f64| -> Vec<f64> {
        turns.get(&(server, clients)).into_iter().flatten().map(value).collect()
    };
    let speed = |turn: &Turn| turn.tokens_per_second;
    let ratio = |server, clients| Spread::of_ratios(&of(Server::Sojourn, clients, &speed), &of(server, clients, &speed));
    let mut table = Table::new(&["clients, server", "tokens/s", "Sojourn's ratio to it", "first token", "worst gap"]);
    for clients in CLIENTS {
        for server in Server::ALL.into_iter().filter(|server| turns.contains_key(&(*server, clients))) {
            let first = of(server, clients, &|turn| percentile(&turn.first_tokens, 0.5).unwrap_or_default());
            table.rows.push(vec![
                format!("{clients}, {}", server.name()),
                Unit::Plain("").spread(Spread::of(&of(server, clients, &speed))),
                if server == Server::Sojourn { "1".into() } else { Unit::Plain("").spread(ratio(server, clients)) },
                Unit::Seconds.spread(Spread::of(&first)),
                Unit::Seconds.spread(Spread::of(&of(server, clients, &|turn| turn.worst_gap))),
            ]);
        }
    }
    let gap = Verdict {
        target: "no stream waits 1 s or longer between two tokens at 8 clients".into(),
        measured: Spread::of(&of(Server::Sojourn, 8, &|turn| turn.worst_gap)),
        bound: Bound::Below(1.0),
        unit: Unit::Seconds,
        limit: "Prompts that begin meanwhile take their pieces between two rounds of turns.".into(),
    };
    let own_engine = Verdict {
        target: "at least 5 times the tokens/s of mistral.rs 0.8.1's own engine at 8 clients".into(),
        measured: ratio(Server::Mistralrs, 8),
        bound: Bound::AtLeast(5.0),
        unit: Unit::Plain(""),
        limit: "The table says how both grow with the clients.".into(),
    };
    Section { title: Part::Speed.title(), how: how(plan), tables: vec![table], verdicts: vec![gap, own_engine], notes }
}

fn how(plan: &Plan) -> String {
    format!(
        "Every client streams one greedy completion of {} tokens, end-of-sequence ignored, from a prompt of 12 to 40 words that\n\
         no cache has seen; all begin at once. First token: the median over the clients of a round. Worst gap: between two\n\
         pieces of text of any stream. Rounds: {}. Sojourn runs with tracing on (`Phases`) and exports.\n\n\
         *mistral.rs 0.8.1* is the newest that its registry serves; its scheduler has since been reworked upstream. It is its\n\
         own engine with its own server's defaults behind a small HTTP front (`engine/benches/mistralrs_server.rs`), with the\n\
         same weights and the same F32 activations; its stream says no usage, so its tokens are pieces of text. *llama.cpp* is\n\
         `llama-server --parallel 8`, built for this very CPU from the sources in llama-cpp-python {}.",
        plan.tokens,
        plan.server_rounds,
        llama_cpp::VERSION
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_not_there_leaves_its_target_unmeasured() {
        let turn = |speed| Turn { tokens_per_second: speed, first_tokens: vec![0.1], worst_gap: 0.2 };
        let plan = Plan::full("m.gguf".into(), "/tmp".into());
        let mut turns = Turns::from([((Server::Sojourn, 8), vec![turn(50.0)])]);
        let met = |turns: &Turns| section(&plan, turns, Vec::new()).verdicts.iter().map(Verdict::is_met).collect::<Vec<_>>();
        assert_eq!(met(&turns), [Some(true), None]);
        turns.insert((Server::Mistralrs, 8), vec![turn(4.0)]);
        assert_eq!(met(&turns), [Some(true), Some(true)]);
        assert_eq!(section(&plan, &turns, Vec::new()).tables[0].rows[1][2], "12.50");
    }
}
