//! Reloads the web configuration when it changes, so that renewing certificates doesn't require a restart.

use std::time::Duration;

use super::{Active, WebSettings};

/// How often the file and its certificates are read.
const READ_INTERVAL: Duration = Duration::from_secs(3);

impl WebSettings {
    /// Rereads the file, if there is one, until the task is dropped. A file that is invalid or would remove protection
    /// changes nothing; its problems are logged once.
    pub async fn follow(self) {
        let Some(file) = self.file.clone() else { return };
        let config = self.current().config.clone();
        if config.tls.is_none() && config.users.is_empty() {
            tracing::warn!(
                "the web configuration file sets neither TLS nor users: any client that reaches the port can read the pages"
            );
        }
        let mut logged = None;
        loop {
            tokio::time::sleep(READ_INTERVAL).await;
            let (path, former) = (file.clone(), self.current());
            let read = move || {
                let next = Active::load(Some(&path))?;
                match next.config.removed_protection(&former.config) {
                    // A truncated file may be valid, too.
                    Some(removed) => Err(format!(
                        "{}: {removed}; to apply this, restart the exporter",
                        path.display()
                    )),
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
    fn protection_can_be_added_or_replaced_but_not_removed() {
        let tls = |clients: ClientCertificates| {
            Some(TlsConfig {
                certificates: "c".to_owned(),
                key: "k".into(),
                clients,
                allows_tls_1_2: true,
                allows_tls_1_3: true,
            })
        };
        let ca = || "ca".to_owned();
        let open = WebConfig::default();
        let users = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let others = BTreeMap::from([("c".to_owned(), "d".to_owned())]);
        let with_users = WebConfig { users, ..WebConfig::default() };
        let with_others = WebConfig { users: others, ..WebConfig::default() };
        let private =
            WebConfig { tls: tls(ClientCertificates::NotRequested), ..WebConfig::default() };
        let optional = ClientCertificates::VerifiedIfGiven(ca());
        let lenient = WebConfig { tls: tls(optional), ..WebConfig::default() };
        let required = ClientCertificates::Required(ca());
        let strict = WebConfig { tls: tls(required), ..WebConfig::default() };
        let both = WebConfig { tls: strict.tls.clone(), ..with_users.clone() };
        for (former, next, is_removed) in [
            (&open, &both, false),
            (&open, &open, false),
            (&both, &both, false),
            (&with_users, &with_others, false),
            (&private, &strict, false),
            (&lenient, &private, false),
            (&both, &open, true),
            (&with_users, &open, true),
            (&with_users, &strict, true),
            (&both, &with_users, true),
            (&private, &open, true),
            (&strict, &lenient, true),
            (&strict, &private, true),
        ] {
            assert_eq!(
                next.removed_protection(former).is_some(),
                is_removed,
                "{former:?} {next:?}"
            );
        }
    }
}
