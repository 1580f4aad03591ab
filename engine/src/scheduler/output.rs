//! What a request's owner holds: its updates, and the power to cancel by letting go.

use std::sync::Weak;
use std::task::{Context, Poll};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::Shared;
use super::request::Update;
use super::sequence::RequestId;

/// The scheduler's end of an [`Output`].
pub(super) struct Reader {
    updates: UnboundedSender<Update>,
    whole: bool,
    begun: bool,
    held: Vec<Update>,
}

impl Reader {
    /// Tells of each update at once, or with `whole` of the first one and then at each sequence's end of all before it.
    pub(super) fn new(updates: UnboundedSender<Update>, whole: bool) -> Self {
        Self { updates, whole, begun: false, held: Vec::new() }
    }

    /// Passes an update on. A reader that is gone needs nothing.
    pub(super) fn tell(&mut self, update: Update) {
        let begins = !std::mem::replace(&mut self.begun, true);
        let is_end = matches!(update, Update::Finished(_));
        self.held.push(update);
        if begins || is_end || !self.whole {
            self.held.drain(..).for_each(|update| drop(self.updates.send(update)));
        }
    }
}

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

#[cfg(test)]
mod tests {
    use sojourn_contract::journey::FinishStatus;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::scheduler::request::{Finished, Token};

    /// How many updates have arrived after each of three tokens, the end of one sequence, a token and the end of another.
    fn arrived(whole: bool) -> Vec<usize> {
        let token = |sequence| Update::Token(Token { sequence, id: 7, stop: false, logprobs: None });
        let end =
            |sequence| Update::Finished(Finished { sequence, status: FinishStatus::Length, cached_tokens: 0, failure: None });
        let (sender, updates) = unbounded_channel();
        let mut reader = Reader::new(sender, whole);
        let told = [token(0), token(1), token(0), end(0), token(1), end(1)];
        let counts = told.map(|update| {
            reader.tell(update);
            updates.len()
        });
        counts.to_vec()
    }

    #[test]
    fn who_streams_hears_of_each_token_and_who_waits_for_the_whole_of_the_first_and_of_ends() {
        assert_eq!(arrived(false), [1, 2, 3, 4, 5, 6]);
        assert_eq!(arrived(true), [1, 1, 1, 4, 4, 6]);
    }
}
