//! Edits of a running service's `spec.tracing`, and how long each takes to its effect.

use std::time::{Duration, Instant};

use anyhow::Result;
use sojourn_contract::attribute;
use sojourn_contract::journey::Kind;
use sojourn_journey::trace::Span;

use crate::chat::{Answer, Chat, Question};
use crate::receiver::Harvest;
use crate::service::Service;
use crate::wait::{self, Look};

/// A service that is edited while it is asked, and what arrives at one of its destinations.
pub struct Changes<'a> {
    service: &'a Service,
    chat: &'a Chat,
    arrived: Harvest<'a>,
    /// The answers that came while changes were on their way.
    pub answers: Vec<Answer>,
}

impl<'a> Changes<'a> {
    /// Nothing changed yet. `chat` asks a pod of the service; `arrived` is of a destination that it has, or gets by the first
    /// change.
    pub fn of(service: &'a Service, chat: &'a Chat, arrived: Harvest<'a>) -> Self {
        Self { service, chat, arrived, answers: Vec::new() }
    }

    /// Makes an edit and waits until the probe of the collector that works by it, being such, is at the destination; says how
    /// long that took.
    pub async fn take_effect(
        &mut self,
        what: &str,
        patience: Duration,
        edit: impl Future<Output = Result<()>>,
        is_such: impl Fn(&Span) -> bool,
    ) -> Result<Duration> {
        self.arrived.gather()?.others.clear();
        let begun = Instant::now();
        edit.await?;
        wait::quietly(&format!("{what} is in effect"), patience, async || {
            self.answers.push(self.chat.ask(Question::new("Say yes.").with("max_tokens", 4), |_| {}).await?);
            let probes = &self.arrived.gather()?.others;
            if probes.iter().any(|span| span.attributes.text(attribute::KIND) == Some(Kind::Probe.as_str()) && is_such(span)) {
                return Ok(Look::Holds(()));
            }
            Ok(Look::NotYet(format!("{:?}", self.service.telemetry().await?)))
        })
        .await?;
        Ok(begun.elapsed())
    }

    /// Waits until the journey of every answer since the last call is at the destination; says how many there were.
    pub async fn have_all_arrived(&mut self) -> Result<usize> {
        let ids: Vec<String> = self.answers.drain(..).map(|answer| answer.request_id).collect();
        let is_there = |arrived: &Harvest<'_>| ids.iter().all(|id| arrived.journeys.contains_key(id));
        self.arrived.until("the journey of every answer is there", is_there).await?;
        Ok(ids.len())
    }
}
