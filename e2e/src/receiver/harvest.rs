//! What a receiver has taken in all, put together by journey.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use sojourn_contract::attribute::REQUEST_ID;
use sojourn_journey::trace::Span;

use super::{Receiver, traces};
use crate::wait::{self, Look};

/// Longest wait for journeys to come.
const PATIENCE: Duration = Duration::from_secs(90);

/// The spans of a receiver from the first request on.
pub struct Harvest<'a> {
    receiver: &'a Receiver,
    /// The spans of each journey by its request id, in the order in which they came; one that came twice is there twice.
    pub journeys: BTreeMap<String, Vec<Span>>,
    /// The request ids in the order in which the first span of each came.
    pub order: Vec<String>,
    /// Spans that belong to no request: start-up traces and probes.
    pub others: Vec<Span>,
}

impl<'a> Harvest<'a> {
    /// Nothing yet.
    pub fn of(receiver: &'a Receiver) -> Self {
        Self { receiver, journeys: BTreeMap::new(), order: Vec::new(), others: Vec::new() }
    }

    /// Adds what came since the last time.
    pub fn gather(&mut self) -> Result<&mut Self> {
        for request in self.receiver.take()? {
            for span in traces(&request).into_iter().flat_map(|trace| trace.spans) {
                match span.attributes.text(REQUEST_ID).map(str::to_owned) {
                    Some(id) => {
                        let spans = self.journeys.entry(id.clone()).or_default();
                        if spans.is_empty() {
                            self.order.push(id);
                        }
                        spans.push(span);
                    }
                    None => self.others.push(span),
                }
            }
        }
        Ok(self)
    }

    /// Gathers until it is so.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        wait::quietly(what, PATIENCE, async || {
            self.gather()?;
            let seen = || format!("{} journeys and {} other spans have come", self.journeys.len(), self.others.len());
            Ok(if is_so(self) { Look::Holds(()) } else { Look::NotYet(seen()) })
        })
        .await
    }
}
