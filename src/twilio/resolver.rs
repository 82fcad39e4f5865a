//! Resolves host names with a separate timeout, so that an unresponsive name server isn't mistaken for an
//! unresponsive host.

use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The system's resolver, with a timeout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    /// The time limit for a lookup.
    timeout: Duration,
}

impl Resolver {
    /// Creates a resolver that may use three quarters of the connect timeout; the rest is left for the
    /// connection.
    pub(super) fn new(connect_timeout: Duration) -> Self {
        Self { timeout: connect_timeout * 3 / 4 }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let timeout = self.timeout;
        Box::pin(async move {
            let lookup = tokio::net::lookup_host((name.as_str(), 0));
            let found: Vec<_> = tokio::time::timeout(timeout, lookup).await??.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
