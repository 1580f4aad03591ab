//! A request's journey as data.
//!
//! ```text
//! record, log ──> timeline ──> facts ──> spans ──> (the engine exports them)
//!                                               │
//!              draw <── recover <── trace <── read: OTLP JSON, Jaeger's and Tempo's answers
//!                          └──────> check
//! ```
//!
//! The engine records into [`record::Journey`]; [`spans::describe`] says which spans that journey becomes, and
//! [`check::check`] whether spans that came back from anywhere tell a legal journey. Both stand here, so that what is sent
//! and what is expected cannot drift apart. Pure: no I/O, no clock, no random number.

#![warn(missing_docs)]

// In reading order.
pub mod record;

pub mod log;

pub mod timeline;

pub mod facts;

pub mod trace;

pub mod spans;

pub mod startup;

pub mod read;

pub mod recover;

pub mod check;

pub mod account;

pub mod draw;

pub mod quantity;
