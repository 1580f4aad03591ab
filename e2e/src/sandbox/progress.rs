//! What a person sees while the sandbox works: a line with a spinner a step on a terminal, plain lines elsewhere.
//! Writes to standard error and knows nothing of the steps.

use std::{
    io::IsTerminal,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a plain line says what a long step is at.
const LINE_INTERVAL: Duration = Duration::from_secs(20);
/// A step that took less is not worth a second line.
const WORTH_A_TIME: Duration = Duration::from_secs(1);

/// Shows steps, several at once if need be.
#[derive(Debug)]
pub struct Progress(Kind);

#[derive(Debug)]
enum Kind {
    Spinners(MultiProgress),
    Lines,
}

impl Progress {
    /// Spinners when standard error is a terminal, lines otherwise.
    pub fn new() -> Self {
        if std::io::stderr().is_terminal() { Self(Kind::Spinners(MultiProgress::new())) } else { Self(Kind::Lines) }
    }

    /// Begins a step. `what` is a phrase such as "building etcd".
    pub fn step(&self, what: impl Into<String>) -> Step {
        let what = what.into();
        let spinner = match &self.0 {
            Kind::Lines => {
                eprintln!("sandbox: {what}");
                None
            }
            Kind::Spinners(all) => {
                let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg:.dim} {elapsed:.dim}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let spinner = all.add(ProgressBar::new_spinner().with_style(style).with_prefix(what.clone()));
                spinner.enable_steady_tick(Duration::from_millis(120));
                Some(spinner)
            }
        };
        let now = Instant::now();
        Step { what, started: now, spinner, last_line: Mutex::new(now) }
    }

    /// Says something that stays to be read.
    pub fn say(&self, words: &str) {
        match &self.0 {
            Kind::Lines => eprintln!("sandbox: {words}"),
            Kind::Spinners(all) => all.suspend(|| eprintln!("{words}")),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// A step under way; dropped without [`Step::done`], it leaves nothing on the terminal.
#[derive(Debug)]
pub struct Step {
    what: String,
    started: Instant,
    spinner: Option<ProgressBar>,
    last_line: Mutex<Instant>,
}

impl Step {
    /// Says what the step is at.
    pub fn at(&self, detail: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(detail.to_owned());
            return;
        }
        let Ok(mut last) = self.last_line.lock() else { return };
        if last.elapsed() >= LINE_INTERVAL {
            *last = Instant::now();
            eprintln!("sandbox: {}: {detail} ({} s)", self.what, self.started.elapsed().as_secs());
        }
    }

    /// Ends the step.
    pub fn done(self) {
        let took = self.started.elapsed();
        let line = format!("{} ({:.1} s)", self.what, took.as_secs_f64());
        match &self.spinner {
            Some(spinner) => {
                spinner
                    .set_style(ProgressStyle::with_template("✓ {prefix}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
                spinner.set_prefix(line);
                spinner.finish();
            }
            None if took >= WORTH_A_TIME => eprintln!("sandbox: {line}"),
            None => {}
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(spinner) = self.spinner.as_ref().filter(|spinner| !spinner.is_finished()) {
            spinner.finish_and_clear();
        }
    }
}
