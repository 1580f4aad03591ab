//! The sandbox cluster, the vocabulary of the scenarios that run on it, and the demo.

#![warn(missing_docs)]

pub mod chat;
pub mod jaeger;
pub mod lab;
pub mod local;
pub mod manifest;
pub mod namespace;
pub mod own_cluster;
pub mod release;
pub mod sandbox;
pub mod service;
pub mod tunnel;
pub mod wait;
