//! Creates the TLS acceptor from the certificates of the web configuration.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use secrecy::ExposeSecret;
use tokio_rustls::TlsAcceptor;

use super::config::{ClientCertificates, TlsConfig};

/// Creates the TLS acceptor.
///
/// # Errors
/// Fails if a certificate or key can't be used. Errors don't quote keys.
pub(super) fn acceptor(config: &TlsConfig) -> anyhow::Result<TlsAcceptor> {
    let versions: Vec<&rustls::SupportedProtocolVersion> = [
        (config.allows_tls_1_2, &rustls::version::TLS12),
        (config.allows_tls_1_3, &rustls::version::TLS13),
    ]
    .into_iter()
    .filter_map(|(is_enabled, version)| is_enabled.then_some(version))
    .collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .context("min_version, max_version")?;
    let verifier = |authorities: &str, is_optional: bool| {
        let mut roots = RootCertStore::empty();
        for authority in certificates("client_ca", authorities)? {
            roots.add(authority).context("client_ca")?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = if is_optional { verifier.allow_unauthenticated() } else { verifier };
        verifier.build().context("client_ca")
    };
    let builder = match &config.clients {
        ClientCertificates::NotRequested => builder.with_no_client_auth(),
        ClientCertificates::VerifiedIfGiven(authorities) => {
            builder.with_client_cert_verifier(verifier(authorities, true)?)
        }
        ClientCertificates::Required(authorities) => {
            builder.with_client_cert_verifier(verifier(authorities, false)?)
        }
    };
    let chain = certificates("cert", &config.certificates)?;
    let key = PrivateKeyDer::from_pem_slice(config.key.expose_secret().as_bytes())
        .map_err(|_| anyhow!("key: contains no private key in PEM"))?;
    let mut server = builder.with_single_cert(chain, key).context("cert and key")?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(key: &str, pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .with_context(|| format!("{key}: contains no certificate in PEM"))
}
