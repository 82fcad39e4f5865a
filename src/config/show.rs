//! The effective configuration as YAML, with secrets replaced by where they came from.

use std::fmt;

use crate::twilio::Proxy;
use crate::twilio::proxy::Way;

use super::{AccountConfig, Config, duration};

impl fmt::Display for Config {
    /// The effective configuration as YAML, with secrets replaced by where they came from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "accounts:")?;
        for account in &self.accounts {
            show_account(f, account, self.api.proxy.as_ref())?;
        }
        let show = duration::show;
        let after_end: Vec<String> = self.poll.after_end.iter().copied().map(show).collect();
        writeln!(f, "poll:")?;
        writeln!(f, "  interval: {}", show(self.poll.interval))?;
        writeln!(f, "  live_interval: {}", show(self.poll.live_interval))?;
        writeln!(f, "  after_end: [{}]", after_end.join(", "))?;
        writeln!(f, "  settle_delay: {}", show(self.poll.settle_delay))?;
        writeln!(f, "  audit_after: {}", show(self.poll.audit_after))?;
        writeln!(f, "  initial_lookback: {}", show(self.poll.initial_lookback))?;
        writeln!(f, "  catch_up: {}", show(self.poll.catch_up))?;
        writeln!(f, "api:")?;
        writeln!(f, "  max_concurrency: {}", self.api.max_concurrency)?;
        writeln!(f, "  max_total_concurrency: {}", self.api.max_total_concurrency)?;
        writeln!(f, "  connect_timeout: {}", show(self.api.connect_timeout))?;
        writeln!(f, "  timeout: {}", show(self.api.timeout))?;
        let ca_file = self.api.ca_file.as_ref().map(|path| text(&path.display().to_string()));
        writeln!(f, "  ca_file: {}", ca_file.as_deref().unwrap_or("null"))?;
        let routes: Vec<String> = self.routes.iter().map(ToString::to_string).collect();
        writeln!(f, "routes: {}", texts(&routes))?;
        writeln!(f, "limits:")?;
        writeln!(f, "  routes_per_account: {}", self.limits.routes_per_account)?;
        writeln!(f, "  series: {}", self.limits.series)?;
        writeln!(f, "  tracked_calls: {}", self.limits.tracked_calls)?;
        writeln!(f, "  hold_back: {}", show(self.limits.hold_back))?;
        write!(f, "exemplars: {}", self.exemplars)
    }
}

fn show_account(
    f: &mut fmt::Formatter<'_>,
    account: &AccountConfig,
    proxy: Option<&Proxy>,
) -> fmt::Result {
    writeln!(f, "  - name: {}", text(account.name.as_ref().unwrap_or(&account.account_sid)))?;
    writeln!(f, "    account_sid: {}", account.account_sid)?;
    if account.credentials.username != account.account_sid {
        writeln!(f, "    api_key: {}", account.credentials.username)?;
    }
    writeln!(f, "    # secret: <redacted>, from {}", account.credentials.source)?;
    writeln!(f, "    base_url: {}", text(&account.base_url))?;
    writeln!(f, "    region: {}", account.region)?;
    if let Some((proxy, way)) = proxy.and_then(|proxy| Some((proxy, account.way(proxy)?))) {
        match way {
            Way::Proxy => {
                writeln!(f, "    # proxy: {}, from {}", proxy.address(), proxy.source())?;
            }
            Way::Loopback => writeln!(f, "    # proxy: none for this machine")?,
            Way::Exception => writeln!(f, "    # proxy: none, as NO_PROXY says")?,
        }
    }
    if let Some(subaccounts) = &account.subaccounts {
        writeln!(f, "    subaccounts:")?;
        writeln!(f, "      discover: {}", subaccounts.discover)?;
        writeln!(f, "      include: {}", texts(&subaccounts.include))?;
        writeln!(f, "      exclude: {}", texts(&subaccounts.exclude))?;
        writeln!(f, "      names: {}", serde_json::json!(subaccounts.names))?;
    }
    Ok(())
}

/// A text as JSON, which YAML reads as well.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Texts as a JSON list, which YAML reads as well.
fn texts(texts: &[String]) -> String {
    serde_json::Value::from(texts.to_vec()).to_string()
}
