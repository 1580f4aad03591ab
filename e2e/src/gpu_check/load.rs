//! Speed with one client and with many, what tracing costs there, memory, and a thousand journeys through the checker.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use sojourn_contract::journey::LLM_REQUEST;
use sojourn_journey::check::check as judge;
use sojourn_journey::trace::Trace;
use tokio::process::Command;

use super::table::Row;
use super::{Device, Plan, models, say};
use crate::bench::client::{Burst, closed_loop};
use crate::bench::prompts::Prompts;
use crate::bench::subject::{Subject, Tracing};
use crate::receiver::traces;
use crate::statistics::percentile;
use crate::wait::{self, Look};

/// Tokens/s of 32 clients against those of one, at least, on a GPU.
const GAIN: f64 = 8.0;
/// Tokens of the answers whose journeys are checked.
const SHORT: u32 = 8;
/// Longest wait for journeys whose answers were read.
const FLUSH: std::time::Duration = std::time::Duration::from_secs(30);

/// Measures and checks.
pub async fn check(plan: &Plan) -> Result<Vec<Row>> {
    let model = models::make(plan, plan.sizes[1], "q8_0").await?;
    let mut rows = Vec::new();
    let mut speeds: BTreeMap<(usize, &'static str), f64> = BTreeMap::new();
    for tracing in [Tracing::Off, Tracing::Phases] {
        let mut prompts = Prompts::default();
        let subject = Subject::start(&model, tracing, &plan.flags()).await?;
        let url = subject.engine.url.clone();
        closed_loop(&url, 1, 1, SHORT, &mut prompts).await?;
        for clients in plan.clients.iter().copied() {
            say(&format!("{clients} clients, tracing {}", tracing.name()));
            let burst = closed_loop(&url, clients, 2, plan.tokens, &mut prompts).await?;
            speeds.insert((clients, tracing.name()), burst.tokens_per_second());
            rows.push(Row::noted(format!("{clients} clients, tracing {}", tracing.name()), tell(&burst)));
        }
        rows.push(memory(&subject, tracing).await?);
        if tracing != Tracing::Off {
            rows.push(journeys(plan, &subject, &mut prompts).await?);
        }
        subject.engine.terminate().await?;
    }
    rows.extend(ratios(plan, &speeds));
    Ok(rows)
}

fn tell(burst: &Burst) -> String {
    format!(
        "{:.1} tokens/s, first token {:.0} ms (median), longest gap {:.0} ms",
        burst.tokens_per_second(),
        percentile(&burst.first_tokens(), 0.5).unwrap_or_default() * 1e3,
        burst.worst_gap() * 1e3
    )
}

fn ratios(plan: &Plan, speeds: &BTreeMap<(usize, &'static str), f64>) -> Vec<Row> {
    let speed = |clients: usize, tracing: Tracing| speeds.get(&(clients, tracing.name())).copied();
    let ratio = |one: Option<f64>, other: Option<f64>| Some(one? / other?).filter(|ratio| ratio.is_finite());
    let costs = plan.clients.iter().filter_map(|clients| {
        let of_off = ratio(speed(*clients, Tracing::Phases), speed(*clients, Tracing::Off))?;
        Some(Row::noted(format!("{clients} clients, tracing on against off"), format!("{of_off:.3} of the tokens/s")))
    });
    let gain = ratio(speed(32, Tracing::Off), speed(1, Tracing::Off)).map(|gain| {
        let (what, found) = (format!("32 clients against 1, at least {GAIN} times"), format!("{gain:.1} times the tokens/s"));
        match plan.device {
            Device::Cuda => Row::demanded(what, found, gain >= GAIN),
            Device::Cpu => Row::noted(what, found),
        }
    });
    costs.chain(gain).collect()
}

async fn memory(subject: &Subject, tracing: Tracing) -> Result<Row> {
    let ram = subject.resident_kib()? / 1024.0;
    let gpu = gpu_memory().await.map_or_else(String::new, |mib| format!(", {mib} MiB of GPU memory in use"));
    Ok(Row::noted(format!("memory, tracing {}", tracing.name()), format!("{ram:.0} MiB RAM{gpu}")))
}

/// MiB of the first GPU's memory that are in use; `None` where nvidia-smi does not say.
async fn gpu_memory() -> Option<u64> {
    let mut command = Command::new("nvidia-smi");
    let output = command.args(["--query-gpu=memory.used", "--format=csv,noheader,nounits"]).output().await.ok()?;
    String::from_utf8(output.stdout).ok()?.lines().next()?.trim().parse().ok()
}

async fn journeys(plan: &Plan, subject: &Subject, prompts: &mut Prompts) -> Result<Row> {
    let most = plan.clients.iter().copied().max().unwrap_or(1);
    let each = plan.journeys.div_ceil(most);
    say(&format!("{} journeys through the checker", most * each));
    subject.receiver().take()?;
    closed_loop(&subject.engine.url, most, each, SHORT, prompts).await?;
    let mut taken: Vec<Trace> = Vec::new();
    let wanted = most * each;
    wait::quietly(&format!("{wanted} journeys have come"), FLUSH, async || {
        for request in subject.receiver().take()? {
            taken.extend(traces(&request));
        }
        let found = taken.iter().flat_map(|trace| &trace.spans).filter(|span| span.name == LLM_REQUEST).count();
        Ok(if found >= wanted { Look::Holds(()) } else { Look::NotYet(format!("{found} have come")) })
    })
    .await?;
    let reports: Vec<_> = taken.iter().map(judge).collect();
    let checked: usize = reports.iter().map(|report| report.journeys).sum();
    let violations: Vec<_> = reports.iter().flat_map(|report| &report.violations).collect();
    ensure!(checked >= wanted, "{checked} journeys could be checked, not {wanted}");
    let first = violations.first().map_or_else(String::new, |violation| format!(", the first: {violation}"));
    let found = format!("{checked} checked, {} violations{first}", violations.len());
    Ok(Row::demanded("journeys are legal", found, violations.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu_check::table::Verdict;

    #[test]
    fn a_gpu_that_gains_too_little_from_many_clients_fails_and_a_cpu_does_not() {
        let speeds = BTreeMap::from([((1, "off"), 10.0), ((32, "off"), 70.0), ((32, "`Phases`"), 35.0)]);
        let rows = |device| ratios(&Plan::full(device, "/tmp".into()), &speeds);
        let gpu = rows(Device::Cuda);
        assert_eq!((gpu.len(), gpu[0].found.as_str()), (2, "0.500 of the tokens/s"));
        assert_eq!((gpu[1].verdict, gpu[1].found.as_str()), (Verdict::Failed, "7.0 times the tokens/s"));
        assert_eq!(rows(Device::Cpu)[1].verdict, Verdict::Noted);
    }
}
