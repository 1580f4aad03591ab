//! A certificate for 127.0.0.1 of an authority that nobody knows.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::Wire;
use crate::sandbox::pki::Authority;

/// What serves with it, and the authority's certificate, PEM.
pub(super) fn acceptor(wire: Wire) -> Result<(TlsAcceptor, String)> {
    let authority = Authority::new("a destination's authority")?;
    let identity = authority.identity("destination", None, &[], &[IpAddr::V4(Ipv4Addr::LOCALHOST)])?;
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).context("no certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).context("no key")?;
    let mut configuration = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let protocol = match wire {
        Wire::Grpc => "h2",
        Wire::Http => "http/1.1",
    };
    configuration.alpn_protocols = vec![protocol.into()];
    Ok((TlsAcceptor::from(Arc::new(configuration)), authority.certificate().to_owned()))
}
