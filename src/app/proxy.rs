//! If the environment names a proxy, logs at startup and after each reload whether Twilio is reached through it.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::twilio::proxy::Path;

/// Logs one line per host of Twilio's API: whether it is reached through the proxy.
pub(super) fn log_paths(config: &Config) {
    let Some(proxy) = &config.api.client.proxy else { return };
    let bases = config.accounts.iter().map(|account| &account.base_url);
    let paths: BTreeSet<(&str, Path)> =
        bases.map(|base| (base.host(), proxy.path_to(base))).collect();
    for (host, path) in paths {
        match path {
            Path::Proxy => tracing::info!(
                host,
                proxy = proxy.address(),
                variable = proxy.source(),
                "Twilio is reached through a proxy"
            ),
            Path::Exception => tracing::info!(
                host,
                proxy = proxy.address(),
                "Twilio is reached without the proxy: NO_PROXY names the host"
            ),
            Path::Loopback => tracing::info!(
                host,
                proxy = proxy.address(),
                "Twilio is reached without the proxy: the host is this machine"
            ),
        }
    }
}
