//! The sandbox cluster, the vocabulary of the scenarios that run on it, the demo, the benchmarks, the soak and the check of a GPU.

#![warn(missing_docs)]

pub mod bench;
pub mod browser;
pub mod change;
pub mod chat;
pub mod checkout;
pub mod dashboards;
pub mod gpu_check;
pub mod jaeger;
pub mod lab;
pub mod local;
pub mod manifest;
pub mod metrics;
pub mod namespace;
pub mod operator;
pub mod own_cluster;
pub mod pod;
pub mod process;
pub mod prometheus;
pub mod receiver;
pub mod release;
pub mod sandbox;
pub mod service;
pub mod soak;
pub mod statistics;
pub mod tunnel;
pub mod wait;
pub mod zipkin;
