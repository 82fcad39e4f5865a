//! The account that the variables of Twilio's own tools name.

use crate::twilio::Proxy;

use super::Environment;
use super::account::{self, AccountConfig, Credentials};
use super::reader::Reader;
use super::secret::SecretSource;
use super::show;

/// The account that Twilio's own variables name.
pub(super) fn account_of_environment(
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
            "is not set: set it with TWILIO_AUTH_TOKEN (or with TWILIO_API_KEY and TWILIO_API_SECRET), or give `accounts:` in a file with --config.file; without an account, try `demo`",
        );
        return None;
    };
    if !account::is_sid(&account_sid, "AC") {
        problem("TWILIO_ACCOUNT_SID", &account::not_sid(&account_sid, "AC"));
    }
    let key = environment.get("TWILIO_API_KEY");
    if let Some(key) = key.as_ref().filter(|key| !account::is_sid(key, "SK")) {
        problem("TWILIO_API_KEY", &account::not_sid(key, "SK"));
    }
    let name = if key.is_some() { "TWILIO_API_SECRET" } else { "TWILIO_AUTH_TOKEN" };
    let source = SecretSource::Environment(name.to_owned());
    let secret = source.read(environment);
    if environment.get(name).is_none() {
        problem(name, "is not set");
    } else if let Err(text) = &secret {
        // Its place is told already.
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
    let username = key.unwrap_or_else(|| account_sid.clone());
    let credentials = Credentials { username, secret: secret.ok()?, source };
    let name = None;
    let account =
        AccountConfig { name, account_sid, credentials, base_url, region, subaccounts: None };
    reader.shown += &show::account(&account, proxy);
    Some(account)
}
