//! How pages are served: TLS, who may ask, and headers, as they are in force now.
//!
//! Everything here can be exchanged while connections go on: each new connection, and each request,
//! takes what is in force then, and connections from before end with the answer that is on its way.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::access::Access;

/// What is in force; a new one takes its place.
#[derive(Clone, Debug)]
pub struct Web(Arc<RwLock<Arc<Serving>>>);

/// How pages are served.
pub struct Serving {
    /// TLS, if there is any.
    pub(super) tls: Option<TlsAcceptor>,
    /// Who may ask.
    pub(super) access: Access,
    /// Headers for every answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Cancelled when another way is in force: what was agreed on with a client may not be enough now.
    pub(super) superseded: CancellationToken,
}

/// What TLS is made from.
pub struct TlsParts<'a> {
    /// The server's certificates, as PEM.
    pub certificates: &'a str,
    /// Their key, as PEM.
    pub key: &'a str,
    /// The authorities of clients, as PEM, and whether clients without a certificate are let in.
    pub clients: Option<(&'a str, bool)>,
    /// Whether TLS 1.2 and TLS 1.3 are spoken.
    pub versions: (bool, bool),
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("access", &self.access).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TlsParts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsParts").finish_non_exhaustive()
    }
}

impl Serving {
    /// Prepares it.
    ///
    /// # Errors
    /// Certificates, keys or headers that can't be used.
    pub fn new(
        tls: Option<&TlsParts<'_>>,
        users: BTreeMap<String, String>,
        headers: &[(&'static str, String)],
    ) -> Result<Self, Unusable> {
        let header = |(name, value): &(&'static str, String)| {
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(unusable(name))?;
            Ok((header, HeaderValue::from_str(value).map_err(unusable(name))?))
        };
        Ok(Self {
            tls: tls.map(acceptor).transpose()?,
            access: Access::new(users).map_err(unusable("randomness"))?,
            headers: headers.iter().map(header).collect::<Result<_, _>>()?,
            superseded: CancellationToken::new(),
        })
    }
}

impl Web {
    /// Serves in this way.
    pub fn new(serving: Serving) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(serving))))
    }

    /// Serves in another way from now on, also whoever is connected.
    /// Passwords that were right stay known where the users are the same.
    pub fn replace(&self, mut serving: Serving) {
        let before = self.current();
        if before.access.is_for(serving.access.users()) {
            serving.access = before.access.clone();
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(serving);
        before.superseded.cancel();
    }

    pub(super) fn current(&self) -> Arc<Serving> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What can't be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Unusable {
    what: String,
    why: String,
}

fn unusable<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Unusable {
    move |error| Unusable { what: what.to_owned(), why: error.to_string() }
}

fn acceptor(parts: &TlsParts<'_>) -> Result<TlsAcceptor, Unusable> {
    let versions: Vec<&rustls::SupportedProtocolVersion> =
        [(parts.versions.0, &rustls::version::TLS12), (parts.versions.1, &rustls::version::TLS13)]
            .into_iter()
            .filter_map(|(is_spoken, version)| is_spoken.then_some(version))
            .collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(unusable("min_version, max_version"))?;
    let builder = match parts.clients {
        None => builder.with_no_client_auth(),
        Some((authorities, is_optional)) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("client_ca", authorities)? {
                roots.add(authority).map_err(unusable("client_ca"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if is_optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(unusable("client_ca"))?)
        }
    };
    let certificates = certificates("cert", parts.certificates)?;
    // Neither error quotes the key.
    let key = PrivateKeyDer::from_pem_slice(parts.key.as_bytes())
        .map_err(|_| unusable("key")("holds no private key in PEM"))?;
    let mut config =
        builder.with_single_cert(certificates, key).map_err(unusable("cert and key"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(unusable(what)("holds no certificate in PEM")),
    }
}
