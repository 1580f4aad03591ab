//! The cluster's certificates and kubeconfigs: one authority, elliptic-curve keys, made anew with every cluster.
//! Pure: answers with texts; who writes them where is not known here.

use std::net::IpAddr;

use anyhow::Result;
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

/// Signs for one cluster, or for one server of a test.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// Makes one of this name.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The authority's key, PEM: the controller manager signs with it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Who Kubernetes takes `user` of `group` for, at these names and addresses if it serves.
    pub fn identity(&self, user: &str, group: Option<&str>, names: &[&str], addresses: &[IpAddr]) -> Result<Identity> {
        let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>())?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    /// A kubeconfig that carries everything it needs.
    pub fn kubeconfig(&self, server: &str, user: &str, group: Option<&str>) -> Result<String> {
        let identity = self.identity(user, group, &[], &[])?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sojourn", "cluster": {"server": server, "certificate-authority-data": data(&self.certificate)}}],
            "users": [{"name": user, "user": {
                "client-certificate-data": data(&identity.certificate),
                "client-key-data": data(&identity.key),
            }}],
            "contexts": [{"name": "sojourn", "context": {"cluster": "sojourn", "user": user}}],
            "current-context": "sojourn",
        });
        Ok(serde_yaml::to_string(&config)?)
    }
}

/// The pair that signs and checks the tokens of service accounts: private key, public key, PEM.
pub(super) fn token_keys() -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// A text in the form in which Kubernetes carries bytes in JSON.
fn data(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_carries_its_certificates() {
        let authority = Authority::new("trial").unwrap();
        let text = authority.kubeconfig("https://10.77.0.2:6443", "admin", Some("system:masters")).unwrap();
        let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("sojourn"));
        let authority_data = config.clusters[0].cluster.as_ref().unwrap().certificate_authority_data.clone().unwrap();
        assert_eq!(json!(authority_data), json!(data(authority.certificate())));
        assert!(text.contains("client-key-data"));
    }
}
