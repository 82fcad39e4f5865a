//! TLS, users and headers of the HTTP server, from a web configuration file in Prometheus' format.
//!
//! The file and its certificates are reread every few seconds. New connections and requests use the latest settings;
//! after a change, existing connections are closed once the response in progress is complete.

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

/// A shared handle to the current settings.
#[derive(Clone, Debug)]
pub struct WebSettings {
    file: Option<PathBuf>,
    active: Arc<RwLock<Arc<Active>>>,
}

/// One version of the settings.
pub struct Active {
    config: WebConfig,
    /// TLS, if it is configured.
    pub tls: Option<TlsAcceptor>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
    /// Cancelled when other settings replace these: an existing connection may not satisfy the new settings.
    pub superseded: CancellationToken,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").finish_non_exhaustive()
    }
}

impl WebSettings {
    /// Loads a web configuration file. Without a file, there is neither TLS nor authentication.
    ///
    /// # Errors
    /// Lists all problems of the file and its certificates.
    pub fn load(file: Option<&Path>) -> Result<Self, String> {
        let active = Active::load(file)?;
        let file = file.map(Path::to_owned);
        Ok(Self { file, active: Arc::new(RwLock::new(Arc::new(active))) })
    }

    /// Returns the latest settings.
    pub fn current(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the settings. If the users are the same, keeps the verified passwords.
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

    /// Whether a request has valid credentials or needs none.
    pub async fn allows(&self, headers: &HeaderMap) -> bool {
        self.users.allows(headers).await
    }

    /// Adds the configured headers to a response.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        headers.extend(self.headers.iter().cloned());
    }
}
