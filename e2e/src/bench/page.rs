//! The documents that measurements are written to, and what each of them measures.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Part;
use crate::checkout;

/// A document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Its heading.
    pub title: &'static str,
    /// Its file, from the checkout's root.
    pub file: &'static str,
    /// The task of the Makefile that writes it.
    pub target: &'static str,
    /// What holds for all of its figures, as the sentences after the first.
    pub how: &'static str,
    /// What it measures, in order.
    pub parts: &'static [Part],
}

impl Page {
    /// The engine, as a process on loopback.
    pub const ENGINE: Self = Self {
        title: "Benchmarks",
        file: "docs/benchmarks.md",
        target: "bench",
        how: "What is compared ran in turns\n\
              (A B C A B C ...), each time in a new process; a ratio is taken between neighbours of one round. Clients, the OTLP\n\
              receiver and the engine share the machine. A target is met if the median meets it.",
        parts: &[Part::TracingCost, Part::EngineTime, Part::JourneyEvent, Part::ExportSize, Part::Speed],
    };
    /// Operator and pods, on the sandbox cluster.
    pub const CLUSTER: Self = Self {
        title: "Benchmarks on a cluster",
        file: "docs/benchmarks-cluster.md",
        target: "bench-cluster",
        how: "All of it\n\
              ran on the sandbox: a real Kubernetes of one node, whose control plane, kubelet and pods share this machine with the\n\
              clients. A target is met if the median meets it.",
        parts: &[Part::TimeToEffect, Part::ManyServices],
    };

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        checkout::path(self.file)
    }

    /// Says, before anything is measured, whether it can be written.
    pub fn can_be_written(&self) -> Result<()> {
        let path = self.path();
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .with_context(|| format!("cannot write {}, where the measurement would go", path.display()))?;
        Ok(())
    }

    /// Writes it.
    pub fn write(&self, text: &str) -> Result<()> {
        let path = self.path();
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}
