//! Steps that fail, panic or hang, and requests that wait too long.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::metrics::scheduler::SchedulerMetrics;
use crate::metrics::steps::Steps;
use crate::scheduler::request::Failure;
use crate::scheduler::{MOST_PANICS, Scheduler};

fn words(prompt: &str) -> Request {
    Request { prompts: vec![prompt.bytes().map(u32::from).collect()], ..request(1, 5) }
}

impl Simulation {
    fn failures(&self, request: RequestId) -> Vec<Failure> {
        let of_request = self.updates.iter().filter(|(id, _)| *id == request);
        of_request.filter_map(|(_, u)| if let Update::Finished(end) = u { end.failure.clone() } else { None }).collect()
    }
}

#[test]
fn one_that_fails_does_not_take_its_batch_with_it() {
    let mut simulation = Simulation::new(limits(), script(4, 64));
    let fine: Vec<_> = (0..3).map(|_| simulation.submit(request(5, 9)).unwrap()).collect();
    simulation.steps(3);
    let failing = simulation.submit(words("please [fail]")).unwrap();
    simulation.run();
    assert_eq!(simulation.ends(failing), [FinishStatus::Error]);
    for id in fine {
        let expected: Vec<u32> = TEXT.bytes().take(9).map(u32::from).collect();
        assert_eq!((simulation.tokens(id), simulation.ends(id)), (expected, vec![FinishStatus::Length]));
    }
    assert_eq!(simulation.preemptions(PreemptReason::StepFailed), 4, "each of the batch is tried again, alone");
}

#[test]
fn one_that_fails_behind_a_prompt_of_several_pieces_fails_its_batch_once() {
    let mut simulation = Simulation::new(limits(), script(4, 64));
    let fine: Vec<_> = (0..3).map(|_| simulation.submit(request(5, 19)).unwrap()).collect();
    simulation.steps(3);
    let failing = simulation.submit(words("a prompt that takes several steps, and then [fail]")).unwrap();
    simulation.run();
    assert_eq!(simulation.ends(failing), [FinishStatus::Error]);
    assert!(fine.iter().all(|id| simulation.ends(*id) == [FinishStatus::Length]));
    assert_eq!(simulation.preemptions(PreemptReason::StepFailed), 4, "each of the batch is tried again once");
}

#[test]
fn after_lost_kv_everything_is_computed_again_and_the_text_is_the_same() {
    let mut simulation = Simulation::new(Limits { prefix_caching: true, ..limits() }, script(4, 64));
    let ids: Vec<_> = (0..3).map(|_| simulation.submit(request(30, 9)).unwrap()).collect();
    simulation.steps(8);
    simulation.backend.recover().unwrap();
    simulation.state.kv_lost(simulation.now());
    simulation.run();
    for id in ids {
        let expected: Vec<u32> = TEXT.bytes().take(9).map(u32::from).collect();
        assert_eq!(simulation.tokens(id), expected);
    }
    assert!(simulation.preemptions(PreemptReason::StepFailed) > 0);
}

#[test]
fn a_request_that_waits_beyond_the_deadline_ends_and_says_so() {
    let limits = Limits { max_num_seqs: 1, queue_timeout: Some(0.01), ..limits() };
    let mut simulation = Simulation::new(limits, script(1, 64));
    let running = simulation.submit(request(5, 20)).unwrap();
    simulation.steps(1);
    let late = simulation.submit(request(5, 5)).unwrap();
    simulation.run();
    assert_eq!(simulation.ends(running), [FinishStatus::Length]);
    assert_eq!(simulation.ends(late), [FinishStatus::Aborted]);
    assert_eq!(simulation.failures(late), [Failure::QueueTimeout { seconds: 0.01 }]);
    let events: Vec<_> = simulation.cores().into_iter().min_by_key(Vec::len).unwrap().iter().map(|r| r.event).collect();
    assert_eq!(events, [CoreEvent::Queued, CoreEvent::Finished(FinishStatus::Aborted)]);
}

#[test]
fn the_queue_deadline_leaves_alone_what_has_run_and_was_preempted() {
    let limits = Limits { max_num_seqs: 1, policy: Policy::Priority, queue_timeout: Some(0.01), ..limits() };
    let mut simulation = Simulation::new(limits, script(1, 64));
    let low = simulation.submit(Request { priority: 5, ..request(5, 20) }).unwrap();
    simulation.steps(2);
    simulation.submit(Request { priority: 1, ..request(5, 20) }).unwrap();
    simulation.run();
    assert_eq!(simulation.ends(low), [FinishStatus::Length]);
}

/// A scheduler on its own threads, and what it says when it gives up.
fn start(script: &str, limits: Limits, stall: Duration) -> (Scheduler, mpsc::Receiver<String>) {
    let (failed, failure) = mpsc::channel();
    let backend = Box::new(Scripted::new(script.parse().unwrap()));
    let scheduler = Scheduler::start(
        limits,
        backend,
        Clock::start(),
        stall,
        Steps::new(SchedulerMetrics::default(), None, false),
        move |error| failed.send(error).unwrap(),
    )
    .unwrap();
    (scheduler, failure)
}

const LONG: Duration = Duration::from_secs(60);

fn end(scheduler: &Scheduler, request: Request) -> FinishStatus {
    let mut output = scheduler.submit(request).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        loop {
            if let Update::Finished(end) = output.next().await.expect("an end") {
                return end.status;
            }
        }
    })
}

#[test]
fn the_next_request_works_after_a_panic() {
    let (scheduler, failure) = start("batch=1,length=4", limits(), LONG);
    for _ in 0..MOST_PANICS * 2 {
        assert_eq!(end(&scheduler, words("please [panic]")), FinishStatus::Error);
        assert_eq!(end(&scheduler, request(5, 3)), FinishStatus::Length);
    }
    scheduler.stop();
    assert!(failure.recv().is_err(), "it did not give up");
}

#[test]
fn a_backend_that_panics_all_the_time_is_given_up() {
    let (scheduler, failure) = start("batch=1", limits(), LONG);
    for _ in 0..MOST_PANICS {
        assert_eq!(end(&scheduler, words("[panic]")), FinishStatus::Error);
    }
    assert!(failure.recv().unwrap().contains("scripted panic"));
    assert_eq!(scheduler.submit(request(5, 3)).err(), Some(Refusal::ShuttingDown));
}

#[test]
fn a_device_that_is_gone_ends_everything_at_once() {
    let (scheduler, failure) = start("batch=1", limits(), LONG);
    assert_eq!(end(&scheduler, words("[lost]")), FinishStatus::Error);
    assert!(failure.recv().unwrap().contains("the device failed: scripted"));
    assert_eq!(scheduler.submit(request(5, 3)).err(), Some(Refusal::ShuttingDown));
}

#[test]
fn a_step_that_hangs_is_known_while_it_lasts() {
    let (scheduler, _failure) = start("batch=1,hang_ms=600000", limits(), Duration::from_millis(20));
    let output = scheduler.submit(Request { request_id: "slow one".into(), ..words("[hang]") }).unwrap();
    let stall = std::iter::from_fn(|| Some(scheduler.stall())).flatten().next().unwrap();
    assert_eq!((stall.step, stall.requests), (1, vec!["slow one".into()]));
    drop(output);
    scheduler.stop();
}

#[test]
fn a_queue_deadline_holds_while_a_step_hangs() {
    let limits = Limits { max_num_seqs: 1, queue_timeout: Some(0.05), ..limits() };
    let (scheduler, _failure) = start("batch=1,hang_ms=600000", limits, LONG);
    let hanging = scheduler.submit(words("[hang]")).unwrap();
    while scheduler.load().running == 0 {
        std::thread::yield_now();
    }
    assert_eq!(end(&scheduler, request(5, 3)), FinishStatus::Aborted);
    assert_eq!(scheduler.load().running, 1, "it still hangs");
    drop(hanging);
    scheduler.stop();
}
