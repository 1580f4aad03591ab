//! The scheduler: a pure state machine in [`state`], its loop on a thread of its own, and the handle that the API layer has.

pub mod request;
