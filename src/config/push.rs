//! Reads the URL to which Twilio pushes error log entries, and checks that pushes can be verified.

use crate::twilio::push::PublicUrl;

use super::account::AccountConfig;
use super::environment::bare;
use super::reader::{Reader, Section};
use super::show;

/// Reads `push:`. An account without a secret that signs pushes can only be polled, which causes a notice. If
/// no account has one, no push could ever be accepted, which is a problem.
pub(super) fn read(
    reader: &mut Reader<'_>,
    top: &mut Section,
    accounts: &[AccountConfig],
    notices: &mut Vec<String>,
) -> Option<PublicUrl> {
    let mut section = reader.section(top, "push");
    let text = reader.text(&mut section, "public_url").map(|text| bare(&text).to_owned());
    let url = text.as_ref().map(|text| text.parse::<PublicUrl>());
    let key = section.key("public_url");
    let url = match url {
        Some(Err(error)) => {
            reader.problem("configuration", key.clone(), error.to_string());
            None
        }
        Some(Ok(url)) => Some(url),
        None => None,
    };
    reader.show(&section, "public_url", &show::json(&url.as_ref().map(ToString::to_string)));
    reader.finish(section);
    let without = accounts.iter().filter(|account| account.push_secret.is_none());
    let without: Vec<&str> = without.map(|account| account.label.as_str()).collect();
    if url.is_some() && !without.is_empty() {
        if without.len() == accounts.len() {
            let text = "needs an account with an auth token to verify pushes: expected `push_auth_token_file`, `push_auth_token_env` or `push_auth_token_credential` in addition to its API key";
            reader.problem("configuration", key, text.to_owned());
        } else {
            notices.push(format!(
                "pushes can't be verified for {}: set `push_auth_token_file`, `push_auth_token_env` or `push_auth_token_credential` in addition to its API key",
                without.join(", ")
            ));
        }
    }
    url
}
