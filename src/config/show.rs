//! The output of `check-config`: the effective configuration as YAML, with each secret replaced by its
//! source. Most keys are printed as they are read; this module prints the rest.

use std::fmt;

use crate::twilio::Proxy;
use crate::twilio::proxy::Path;

use super::{AccountConfig, Config, SecretSource};

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown.trim_end())
    }
}

/// Prints an account without its subaccounts.
pub(super) fn account(
    account: &AccountConfig,
    source: &SecretSource,
    push_source: Option<&SecretSource>,
    proxy: Option<&Proxy>,
) -> String {
    let (sid, username) = (account.account_sid.to_string(), &account.credentials.username);
    let mut text = format!("  - name: {}\n    account_sid: {sid}\n", json(&account.label));
    if *username != sid {
        text += &format!("    api_key: {username}\n");
    }
    text += &format!("    # secret: <redacted>, from {source}\n");
    if let Some(source) = push_source {
        text += &format!("    # secret that signs pushes: <redacted>, from {source}\n");
    }
    text += &format!("    base_url: {}\n", json(&account.base_url.to_string()));
    text += &format!("    region: {}\n", account.region);
    if let Some(proxy) = proxy {
        text += &match proxy.path_to(&account.base_url) {
            Path::Proxy => format!("    # proxy: {}, from {}\n", proxy.address(), proxy.source()),
            Path::Loopback => "    # proxy: none (loopback address)\n".to_owned(),
            Path::Exception => "    # proxy: none (NO_PROXY)\n".to_owned(),
        };
    }
    text
}

/// Formats a value as JSON, which is valid YAML.
pub(super) fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::json!(value).to_string()
}
