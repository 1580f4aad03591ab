//! Where a request's time went: at each instant it is in exactly one part. Pure; knows nothing of spans.

use sojourn_contract::journey::Bottleneck;

use crate::record::{ApiEvent, CoreEvent, CoreRecord, Journey, Omitted, Stamp};

/// A stretch of time in one part, never empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// The part.
    pub part: Bottleneck,
    /// Its first instant.
    pub from: Stamp,
    /// The first instant that is no longer in it.
    pub to: Stamp,
}

impl Segment {
    /// How long it is.
    pub fn seconds(&self) -> f64 {
        self.to.monotonic - self.from.monotonic
    }
}

impl Journey {
    /// When the request arrived; `None` before anything was recorded.
    pub fn arrived(&self) -> Option<Stamp> {
        self.api.first().map(|record| record.at)
    }

    /// When the request departed or was aborted; `None` while it is on its way.
    pub fn ended(&self) -> Option<Stamp> {
        let terminal = |event: &ApiEvent| matches!(event, ApiEvent::Departed | ApiEvent::Aborted { .. });
        self.api.iter().find(|record| terminal(&record.event)).map(|record| record.at)
    }

    /// When the request ended or, while it is on its way, the last thing that was recorded of it.
    pub fn last(&self) -> Option<Stamp> {
        let recorded = self.api.iter().map(|record| record.at).chain(self.cores.iter().flatten().map(|record| record.at));
        self.ended().or_else(|| recorded.max_by(|a, b| a.monotonic.total_cmp(&b.monotonic)))
    }
}

/// The parts of a request's time from ARRIVED to `end`, without a gap or an overlap. With several sequences the request
/// decodes if any of them decodes, else it is in prefill if any is, else preempted if any is, else in the queue.
pub fn of_request(journey: &Journey, end: Stamp) -> Vec<Segment> {
    let Some(arrived) = journey.arrived() else { return Vec::new() };
    let mut changes: Vec<(usize, Stamp, State)> = Vec::new();
    for (sequence, core) in journey.cores.iter().enumerate() {
        changes.extend(states(core).map(|(at, state)| (sequence, within(at, arrived, end), state)));
    }
    changes.sort_by(|(_, a, _), (_, b, _)| a.monotonic.total_cmp(&b.monotonic));

    let mut sequences = vec![State::Before; journey.cores.len()];
    let mut segments = Segments { done: Vec::new(), part: Bottleneck::Api, from: arrived };
    for (sequence, at, state) in changes {
        sequences[sequence] = state;
        segments.turn(combined(&sequences), at);
    }
    segments.finish(end)
}

/// The parts of one sequence's time from QUEUED to FINISHED: queue, prefill, decode, preempted.
pub fn of_sequence(core: &[CoreRecord]) -> Vec<Segment> {
    let states: Vec<(Stamp, State)> = states(core).collect();
    let stretch = |pair: &[(Stamp, State)]| match pair {
        [(from, State::In(part)), (to, _)] if to.monotonic > from.monotonic => {
            Some(Segment { part: *part, from: *from, to: *to })
        }
        _ => None,
    };
    states.windows(2).filter_map(stretch).collect()
}

/// The same without what was left out of the record, whose sums are known and whose places are not.
pub fn of_sequence_where_known(core: &[CoreRecord]) -> Vec<Segment> {
    let gaps: Vec<(f64, f64)> = core
        .windows(2)
        .filter(|pair| matches!(pair[0].event, CoreEvent::Omitted(_)))
        .map(|pair| (pair[0].at.monotonic, pair[1].at.monotonic))
        .collect();
    let is_known = |segment: &Segment| {
        let (from, to) = (segment.from.monotonic, segment.to.monotonic);
        !gaps.iter().any(|(start, end)| (*start..*end).contains(&from) && to <= *end)
    };
    of_sequence(core).into_iter().filter(is_known).collect()
}

/// All the time that `segments` spend in `part`, seconds.
pub fn seconds_in(segments: &[Segment], part: Bottleneck) -> f64 {
    segments.iter().filter(|segment| segment.part == part).map(Segment::seconds).sum()
}

/// Where one sequence is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Not in the core yet.
    #[default]
    Before,
    /// In the core.
    In(Bottleneck),
    /// Out of the core.
    After,
}

/// One sequence, followed from event to event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Course {
    state: State,
    decoding: bool,
}

impl Course {
    /// Where the sequence is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes the next event; gives the state that it begins.
    pub fn take(&mut self, event: &CoreEvent) -> State {
        self.decoding |= *event == CoreEvent::FirstToken;
        self.state = match event {
            CoreEvent::Queued => State::In(Bottleneck::Queue),
            CoreEvent::Scheduled { .. } | CoreEvent::FirstToken => self.running(),
            CoreEvent::Omitted(omitted) if omitted.resumed => self.running(),
            CoreEvent::Preempted(_) | CoreEvent::Omitted(_) => State::In(Bottleneck::Preempted),
            CoreEvent::Finished(_) => State::After,
        };
        self.state
    }

    fn running(&self) -> State {
        State::In(if self.decoding { Bottleneck::Decode } else { Bottleneck::Prefill })
    }
}

/// The states that the events of a sequence begin, one after the other.
pub(crate) fn states(core: &[CoreRecord]) -> impl Iterator<Item = (Stamp, State)> {
    let mut course = Course::default();
    core.iter().enumerate().flat_map(move |(index, record)| {
        let state = course.take(&record.event);
        let (state, then) = match &record.event {
            CoreEvent::Omitted(omitted) => summed_up(record.at, omitted, course.running()),
            _ => (state, None),
        };
        // The rounding of a sum must not carry it beyond what comes next.
        let next = core.get(index + 1).map(|next| next.at);
        let then = then.map(|(at, state)| (next.filter(|next| next.monotonic < at.monotonic).unwrap_or(at), state));
        std::iter::once((record.at, state)).chain(then)
    })
}

/// What was left out, as two stretches: where the sequence was at the end comes last.
fn summed_up(at: Stamp, omitted: &Omitted, running: State) -> (State, Option<(Stamp, State)>) {
    let preempted = State::In(Bottleneck::Preempted);
    match omitted.resumed {
        true => (preempted, Some((later(at, omitted.preempted_nanos), running))),
        false => (running, Some((later(at, omitted.running_nanos), preempted))),
    }
}

fn later(at: Stamp, nanos: u64) -> Stamp {
    Stamp { unix_nanos: at.unix_nanos.saturating_add(nanos), monotonic: at.monotonic + nanos as f64 / 1e9 }
}

/// The part that a request is in, from where its sequences are: in the API before any of them was in the core.
pub fn combined(sequences: &[State]) -> Bottleneck {
    let any = |part: Bottleneck| sequences.contains(&State::In(part));
    if sequences.iter().all(|state| *state == State::Before) {
        return Bottleneck::Api;
    }
    if sequences.iter().all(|state| *state == State::After) {
        return Bottleneck::Client;
    }
    let order = [Bottleneck::Decode, Bottleneck::Prefill, Bottleneck::Preempted];
    order.into_iter().find(|part| any(*part)).unwrap_or(Bottleneck::Queue)
}

/// `at`, moved into the time of the request.
fn within(at: Stamp, arrived: Stamp, end: Stamp) -> Stamp {
    if at.monotonic > end.monotonic {
        end
    } else if at.monotonic < arrived.monotonic {
        arrived
    } else {
        at
    }
}

/// Segments under construction: the last one is open.
struct Segments {
    done: Vec<Segment>,
    part: Bottleneck,
    from: Stamp,
}

impl Segments {
    fn turn(&mut self, part: Bottleneck, at: Stamp) {
        if part != self.part {
            self.close(at);
            self.part = part;
        }
    }

    fn close(&mut self, at: Stamp) {
        if at.monotonic > self.from.monotonic {
            // A part of no length between two of the same kind must not cut them in two.
            match self.done.last_mut() {
                Some(last) if last.part == self.part => last.to = at,
                _ => self.done.push(Segment { part: self.part, from: self.from, to: at }),
            }
        }
        self.from = at;
    }

    fn finish(mut self, end: Stamp) -> Vec<Segment> {
        self.close(end);
        self.done
    }
}
