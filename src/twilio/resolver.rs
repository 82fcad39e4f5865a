//! Addresses of a host name, within a time of its own: a name server that does not answer must not
//! look like a host that does not.

use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Asks the system's resolver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    /// Most time for an answer.
    timeout: Duration,
}

impl Resolver {
    /// A resolver that leaves a part of the time for a connection to the connection itself.
    pub(super) fn within(connect_timeout: Duration) -> Self {
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
