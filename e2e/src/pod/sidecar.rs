//! The supervisor as a process, and the collector behind it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::rendered::Rendered;
use crate::local::beside_this_program;
use crate::wait::{self, Look};

/// Longer than any end takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of a line of its log, what a failed test shows.
const LONGEST: usize = 500;

/// A supervisor that runs; a killed one would leave its collector behind, so it is asked to end.
pub struct Sidecar {
    child: Child,
    log: PathBuf,
}

impl Sidecar {
    /// Starts it with these flags in front of the collector.
    pub fn start(rendered: &Rendered, flags: &[String], collector: &Path, log: PathBuf) -> Result<Self> {
        let child = Command::new(beside_this_program("sojourn-sidecar")?)
            .args(rendered.sidecar_arguments(flags, collector)?)
            .env_clear()
            .envs(&rendered.sidecar_environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start the supervisor")?;
        Ok(Self { child, log })
    }

    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.id())
    }

    /// Its one child, from /proc.
    pub fn collector_pid(&self) -> Result<u32> {
        let pid = self.child.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        children.split_whitespace().next().and_then(|child| child.parse().ok()).context("no collector runs")
    }

    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// Asks it to end and waits.
    pub async fn terminate(mut self) -> Result<()> {
        self.signal()?;
        let status = wait::quietly("the supervisor has ended", PATIENCE, async || {
            Ok(match self.child.try_wait()? {
                Some(status) => Look::Holds(status),
                None => Look::NotYet("it runs".into()),
            })
        });
        let status = status.await?;
        if !status.success() {
            bail!("it ended with {status}");
        }
        Ok(())
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    fn signal(&self) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?)
    }
}

impl Drop for Sidecar {
    /// Only a test that failed has not ended it by then; what it said last may tell why.
    fn drop(&mut self) {
        if !self.runs() {
            return;
        }
        let log = self.log().unwrap_or_default();
        // Go's stacks of the collector's errors are long.
        let lines: Vec<String> = log.lines().map(|line| line.chars().take(LONGEST).collect()).collect();
        eprintln!("the sidecar's last words:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        self.signal().ok();
        let begun = Instant::now();
        while self.runs() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
        }
        if self.runs() {
            // That it does not end is what the test has found.
            let both = [self.pid(), self.collector_pid()].into_iter().flatten();
            both.for_each(|pid| kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap_or_default());
            self.child.wait().ok();
        }
    }
}
