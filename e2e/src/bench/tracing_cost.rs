//! Tracing off, `Journey` and `Phases` with the real model: speed, CPU time and memory.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinHandle;

use super::client::closed_loop;
use super::prompts::Prompts;
use super::report::{Bound, Section, Table, Unit, Verdict};
use super::subject::{Subject, Tracing};
use super::{Part, Plan, say};
use crate::process::resident_kib;
use crate::statistics::Spread;

const CLIENTS: [usize; 2] = [1, 8];
const SAMPLE: Duration = Duration::from_millis(50);

/// What one turn gave.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Turn {
    tokens_per_second: f64,
    /// Of the engine, for each request.
    cpu_seconds: f64,
    /// Above what the engine held before, for each client.
    memory_kib: f64,
}

/// Turns by clients and kind of tracing.
type Turns = BTreeMap<(usize, &'static str), Vec<Turn>>;

/// Measures it.
pub async fn measure(plan: &Plan) -> Result<Section> {
    let mut turns = Turns::new();
    for round in 1..=plan.rounds {
        for tracing in Tracing::ALL {
            say(&format!("what tracing costs: round {round} of {}, tracing {}", plan.rounds, tracing.name()));
            // Every kind of tracing gets the same prompts in a round.
            let mut prompts = Prompts::default();
            let mut subject = Subject::start(&plan.model, tracing, &[]).await?;
            closed_loop(&subject.engine.url, 2, 1, 4, &mut prompts).await?;
            subject.journeys(2).await?;
            for clients in CLIENTS {
                let turn = turn(&mut subject, plan, clients, &mut prompts).await?;
                turns.entry((clients, tracing.name())).or_default().push(turn);
            }
            subject.engine.terminate().await?;
        }
    }
    Ok(section(plan, &turns))
}

async fn turn(subject: &mut Subject, plan: &Plan, clients: usize, prompts: &mut Prompts) -> Result<Turn> {
    // A single client takes its requests one after the other; with as many in all, both take long enough to be exact.
    let each = if clients == 1 { 2 * plan.requests } else { plan.requests };
    let (cpu, memory) = (subject.cpu_seconds()?, subject.resident_kib()?);
    let peak = Peak::watch(subject.engine.pid()?);
    let burst = closed_loop(&subject.engine.url, clients, each, plan.tokens, prompts).await?;
    let requests = clients * each;
    // The export is part of what tracing costs, and comes after the answers.
    subject.journeys(requests).await?;
    let cpu_seconds = (subject.cpu_seconds()? - cpu) / requests as f64;
    let memory_kib = (peak.end().await - memory).max(0.0) / clients as f64;
    Ok(Turn { tokens_per_second: burst.tokens_per_second(), cpu_seconds, memory_kib })
}

/// Looks at a process's memory again and again.
struct Peak {
    stop: tokio::sync::watch::Sender<bool>,
    watching: JoinHandle<f64>,
}

impl Peak {
    fn watch(pid: u32) -> Self {
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let watching = tokio::spawn(async move {
            let mut peak = 0.0_f64;
            while tokio::time::timeout(SAMPLE, stopped.changed()).await.is_err() {
                peak = resident_kib(pid).map_or(peak, |kib| peak.max(kib));
            }
            peak
        });
        Self { stop, watching }
    }

    async fn end(self) -> f64 {
        self.stop.send_replace(true);
        self.watching.await.unwrap_or_default()
    }
}

fn section(plan: &Plan, turns: &Turns) -> Section {
    let of = |clients, tracing: Tracing, field: fn(&Turn) -> f64| -> Vec<f64> {
        turns.get(&(clients, tracing.name())).into_iter().flatten().map(field).collect()
    };
    let speed = |turn: &Turn| turn.tokens_per_second;
    let ratio = |clients, tracing| Spread::of_ratios(&of(clients, tracing, speed), &of(clients, Tracing::Off, speed));
    let mut table = Table::new(&["clients, tracing", "tokens/s", "of tracing off", "CPU s a request", "MiB an active request"]);
    for clients in CLIENTS {
        for tracing in Tracing::ALL {
            table.rows.push(vec![
                format!("{clients}, {}", tracing.name()),
                Unit::Plain("").spread(Spread::of(&of(clients, tracing, speed))),
                if tracing == Tracing::Off { "1".to_owned() } else { Unit::Ratio.spread(ratio(clients, tracing)) },
                Unit::Plain("").spread(Spread::of(&of(clients, tracing, |turn| turn.cpu_seconds))),
                Unit::Plain("").spread(Spread::of(&of(clients, tracing, |turn| turn.memory_kib / 1024.0))),
            ]);
        }
    }
    let verdict = |tracing: Tracing| Verdict {
        target: format!("with {} at least 0.99 of the tokens/s without tracing, at 8 clients", tracing.name()),
        measured: ratio(8, tracing),
        bound: Bound::AtLeast(0.99),
        unit: Unit::Ratio,
        limit: limit(
            Spread::of(&of(8, Tracing::Off, speed)),
            Spread::of_ratios(&of(8, tracing, |turn| turn.cpu_seconds), &of(8, Tracing::Off, |turn| turn.cpu_seconds)),
        ),
    };
    Section {
        title: Part::TracingCost.title(),
        how: format!(
            "Streams of {} tokens from prompts of 12 to 40 words; every journey goes to an OTLP receiver over gRPC. Rounds: {}.\n\
             CPU time is the engine's whole process, export included; memory is the most that it held above what it held\n\
             before, for each client (KV cache, for the most part).",
            plan.tokens, plan.rounds
        ),
        tables: vec![table],
        verdicts: vec![verdict(Tracing::Journey), verdict(Tracing::Phases)],
        notes: Vec::new(),
    }
}

/// Whether tracing took the time, or the machine.
fn limit(off: Option<Spread>, cpu: Option<Spread>) -> String {
    let noise = off.map_or(0.0, |off| 100.0 * (off.most - off.least) / off.median);
    let cpu = cpu.map_or(0.0, |cpu| 100.0 * (cpu.median - 1.0));
    format!(
        "The engine's CPU time for a request differs by {cpu:+.1} % from tracing off; without tracing, rounds differ among \
         themselves by {noise:.0} %."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_compared_with_its_neighbour() {
        let turn = |tokens_per_second| Turn { tokens_per_second, cpu_seconds: 1.0, memory_kib: 1024.0 };
        let mut turns = Turns::new();
        for (tracing, speeds) in
            [(Tracing::Off, [10.0, 20.0]), (Tracing::Journey, [9.0, 18.0]), (Tracing::Phases, [10.0, 20.0])]
        {
            turns.insert((8, tracing.name()), speeds.map(turn).to_vec());
        }
        let plan = Plan::full("m.gguf".into(), "/tmp".into());
        let section = section(&plan, &turns);
        let met: Vec<Option<bool>> = section.verdicts.iter().map(Verdict::is_met).collect();
        assert_eq!(met, [Some(false), Some(true)]);
        assert!(section.verdicts[0].limit.contains("+0.0 %"), "{}", section.verdicts[0].limit);
        assert_eq!(section.tables[0].rows.len(), 6);
        assert_eq!(section.tables[0].rows[4][2], "0.900");
    }
}
