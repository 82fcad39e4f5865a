//! Reloads the web configuration when it changes, so that renewed certificates need no restart.

use std::time::Duration;

use super::{Active, WebSettings};

/// How often the file, and the certificates that it names, are read.
const READ_EVERY: Duration = Duration::from_secs(3);

impl WebSettings {
    /// Reads the file, if there is one, until the task is dropped. A file that is invalid, or that would remove
    /// protection, changes nothing and is logged once.
    pub async fn follow(self) {
        let Some(file) = self.file.clone() else { return };
        let config = self.current().config.clone();
        if config.tls.is_none() && config.users.is_empty() {
            tracing::warn!(
                "the web configuration file sets neither TLS nor users: every client that reaches the port can read the pages"
            );
        }
        let mut logged = None;
        loop {
            tokio::time::sleep(READ_EVERY).await;
            let (path, former) = (file.clone(), self.current());
            let read = move || {
                let next = Active::load(Some(&path))?;
                match next.config.loses(&former.config) {
                    // An empty or truncated file is valid, too.
                    Some(lost) => {
                        Err(format!("{}: {lost}; to allow that, restart", path.display()))
                    }
                    None => Ok((next.config != former.config).then_some(next)),
                }
            };
            let Ok(read) = tokio::task::spawn_blocking(read).await else { continue };
            match read {
                Ok(change) => {
                    logged = None;
                    if let Some(next) = change {
                        self.replace(next);
                        tracing::info!("web configuration reloaded");
                    }
                }
                Err(problems) if logged.as_ref() == Some(&problems) => {}
                Err(problems) => {
                    tracing::warn!(
                        %problems,
                        "cannot reload the web configuration; the previous one stays active"
                    );
                    logged = Some(problems);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::config::{ClientCertificates, TlsConfig, WebConfig};

    #[test]
    fn a_change_may_add_or_replace_protection_but_not_remove_it() {
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
}
