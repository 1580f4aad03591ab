//! What people see in a terminal, as files: `UPDATE_GOLDEN=1` writes them anew.

mod journeys;

use sojourn_contract::journey::Detail;
use sojourn_journey::draw::{Style, draw};
use sojourn_journey::trace::Trace;

fn check(name: &str, trace: &Trace, style: Style) {
    let drawing = draw(trace, style);
    for line in drawing.lines().filter(|_| !style.color) {
        let columns = line.chars().count();
        assert!(columns <= style.width, "{columns} columns: {line}");
    }
    let path = format!("{}/tests/drawings/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &drawing).expect("the file can be written");
    }
    let known = std::fs::read_to_string(&path).expect("the file");
    assert_eq!(known, drawing, "{name}.txt is not what is drawn:\n{drawing}");
}

const WIDE: Style = Style { width: 100, color: false };

#[test]
fn an_answered_request() {
    check("normal", &journeys::trace(&journeys::normal(), Detail::Journey, Some(200)), WIDE);
}

#[test]
fn a_preempted_request_with_two_sequences_below_a_caller() {
    let mut trace = journeys::trace(&journeys::preempted(), Detail::Phases, Some(200));
    trace.spans.push(journeys::caller(&trace));
    check("preempted", &trace, WIDE);
}

#[test]
fn a_preempted_request_in_colour() {
    let trace = journeys::trace(&journeys::preempted(), Detail::Phases, Some(200));
    check("preempted-colour", &trace, Style { color: true, ..WIDE });
}

#[test]
fn a_narrow_terminal() {
    let trace = journeys::trace(&journeys::preempted(), Detail::Phases, Some(200));
    check("narrow", &trace, Style { width: 60, color: false });
}

#[test]
fn a_rejected_request() {
    check("rejected", &journeys::trace(&journeys::rejected(), Detail::Phases, Some(429)), WIDE);
}

#[test]
fn an_aborted_request() {
    check("aborted", &journeys::trace(&journeys::disconnected(), Detail::Phases, None), WIDE);
}

#[test]
fn a_failed_request() {
    check("failed", &journeys::trace(&journeys::failed(), Detail::Phases, Some(500)), WIDE);
}

#[test]
fn a_start() {
    check("startup", &journeys::startup(), WIDE);
}

#[test]
fn what_others_wrote_cannot_move_the_cursor() {
    let mut journey = journeys::rejected();
    journey.request_id = "req\u{1b}[2J".into();
    let drawing = draw(&journeys::trace(&journey, Detail::Phases, Some(429)), WIDE);
    assert!(!drawing.contains('\u{1b}') && drawing.contains("req\u{fffd}[2J"), "{drawing}");
}

#[test]
fn a_journey_that_cannot_be_read_is_drawn_without_a_sentence() {
    let mut trace = journeys::trace(&journeys::normal(), Detail::Journey, Some(200));
    journeys::edit::drop_event(journeys::edit::request(&mut trace), "api.DEPARTED");
    journeys::edit::remove_fact(&mut trace, "journey.outcome");
    check("unreadable", &trace, WIDE);
}

#[test]
fn a_sentence_about_a_journey_on_its_way_says_so() {
    let mut journey = journeys::normal();
    journey.api.truncate(3);
    journey.cores[0].truncate(3);
    assert_eq!(
        sojourn_journey::account::sentence(&journey),
        "76 % of 525 ms so far was waiting in the queue behind 3 requests; 120 ms went to processing a prompt of 100 tokens."
    );
}
