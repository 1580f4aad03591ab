//! Where and of what a measurement was made.

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::checkout;
use crate::process::field_kib;

/// The machine, the commit, the day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
    load: String,
    commit: String,
    date: String,
    model: String,
}

impl Machine {
    /// Looks around. The load is that before the measurement.
    pub async fn look(model: &str) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let load = read("/proc/loadavg")?;
        Ok(Self {
            cpu: cpu_model(&read("/proc/cpuinfo")?),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: field_kib(&read("/proc/meminfo")?, "MemTotal:").unwrap_or_default() / (1 << 20) as f64,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: load.split_whitespace().next().unwrap_or_default().to_owned(),
            commit: commit().await,
            date: first_line(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"])).await.unwrap_or_default(),
            model: model.rsplit('/').next().unwrap_or_default().to_owned(),
        })
    }

    /// Name and value, in reading order.
    pub fn facts(&self) -> [(&'static str, String); 6] {
        [
            ("CPU", format!("{}, {} cores", self.cpu, self.cores)),
            ("Memory", format!("{:.1} GiB", self.memory_gib)),
            ("Kernel", self.kernel.clone()),
            ("Load before the measurement", format!("{} (processes that run or wait; an idle machine has 0)", self.load)),
            ("Commit", format!("{}, {}; profile `dev`, dependencies optimised, x86-64-v3", self.commit, self.date)),
            ("Model", self.model.clone()),
        ]
    }
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim()).to_owned()
}

/// The commit that the sources are of, and whether they differ from it.
async fn commit() -> String {
    let git = || {
        let mut command = Command::new("git");
        command.current_dir(checkout::root());
        command
    };
    let Some(commit) = first_line(git().args(["rev-parse", "--short=12", "HEAD"])).await else { return "unknown".to_owned() };
    // The pages are written by what is measured.
    let changed =
        first_line(git().args(["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks*.md"])).await;
    if changed.is_some_and(|line| !line.is_empty()) { format!("{commit} with changes") } else { commit }
}

async fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().await.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_called_as_the_kernel_calls_it() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: AMD EPYC 9B14\nmodel name\t: other\n"), "AMD EPYC 9B14");
        assert_eq!(cpu_model(""), "unknown");
    }

    #[tokio::test]
    async fn a_model_is_named_without_its_directory() {
        let machine = Machine::look("/somewhere/model.gguf").await.unwrap();
        assert_eq!(machine.facts()[5].1, "model.gguf");
    }
}
