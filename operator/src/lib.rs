//! The controller of `inferenceservices.sojourn.dev`.
//!
//! ```text
//! watches -> stores, queue -> reconcile: dereference -> validate -> render -> apply -> status
//!                                            ^ telemetry: what the sidecars say, asked in rounds
//! ```
//!
//! `crd` is the API, `reconcile` the five steps, `controller` what causes them, `run` the process. `validate`, `render` and
//! the computation of the status are pure, and the command line works with the same functions.

#![warn(missing_docs)]

pub mod admin;
pub mod cli;
pub mod context;
pub mod controller;
pub mod crd;
pub mod installed;
pub mod leader;
pub mod metrics;
pub mod names;
pub mod quantity;
pub mod reconcile;
pub mod run;
pub mod settings;
pub mod stores;
pub mod telemetry;
