//! How pages are served: TLS, users and headers, as Prometheus' web configuration file sets them.
//!
//! The file and the certificates that it names are read again every few seconds. Each new connection, and
//! each request, uses what was read last; older connections end with the answer in progress.

mod config;
mod follow;
mod tls;
mod users;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use config::WebConfig;
pub use config::load_web;
use users::Users;

/// The settings, shared; they change while the program runs.
#[derive(Clone, Debug)]
pub struct WebSettings {
    file: Option<PathBuf>,
    active: Arc<RwLock<Arc<Active>>>,
}

/// The settings that were read last.
pub struct Active {
    config: WebConfig,
    /// TLS, if it is configured.
    pub tls: Option<TlsAcceptor>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
    /// Cancelled when other settings replace these: what a client negotiated may no longer be enough.
    pub superseded: CancellationToken,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").finish_non_exhaustive()
    }
}

impl WebSettings {
    /// Reads a web configuration file. Without one, pages are served in the clear to every client.
    ///
    /// # Errors
    /// Everything that is wrong with the file, or with the certificates that it names.
    pub fn load(file: Option<&Path>) -> Result<Self, String> {
        let active = Active::load(file)?;
        let file = file.map(Path::to_owned);
        Ok(Self { file, active: Arc::new(RwLock::new(Arc::new(active))) })
    }

    /// The settings that were read last.
    pub fn current(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves with other settings from now on. Verified passwords stay known if the users are the same.
    fn replace(&self, mut active: Active) {
        let before = self.current();
        if before.config.users == active.config.users {
            active.users = before.users.clone();
        }
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(active);
        before.superseded.cancel();
    }
}

impl Active {
    fn load(file: Option<&Path>) -> Result<Self, String> {
        let config = match file {
            None => WebConfig::default(),
            Some(path) => load_web(path).map_err(|problems| problems.to_string())?,
        };
        let place = file.unwrap_or(Path::new("web configuration")).display();
        Self::new(config).map_err(|error| format!("{place}: {error:#}"))
    }

    fn new(config: WebConfig) -> anyhow::Result<Self> {
        let headers = config.headers.iter().map(|(name, value)| {
            Ok((HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?))
        });
        Ok(Self {
            tls: config.tls.as_ref().map(tls::acceptor).transpose()?,
            headers: headers.collect::<anyhow::Result<_>>()?,
            users: Users::new(config.users.clone())?,
            superseded: CancellationToken::new(),
            config,
        })
    }

    /// Whether a request comes from a user, or needs not to.
    pub async fn allows(&self, headers: &HeaderMap) -> bool {
        self.users.allows(headers).await
    }

    /// Adds the configured headers to those of an answer.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        headers.extend(self.headers.iter().cloned());
    }
}
