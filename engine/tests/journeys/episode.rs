//! One engine's life: clients come until enough requests have begun; it is shut down, in the middle or when all is quiet; and
//! what it told is judged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sojourn_engine::scheduler::Scheduler;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::ask::{self, Ask, pick};
use super::client::Manners;
use super::engine::{Engine, SOON, Setup, Told};
use super::tally::Tally;
use super::verdict::{self, Seen};

const CLIENTS: u64 = 20;

/// What the clients of an engine share.
#[derive(Clone)]
struct Crowd {
    episode: u64,
    seed: u64,
    about: String,
    scheduler: Scheduler,
    connect: mpsc::UnboundedSender<DuplexStream>,
    begun: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    /// Numbers the requests.
    next: Arc<AtomicU64>,
}

/// Runs an episode and judges it.
pub async fn run(seed: u64, episode: u64, requests: u64) -> Tally {
    let seed = seed ^ (episode << 32);
    let mut dice = StdRng::seed_from_u64(seed);
    let setup = Setup::draw(&mut dice);
    let about = format!("episode {episode}: {setup:?}");
    let quiet = dice.random_bool(0.5);
    let engine = setup.start();
    let crowd = Crowd {
        episode,
        seed,
        about: about.clone(),
        scheduler: engine.scheduler.clone(),
        connect: engine.connect.clone(),
        begun: engine.requests_begun.clone(),
        stop: engine.stop.subscribe(),
        next: Arc::default(),
    };
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(crowd.clone(), number, requests, quiet));
    }
    let mut stop = engine.stop.subscribe();
    tokio::select! {
        () = enough(&about, engine.requests_begun.clone(), requests) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    if quiet {
        // The clients have all left by themselves, and so have the requests.
        let seen = soon(&about, "the clients end", gather(&mut clients)).await;
        soon(&about, "the requests end", engine.api.idle()).await;
        engine.stop.send_replace(true);
        return judge(about, engine, seen).await;
    }
    tokio::time::sleep(Duration::from_millis(dice.random_range(0..4))).await;
    engine.stop.send_replace(true);
    let seen = soon(&about, "the clients end", gather(&mut clients)).await;
    judge(about, engine, seen).await
}

/// Waits for so many requests, and not long for each.
async fn enough(about: &str, mut begun: watch::Receiver<u64>, requests: u64) {
    while *begun.borrow_and_update() < requests {
        soon(about, "a request begins", begun.changed()).await.unwrap();
    }
}

async fn judge(about: String, mut engine: Engine, seen: HashMap<String, Seen>) -> Tally {
    soon(&about, "the engine ends", &mut engine.server).await.unwrap();
    engine.scheduler.stop();
    let mut journeys: Vec<Told> = Vec::new();
    while let Ok(told) = engine.journeys.try_recv() {
        journeys.push(told);
    }
    let begun = *engine.requests_begun.borrow();
    assert_eq!(journeys.len() as u64, begun, "journeys and requests that began; {about}");
    let judging = tokio::task::spawn_blocking(move || verdict::judge(&about, &engine, &journeys, &seen));
    judging.await.unwrap()
}

async fn gather(clients: &mut JoinSet<Vec<(String, Seen)>>) -> HashMap<String, Seen> {
    let mut all = HashMap::new();
    while let Some(seen) = clients.join_next().await {
        all.extend(seen.unwrap());
    }
    all
}

/// One client after the other, each on a connection of its own, until there were enough or the engine is gone.
async fn client(crowd: Crowd, number: u64, requests: u64, quiet: bool) -> Vec<(String, Seen)> {
    let mut dice = StdRng::seed_from_u64(crowd.seed.wrapping_add(number + 1));
    let mut all = Vec::new();
    loop {
        // In the middle of a shutdown each comes once more.
        let stopped = *crowd.stop.borrow();
        if quiet && (stopped || *crowd.begun.borrow() >= requests) {
            return all;
        }
        let count = if dice.random_bool(0.9) { 1 } else { dice.random_range(2..4) };
        let asks: Vec<Ask> = (0..count).map(|n| ask::draw(&mut dice, crowd.new_id(), n + 1 == count)).collect();
        let manners = Manners::draw(&mut dice, &asks);
        let (ours, theirs) = duplex(*pick(&mut dice, &[32, 64, 256, 1024, 65536]));
        if crowd.connect.send(theirs).is_err() {
            return all;
        }
        let mut heard = Vec::new();
        let met = tokio::time::timeout(SOON, manners.meet(ours, &asks, &mut heard)).await;
        let Ok(stayed) = met else { panic!("{}", crowd.hang(&asks, &manners, &heard)) };
        let mut first = Some(heard);
        for ask in asks {
            all.push((ask.id, Seen { parent: ask.parent, plain: ask.plain, heard: first.take(), stayed }));
        }
        if stopped {
            return all;
        }
    }
}

impl Crowd {
    /// What is known of a client that waits for ever.
    fn hang(&self, asks: &[Ask], manners: &Manners, heard: &[u8]) -> String {
        let asked: String = asks.iter().map(|ask| String::from_utf8_lossy(&ask.bytes)).collect();
        let (heard, load) = (String::from_utf8_lossy(heard), self.scheduler.load());
        format!("a client hangs; {}\n{load:?}\n{manners:?}\n{asked}\n--- heard:\n{heard}", self.about)
    }

    fn new_id(&self) -> String {
        format!("e{}-{}", self.episode, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

async fn soon<T>(about: &str, what: &str, it: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, it).await.unwrap_or_else(|_| panic!("{what} in time; {about}"))
}
