//! Free ports of loopback that stay free.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use rand::RngExt;

/// Below the range that the kernel takes the ports of outgoing connections from (32768 on), above what services use: the
/// collector is stopped and started on its ports, and nobody must have taken one in between.
const RANGE: std::ops::Range<u16> = 20_000..32_000;
const TRIES: usize = 1_000;
/// Ports of this process's pods, which run beside each other: one whose collector is just being renewed is free and taken.
static CHOSEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// The ports of one pod that [`sojourn_contract::port`] fixes in a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub admin: u16,
    pub sidecar: u16,
    pub otlp_grpc: u16,
    pub otlp_http: u16,
    pub metrics: u16,
}

impl Ports {
    /// Ports that nobody listens on.
    pub fn choose() -> Result<Self> {
        // All are held until all are chosen, so that they differ.
        let mut held = Vec::new();
        let mut random = rand::rng();
        for _ in 0..TRIES {
            let port = random.random_range(RANGE);
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                && CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port)
            {
                held.push(listener);
            }
            if let [admin, sidecar, otlp_grpc, otlp_http, metrics] = held.as_slice() {
                let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
                return Ok(Self {
                    admin: port(admin)?,
                    sidecar: port(sidecar)?,
                    otlp_grpc: port(otlp_grpc)?,
                    otlp_http: port(otlp_http)?,
                    metrics: port(metrics)?,
                });
            }
        }
        bail!("five ports between {} and {} are needed, and nearly all are taken", RANGE.start, RANGE.end)
    }
}
