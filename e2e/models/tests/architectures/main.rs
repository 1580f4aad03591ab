//! The engine's CPU backend on a tiny random model of each architecture, held against mistral.rs's own engine on the same
//! files: stepped by us, with prompts in pieces and sequences taking turns, a model says what it says there, request by
//! request. Then what only stepping can do: cut KV, copy it, take it away, and go on after a panic.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod models;
mod reference;
mod scheduled;
mod stepped;

mod cut;
mod equal;
mod preempted;
mod recovered;
mod refused;
mod reused;
mod served;
