//! How pages are served: from the web configuration file, and again whenever it changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;

use crate::config::web::{ClientCertificates, WebConfig, load_web};
use crate::http::web::{Serving, TlsParts, Unusable, Web};

/// How often the file, and the certificates that it names, are read again: whoever renews them need
/// tell nobody.
const READ_EVERY: Duration = Duration::from_secs(3);

/// A web configuration, ready to be served with; without a file, as plain as can be.
pub(super) fn load(file: Option<&Path>) -> Result<(WebConfig, Serving), String> {
    let config = match file {
        None => WebConfig::default(),
        Some(path) => load_web(path).map_err(|problems| problems.to_string())?,
    };
    let serving = serving(&config);
    let place = file.unwrap_or(Path::new("web configuration")).display();
    let serving = serving.map_err(|error| format!("{place}: {error}"))?;
    Ok((config, serving))
}

fn serving(config: &WebConfig) -> Result<Serving, Unusable> {
    let tls = config.tls.as_ref().map(|tls| TlsParts {
        certificates: &tls.certificates,
        key: tls.key.expose_secret(),
        clients: match &tls.clients {
            ClientCertificates::NotAsked => None,
            ClientCertificates::VerifiedIfGiven(authorities) => Some((authorities, true)),
            ClientCertificates::Required(authorities) => Some((authorities, false)),
        },
        versions: (tls.speaks_1_2, tls.speaks_1_3),
    });
    Serving::new(tls.as_ref(), config.users.clone(), &config.headers)
}

/// Reads the file again and again. What can't be used changes nothing, and is said once.
pub(super) async fn follow(file: PathBuf, current: WebConfig, web: Web) {
    let mut said = None;
    let mut sightings = Sightings { current, seen: None };
    loop {
        tokio::time::sleep(READ_EVERY).await;
        let path = file.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || load(Some(&path))).await else {
            tracing::warn!("cannot read the web configuration this time");
            continue;
        };
        let found = found.and_then(|(config, serving)| match config.loses(&sightings.current) {
            None => Ok((config, serving)),
            Some(lost) => Err(format!("{}: {lost}; to allow that, restart", file.display())),
        });
        match found {
            Ok((config, serving)) => {
                if sightings.is_to_be_in_force(config) {
                    web.replace(serving);
                    tracing::info!("web configuration reloaded");
                }
                said = None;
            }
            Err(problems) => {
                sightings.seen = None;
                if said.as_ref() != Some(&problems) {
                    tracing::warn!(
                        %problems,
                        "cannot reload the web configuration, the former one stays in force"
                    );
                    said = Some(problems);
                }
            }
        }
    }
}

/// What was read of the file so far.
struct Sightings {
    /// What is in force.
    current: WebConfig,
    /// What was read last, if it could be used.
    seen: Option<WebConfig>,
}

impl Sightings {
    /// Whether what was read now takes the place of what is in force: only when it was there the last
    /// time, too, since whoever writes a file may not be done.
    fn is_to_be_in_force(&mut self, found: WebConfig) -> bool {
        let is_new = found != self.current && self.seen.as_ref() == Some(&found);
        if is_new {
            self.current = found.clone();
        }
        self.seen = Some(found);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::web::TlsConfig;

    use super::*;

    #[test]
    fn a_change_may_add_protection_and_exchange_it_but_not_take_it_away() {
        let tls = |clients: ClientCertificates| {
            Some(TlsConfig {
                certificates: "c".to_owned(),
                key: "k".into(),
                clients,
                speaks_1_2: true,
                speaks_1_3: true,
            })
        };
        let ca = || "ca".to_owned();
        let open = WebConfig::default();
        let users = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let others = BTreeMap::from([("c".to_owned(), "d".to_owned())]);
        let with_users = WebConfig { users, ..WebConfig::default() };
        let with_others = WebConfig { users: others, ..WebConfig::default() };
        let private = WebConfig { tls: tls(ClientCertificates::NotAsked), ..WebConfig::default() };
        let asks = ClientCertificates::VerifiedIfGiven(ca());
        let asking = WebConfig { tls: tls(asks), ..WebConfig::default() };
        let requires = ClientCertificates::Required(ca());
        let strict = WebConfig { tls: tls(requires), ..WebConfig::default() };
        let both = WebConfig { tls: strict.tls.clone(), ..with_users.clone() };
        for (former, next, loses) in [
            (&open, &both, false),
            (&open, &open, false),
            (&both, &both, false),
            (&with_users, &with_others, false),
            (&private, &strict, false),
            (&asking, &private, false),
            (&both, &open, true),
            (&with_users, &open, true),
            (&with_users, &strict, true),
            (&both, &with_users, true),
            (&private, &open, true),
            (&strict, &asking, true),
            (&strict, &private, true),
        ] {
            assert_eq!(next.loses(former).is_some(), loses, "{former:?} {next:?}");
        }
    }

    #[test]
    fn a_change_is_in_force_once_it_was_seen_twice() {
        let with = |hash: &str| WebConfig {
            users: BTreeMap::from([("prometheus".to_owned(), hash.to_owned())]),
            ..WebConfig::default()
        };
        let mut sightings = Sightings { current: with("a"), seen: None };
        for (found, expected) in [
            (with("a"), false),
            // Half-written: nobody would have to sign in.
            (WebConfig::default(), false),
            (with("b"), false),
            (with("b"), true),
            (with("b"), false),
            (with("a"), false),
            (with("a"), true),
        ] {
            assert_eq!(sightings.is_to_be_in_force(found), expected);
        }
    }
}
