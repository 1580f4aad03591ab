//! The threads that a step computes on: the one that steps, and others.

use rayon::{ThreadPool, ThreadPoolBuilder};

thread_local! {
    /// Ends with the thread that it was made for. `None` where the machine gives no more threads: candle then uses its own.
    static POOL: Option<ThreadPool> = ThreadPoolBuilder::new().use_current_thread().build().ok();
}

/// Makes this thread one of the pool that candle computes on, for good. From outside, each of the hundreds of products of a
/// pass would wake the pool and sleep until it has an answer, which takes as long as the products do; and what a pass
/// allocates stays with one thread, so that the allocator finds it again.
pub fn join() {
    POOL.with(|_| ());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_joined_computes_itself() {
        assert_eq!(rayon::current_thread_index(), None);
        join();
        join();
        assert_eq!(rayon::current_thread_index(), Some(0));
        let sum = rayon::join(|| 1, || 2);
        assert_eq!(sum.0 + sum.1, 3);
    }
}
