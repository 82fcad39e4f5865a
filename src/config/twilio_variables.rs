//! Reads the account from the environment variables of Twilio's own tools.

use crate::domain::words::sid::{AccountSid, ApiKeySid};
use crate::domain::words::subaccounts::SubaccountFilter;
use crate::twilio::{Credentials, Proxy};

use super::Environment;
use super::account::{self, AccountConfig, PushSecret};
use super::reader::Reader;
use super::secret::SecretSource;
use super::show;

/// Reads the account from Twilio's own variables.
pub(super) fn account_from_environment(
    reader: &mut Reader<'_>,
    environment: &Environment,
    proxy: Option<&Proxy>,
) -> Option<AccountConfig> {
    let mut problem = |name: &str, text: &str| {
        let place = format!("environment variable {name}");
        reader.problem(&place, String::new(), text.to_owned());
    };
    let Some(account_sid) = environment.get("TWILIO_ACCOUNT_SID") else {
        problem(
            "TWILIO_ACCOUNT_SID",
            "is not set: set it together with TWILIO_AUTH_TOKEN (or with TWILIO_API_KEY and TWILIO_API_SECRET), or list `accounts:` in a file given by --config.file; to try it without an account, run `demo`",
        );
        return None;
    };
    let account_sid = account::parse_sid(&account_sid, AccountSid::parse)
        .map_err(|text| problem("TWILIO_ACCOUNT_SID", &text));
    let key = environment.get("TWILIO_API_KEY").map(|key| {
        let key = account::parse_sid(&key, ApiKeySid::parse);
        key.map_err(|text| problem("TWILIO_API_KEY", &text))
    });
    let name = if key.is_some() { "TWILIO_API_SECRET" } else { "TWILIO_AUTH_TOKEN" };
    let source = SecretSource::Environment(name.to_owned());
    let secret = source.read(environment);
    if environment.get(name).is_none() {
        problem(name, "is not set");
    } else if let Err(text) = &secret {
        // The message already names the variable.
        problem(name, text.strip_prefix(&format!("{source} ")).unwrap_or(text));
    }
    let address = account::resolve_base_url(
        environment.get("TWILIO_API_BASE_URL"),
        environment.get("TWILIO_REGION"),
        environment.get("TWILIO_EDGE"),
    );
    let (base_url, region) = match address {
        Ok(address) => address,
        Err((key, text)) => {
            let name = match key {
                "base_url" => "TWILIO_API_BASE_URL",
                "region" => "TWILIO_REGION",
                _ => "TWILIO_EDGE",
            };
            problem(name, &text);
            return None;
        }
    };
    let (account_sid, key) = (account_sid.ok()?, key.transpose().ok()?);
    let label = account_sid.to_string();
    let username = key.map_or_else(|| label.clone(), |key| key.to_string());
    // With an API key, the auth token only verifies pushes, and is optional.
    let token = SecretSource::Environment("TWILIO_AUTH_TOKEN".to_owned());
    let push_secret = token.read(environment).ok();
    let is_separate = push_secret.is_some() && source != token;
    let credentials = Credentials { username, secret: secret.ok()? };
    let account = AccountConfig {
        label,
        account_sid,
        credentials,
        base_url,
        region,
        discovers: false,
        subaccounts: SubaccountFilter::default(),
        push_secret: push_secret.map(PushSecret),
    };
    reader.shown += &show::account(&account, &source, is_separate.then_some(&token), proxy);
    Some(account)
}
