use std::collections::BTreeSet;

use super::*;
use crate::effective::{Credentials, render};
use crate::metrics::{Numbers, Sample};

/// A supervisor with a clock and the actions that it asked for, in words.
struct World {
    supervisor: Supervisor,
    now: Instant,
    actions: Vec<String>,
}

fn timing() -> Timing {
    let seconds = Duration::from_secs;
    Timing {
        drain: seconds(60),
        stop: seconds(10),
        shutdown: seconds(15),
        start: seconds(30),
        settle: seconds(5),
        hang: seconds(30),
        backoff: seconds(1),
        backoff_max: seconds(8),
        retry_refused: seconds(600),
    }
}

/// The file that the collector would be given for `name`.
fn file(name: &str) -> Arc<Effective> {
    Arc::new(render(&format!("name: {name}"), &Credentials::default(), &BTreeSet::new()).unwrap())
}

impl World {
    fn new() -> Self {
        Self { supervisor: Supervisor::new(timing(), Some(1000)), now: Instant::now(), actions: Vec::new() }
    }

    /// One that runs file `a`, long enough for it to be good.
    fn running() -> Self {
        let mut world = Self::new().mounted("a").up().after(5).up();
        world.actions.clear();
        world
    }

    fn on(mut self, event: Event) -> Self {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.supervisor.handle(event, self.now) {
                self.actions.push(match action {
                    Action::Start(file) => {
                        events.push(Event::Started);
                        format!("start {}", file.text.split('"').nth(3).unwrap())
                    }
                    Action::Probe { .. } => "probe".into(),
                    Action::Terminate { .. } => "terminate".into(),
                    Action::Kill => "kill".into(),
                    Action::Exit => "exit".into(),
                });
            }
        }
        self
    }

    fn after(mut self, seconds: u64) -> Self {
        self.now += Duration::from_secs(seconds);
        self.on(Event::Tick)
    }

    fn mounted(self, name: &str) -> Self {
        self.on(Event::Mounted(Ok(file(name))))
    }

    fn looked(self, metrics: Option<Sample>, memory: u64) -> Self {
        let observation = Observation { taken: self.now, accepts: metrics.is_some(), metrics, memory };
        self.on(Event::Observed(observation))
    }

    /// It answers, and this waits in its queues.
    fn queued(self, sizes: &[(&str, u64)]) -> Self {
        let numbers = |queue_size| Numbers { queue_size, ..Numbers::default() };
        let sample = sizes.iter().map(|(exporter, size)| ((*exporter).to_owned(), numbers(*size))).collect();
        self.looked(Some(sample), 100)
    }

    fn up(self) -> Self {
        self.queued(&[])
    }

    fn ended(self) -> Self {
        self.on(Event::Ended(End { how: "exit status 1".into(), is_fault: true, substitute: None }))
    }

    fn ended_by_somebody(self) -> Self {
        self.on(Event::Ended(End { how: "signal SIGKILL".into(), is_fault: false, substitute: None }))
    }

    fn ended_for(self, substitute: &str) -> Self {
        let substitute = Some(file(substitute));
        self.on(Event::Ended(End { how: "exit status 1".into(), is_fault: true, substitute }))
    }

    fn expect(mut self, actions: &[&str]) -> Self {
        assert_eq!(self.actions, actions);
        self.actions.clear();
        self
    }
}

#[test]
fn a_mounted_file_is_started_and_probed_once_it_answers() {
    let world = World::new().after(1).expect(&[]).mounted("a").expect(&["start a"]).after(1).expect(&[]);
    assert!(!world.supervisor.is_up());
    let world = world.up().expect(&["probe"]).up().expect(&[]);
    assert!(world.supervisor.is_up());
    assert_eq!(world.supervisor.counts(), (1, 0));
}

#[test]
fn a_collector_whose_port_is_closed_is_not_up() {
    let world = World::new().mounted("a");
    let closed = Observation { taken: world.now, metrics: Some(Sample::new()), accepts: false, memory: 0 };
    assert!(!world.on(Event::Observed(closed)).supervisor.is_up());
}

#[test]
fn a_change_waits_for_empty_queues() {
    let world = World::running().mounted("b").queued(&[("x", 5), ("y", 0)]).after(10).expect(&[]);
    world.queued(&[("x", 0), ("y", 3)]).expect(&["terminate"]).ended().expect(&["start b"]);
}

#[test]
fn a_look_from_before_the_change_proves_nothing() {
    let world = World::running();
    let before = Observation { taken: world.now, metrics: Some(Sample::new()), accepts: true, memory: 0 };
    world.after(1).mounted("b").on(Event::Observed(before)).expect(&[]).up().expect(&["terminate"]);
}

#[test]
fn a_dead_destination_holds_a_change_for_the_drain_time_at_most() {
    let world = World::running().mounted("b").queued(&[("dead", 5)]).after(29).queued(&[("dead", 5)]).after(29);
    world.queued(&[("dead", 5)]).expect(&[]).after(2).expect(&["terminate"]);
}

/// It answers; so much waits in the only queue, and so much was sent.
fn flow(world: World, queue_size: u64, sent: u64, send_failed: u64) -> World {
    let numbers = Numbers { queue_size, queue_capacity: 1000, sent, send_failed, ..Numbers::default() };
    world.looked(Some(Sample::from([("x".to_owned(), numbers)])), 100)
}

#[test]
fn a_queue_that_is_never_empty_counts_when_it_is_small_and_flows() {
    let world = flow(World::running().mounted("b"), 50, 1, 0);
    let world = flow(world, 60, 2, 0).expect(&[]);
    flow(world, 70, 3, 0).expect(&["terminate"]);
}

#[test]
fn a_queue_that_is_large_or_fails_does_not_count_as_flowing() {
    let large = flow(flow(flow(World::running().mounted("b"), 500, 1, 0), 500, 2, 0), 500, 3, 0);
    large.expect(&[]);
    let failing = flow(flow(flow(World::running().mounted("b"), 50, 1, 0), 50, 2, 0), 50, 3, 1);
    flow(failing, 50, 4, 1).expect(&[]);
}

#[test]
fn a_change_that_is_taken_back_while_it_waits_stops_nothing() {
    let world = World::running().mounted("b").queued(&[("x", 5)]).mounted("a").up().after(3);
    world.expect(&[]).up().expect(&[]);
}

#[test]
fn a_collector_that_does_not_stop_is_killed() {
    World::running()
        .mounted("b")
        .up()
        .expect(&["terminate"])
        .after(9)
        .expect(&[])
        .after(1)
        .expect(&["kill"])
        .after(1)
        .expect(&[]);
}

#[test]
fn a_file_that_ends_the_collector_is_refused_for_the_last_good_one() {
    let world = World::running().mounted("b").up().ended().expect(&["terminate", "start b"]).ended().expect(&["start a"]);
    assert_eq!(world.supervisor.refused(), Some("exit status 1"));
    assert_eq!(world.supervisor.file().unwrap().fingerprint, file("a").fingerprint);
    let world = world.up().after(5).up().expect(&["probe"]).after(20).up().after(20).up().expect(&[]);
    assert_eq!(world.supervisor.refused(), Some("exit status 1"));
}

#[test]
fn a_file_with_which_the_collector_never_answers_is_refused() {
    let world = World::running().mounted("b").up().ended().after(29).expect(&["terminate", "start b"]);
    let world = world.after(1).expect(&["terminate"]).ended().expect(&["start a"]);
    assert_eq!(world.supervisor.refused(), Some("the collector did not answer within 30s of its start"));
}

#[test]
fn a_refused_file_is_tried_again_when_it_changes_and_after_a_long_time() {
    let refused = || {
        World::running().mounted("b").up().ended().ended().up().after(5).up().expect(&[
            "terminate",
            "start b",
            "start a",
            "probe",
        ])
    };
    refused().mounted("c").up().ended().expect(&["terminate", "start c"]);
    let mut world = refused();
    for _ in 0..30 {
        world = world.after(20).up();
    }
    let world = world.ended().expect(&["terminate", "start b"]).up().after(5).up();
    assert_eq!(world.supervisor.refused(), None);
}

#[test]
fn a_file_is_not_blamed_for_a_collector_that_somebody_ended() {
    let world = World::running().mounted("b").up().ended().up().expect(&["terminate", "start b", "probe"]);
    let world = world.ended_by_somebody().expect(&[]).after(1).expect(&["start b"]);
    assert_eq!(world.supervisor.refused(), None);
}

#[test]
fn a_first_file_that_is_bad_is_run_without_the_destinations_that_are() {
    let world = World::new().mounted("a").ended_for("b").expect(&["start a", "start b"]);
    let world = world.ended_for("c").expect(&["start c"]).up().after(5).up().expect(&["probe"]);
    assert_eq!(world.supervisor.refused(), Some("exit status 1"));
    assert!(world.supervisor.has_good());
    world.ended().after(1).expect(&["start c"]);
}

#[test]
fn a_substitute_that_is_bad_too_gives_way_to_the_file_itself() {
    World::new().mounted("a").ended_for("b").ended().expect(&["start a", "start b", "start a"]);
}

#[test]
fn a_first_file_that_is_bad_is_tried_again_until_it_changes() {
    let world = World::new().mounted("a").ended().expect(&["start a"]).after(1).expect(&["start a"]);
    assert_eq!(world.supervisor.refused(), Some("exit status 1"));
    world.ended().after(1).expect(&[]).mounted("b").expect(&["start b"]);
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_running_one_alone() {
    let world = World::running().on(Event::Mounted(Err("not YAML".into()))).after(3).up().expect(&[]);
    assert_eq!(world.supervisor.refused(), Some("not YAML"));
    let world = world.ended().after(1).expect(&["start a"]).up().mounted("a").up();
    assert_eq!(world.supervisor.refused(), None);
}

#[test]
fn crashes_are_restarted_with_growing_pauses_up_to_a_bound() {
    let mut world = World::running();
    for pause in [1, 2, 4, 8, 8] {
        world = world.ended().after(pause - 1).expect(&[]).after(1).expect(&["start a"]);
    }
    assert_eq!(world.supervisor.counts(), (6, 5));
}

#[test]
fn a_long_run_begins_the_pauses_anew() {
    let mut world = World::running().ended().after(1).ended().after(2).ended().after(4).up();
    for _ in 0..6 {
        world = world.after(10).up();
    }
    world.actions.clear();
    world.ended().after(1).expect(&["start a"]);
}

#[test]
fn a_collector_that_hangs_is_stopped_without_waiting_and_counts_as_crashed() {
    let world =
        World::running().queued(&[("x", 5)]).after(29).expect(&[]).after(1).expect(&["terminate"]).after(10).expect(&["kill"]);
    let world = world.ended().after(1).expect(&["start a"]);
    assert_eq!(world.supervisor.counts(), (2, 1));
}

#[test]
fn a_collector_near_the_memory_limit_is_renewed_when_its_queues_are_empty() {
    let world = World::running().looked(Some(Sample::new()), 899).expect(&[]).looked(Some(Sample::new()), 900).expect(&[]);
    let world = world.up().expect(&["terminate"]).ended().after(1).expect(&["start a"]);
    assert_eq!(world.supervisor.counts(), (2, 0));
}

#[test]
fn a_collector_at_the_memory_limit_is_renewed_at_once() {
    World::running().looked(Some(Sample::new()), 950).expect(&["terminate"]);
}

#[test]
fn a_command_that_cannot_be_started_is_tried_again_and_blames_no_file() {
    let world = World::new().mounted("a").expect(&["start a"]).on(Event::Unstartable).expect(&[]);
    assert_eq!(world.supervisor.refused(), None);
    world.after(1).expect(&["start a"]);
}

#[test]
fn the_end_waits_for_empty_queues_and_stops_orderly() {
    let world = World::running().on(Event::Shutdown).queued(&[("x", 5)]).expect(&[]).queued(&[("x", 0)]).expect(&["terminate"]);
    world.ended().expect(&["exit"]).after(1).expect(&[]);
}

#[test]
fn the_end_keeps_to_its_time_with_a_dead_destination() {
    let world = World::running().on(Event::Shutdown).queued(&[("x", 5)]).after(9).expect(&[]).after(1).expect(&["terminate"]);
    world.after(4).expect(&[]).after(1).expect(&["kill"]).ended().expect(&["exit"]);
}

#[test]
fn the_end_comes_at_once_where_nothing_runs_or_answers() {
    World::new().on(Event::Shutdown).expect(&["exit"]);
    World::new().mounted("a").on(Event::Shutdown).expect(&["start a", "terminate"]).ended().expect(&["exit"]);
    World::running().ended().on(Event::Shutdown).expect(&["exit"]);
}

#[test]
fn the_end_overtakes_a_change() {
    let world = World::running().mounted("b").queued(&[("x", 5)]).on(Event::Shutdown).queued(&[("x", 0)]);
    world.expect(&["terminate"]).ended().expect(&["exit"]);
}
