//! What a request's owner holds: its updates, and the power to cancel by letting go.

use std::sync::Weak;
use std::task::{Context, Poll};

use tokio::sync::mpsc::UnboundedReceiver;

use super::Shared;
use super::request::Update;
use super::sequence::RequestId;

/// Updates of one request. The queue behind it is bounded by the request's `max_tokens`: the scheduler never waits for its
/// reader. Dropping it ends what is unfinished, as `aborted`, before the drop returns.
pub struct Output {
    pub(super) request: RequestId,
    pub(super) updates: UnboundedReceiver<Update>,
    pub(super) scheduler: Weak<Shared>,
}

impl Output {
    /// The next update; `None` after the last sequence's end.
    pub async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }

    /// The next update, if it is there already.
    pub fn try_next(&mut self) -> Option<Update> {
        self.updates.try_recv().ok()
    }

    /// [`Output::next`] for a poll function.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.updates.poll_recv(cx)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(scheduler) = self.scheduler.upgrade() {
            scheduler.cancel(self.request);
        }
    }
}
