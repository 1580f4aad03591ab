//! Random journeys: the whole HTTP side over connections in memory, with the real scheduler on the scripted backend, against
//! clients that ask for anything and leave in every way, and engines that are shut down in the middle. Every journey must be
//! legal and told once, `/metrics` must count what the journeys tell, the clients must have seen what the journeys say, and
//! nothing may hang.
//!
//! `SOJOURN_JOURNEYS` says how many (the full run: 100000), `SOJOURN_SEED` draws the same requests and clients again; their
//! interleaving stays the machine's.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod ask;
mod client;
mod engine;
mod episode;
mod metrics;
mod tally;
mod verdict;

use std::panic;

use tally::Tally;

/// Journeys of a plain `cargo test`.
const FEW: u64 = 6_000;
/// Of so many journeys...
const FULL: u64 = 100_000;
/// ...each word must have occurred so often; of fewer, in proportion.
const OFTEN: u64 = 500;
/// The seed unless another is given.
const SEED: u64 = 1;
/// Engines that run side by side.
const LANES: u64 = 8;
/// Requests that each engine gets.
const REQUESTS_AN_EPISODE: u64 = 250;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_journeys_are_legal_and_counted_and_every_word_occurs() {
    let wanted = number("SOJOURN_JOURNEYS").unwrap_or(FEW);
    let seed = number("SOJOURN_SEED").unwrap_or(SEED);
    println!("SOJOURN_JOURNEYS={wanted} SOJOURN_SEED={seed}");
    hide_scripted_panics();
    let episodes = wanted.div_ceil(REQUESTS_AN_EPISODE);
    let lane = |lane| async move {
        let mut tally = Tally::default();
        for episode in (lane..episodes).step_by(LANES as usize) {
            tally.add(&episode::run(seed, episode, REQUESTS_AN_EPISODE).await);
        }
        tally
    };
    let lanes: Vec<_> = (0..LANES).map(|number| tokio::spawn(lane(number))).collect();
    let mut tally = Tally::default();
    for lane in lanes {
        tally.add(&lane.await.unwrap());
    }
    // Engines that were given up after too many panics leave some to be made up for.
    let mut episode = episodes;
    while tally.journeys() < wanted {
        tally.add(&episode::run(seed, episode, REQUESTS_AN_EPISODE).await);
        episode += 1;
    }
    println!("{tally}");
    tally.assert_each_at_least((tally.journeys().min(FULL) * OFTEN / FULL).max(1));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// The backend's panics are part of the test; all others are said.
fn hide_scripted_panics() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some("scripted panic") {
            say(info);
        }
    }));
}
