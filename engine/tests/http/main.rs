//! The HTTP side over real loopback sockets, with the real scheduler on the scripted backend: what clients get, and what each
//! request's journey says of it. Every journey that is looked at is also checked for legality.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod client;
mod engine;
mod receiver;

mod answers;
mod anything;
mod drain;
mod ends;
mod export;
mod forms;
mod journeys;
mod logs;
mod metrics;
mod probes;
mod process;
mod receivers_in_trouble;
mod rejections;
mod tokenize;
mod tools;
mod traces;
