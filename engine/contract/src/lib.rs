//! What engine, sidecar and operator all know, so that none of them has to know another.
//!
//! Every name that two crates use is written here once: ports, paths and images of the pod, flags and environment of the engine,
//! the words of a journey, the sampling policy with its pure [`sampling::decide`], why an engine ended, and what a sidecar
//! says of itself. Pure data: no I/O, no clock, no dependency but serde.

#![warn(missing_docs)]

mod words;

pub mod attribute;
pub mod collector;
pub mod env;
pub mod event;
pub mod exit;
pub mod flag;
pub mod image;
pub mod journey;
pub mod label;
pub mod metric;
pub mod names;
pub mod path;
pub mod port;
pub mod sampling;
pub mod sidecar;
