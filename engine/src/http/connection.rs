//! What is known of one TCP connection: when the request on it arrived, and who wants to know when its answer has left.
//! Shared by the connection's I/O ([`super::clocked_io`]), which sees bytes, and by the service, which sees requests. No I/O.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Called once: when the kernel has the last byte of an answer. Dropped instead, it means that this will not happen.
pub type OnFlushed = Box<dyn FnOnce(Instant) + Send>;

/// The clock of one connection.
pub struct Connection {
    state: Mutex<State>,
    stalled: AtomicBool,
}

struct State {
    /// The next byte that is read begins a request.
    armed: bool,
    /// First byte of the request that is being read or served.
    first_byte: Option<Instant>,
    /// When the connection became free for the next request.
    free_since: Instant,
    /// The answer's last byte was given to hyper; the next flush gives it to the kernel.
    leaving: Option<OnFlushed>,
}

impl Connection {
    /// A connection that was accepted now.
    pub fn new(now: Instant) -> Self {
        let state = State { armed: true, first_byte: None, free_since: now, leaving: None };
        Self { state: Mutex::new(state), stalled: AtomicBool::new(false) }
    }

    /// Bytes were read. True when they begin a request.
    pub fn bytes_read(&self, now: Instant) -> bool {
        let mut state = self.state();
        if !state.armed {
            return false;
        }
        state.armed = false;
        state.first_byte = Some(now);
        true
    }

    /// A request's head is complete; gives its arrival. One whose bytes came while the previous answer was under way
    /// (pipelining) arrived when that had left.
    pub fn begin_request(&self) -> Instant {
        let mut state = self.state();
        state.armed = false;
        let free_since = state.free_since;
        state.first_byte.take().unwrap_or(free_since)
    }

    /// The first byte of a head that is not complete yet was read at this moment.
    pub fn head_since(&self) -> Option<Instant> {
        self.state().first_byte
    }

    /// The last byte of the answer was given to hyper.
    pub fn last_byte(&self, on_flushed: OnFlushed) {
        self.state().leaving = Some(on_flushed);
    }

    /// The kernel has all that hyper had.
    pub fn flushed(&self, now: impl FnOnce() -> Instant) {
        let mut state = self.state();
        let Some(on_flushed) = state.leaving.take() else { return };
        let now = now();
        state.free_since = now;
        state.armed = true;
        drop(state);
        on_flushed(now);
    }

    /// The client has taken nothing for too long.
    pub fn mark_stalled(&self) {
        self.stalled.store(true, Ordering::Release);
    }

    /// Whether the connection ends because its client stalled.
    pub fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }

    /// The connection is gone: whoever waits for a flush learns that there will be none.
    pub fn closed(&self) {
        let leaving = self.state().leaving.take();
        drop(leaving);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_arrives_with_its_first_byte() {
        let begun = Instant::now();
        let connection = Connection::new(begun);
        let first = begun + Duration::from_millis(5);
        assert!(connection.bytes_read(first));
        assert!(!connection.bytes_read(first + Duration::from_millis(9)));
        assert_eq!(connection.begin_request(), first);
    }

    #[test]
    fn a_pipelined_request_arrives_when_the_previous_answer_has_left() {
        let begun = Instant::now();
        let connection = Connection::new(begun);
        connection.bytes_read(begun);
        connection.begin_request();
        connection.last_byte(Box::new(|_| ()));
        let left = begun + Duration::from_millis(7);
        connection.flushed(|| left);
        assert_eq!(connection.begin_request(), left);
    }

    #[test]
    fn a_kept_connection_is_armed_again_by_the_flush() {
        let begun = Instant::now();
        let connection = Connection::new(begun);
        connection.bytes_read(begun);
        connection.begin_request();
        assert!(!connection.bytes_read(begun + Duration::from_millis(1)));
        connection.last_byte(Box::new(|_| ()));
        connection.flushed(|| begun + Duration::from_millis(2));
        let second = begun + Duration::from_secs(60);
        assert!(connection.bytes_read(second));
        assert_eq!(connection.begin_request(), second);
    }

    #[test]
    fn only_the_flush_behind_the_last_byte_counts() {
        let connection = Connection::new(Instant::now());
        let seen = Arc::new(AtomicBool::new(false));
        connection.flushed(|| panic!("nothing leaves yet"));
        let also = seen.clone();
        connection.last_byte(Box::new(move |_| also.store(true, Ordering::Relaxed)));
        assert!(!seen.load(Ordering::Relaxed));
        connection.flushed(Instant::now);
        assert!(seen.load(Ordering::Relaxed));
    }

    #[test]
    fn a_closed_connection_drops_who_waits_for_a_flush() {
        let connection = Connection::new(Instant::now());
        let token = Arc::new(());
        let held = token.clone();
        connection.last_byte(Box::new(move |_| drop(held)));
        connection.closed();
        assert_eq!(Arc::strong_count(&token), 1);
    }
}
