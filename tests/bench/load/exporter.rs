//! The exporter under load.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING};

use super::process::{Process, Usage};
use super::twilio::{Shape, account_sid};

/// The maximum time to wait for a condition.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The interval at which progress is checked: long, because each check is a scrape that takes CPU time.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// A running exporter.
pub(crate) struct Exporter {
    process: Process,
    pub url: String,
    pub http: reqwest::Client,
}

impl Exporter {
    /// Starts an exporter that polls the Twilio at `url` and stores its data in `directory`.
    pub(crate) async fn start(directory: &Path, url: &str, shape: Shape) -> anyhow::Result<Self> {
        let mut config = String::from("limits: { routes_per_account: 1000 }\naccounts:\n");
        for account in 0..shape.accounts {
            let sid = account_sid(account);
            writeln!(
                config,
                "  - {{ account_sid: {sid}, auth_token_env: TOKEN, base_url: '{url}' }}"
            )?;
        }
        let file = directory.join("exporter.yml");
        std::fs::write(&file, config)?;
        let log = directory.join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_twilio-call-exporter"));
        command
            .env("TOKEN", "secret")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", directory.join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
            .stderr(Stdio::from(std::fs::File::create(&log)?));
        let process = Process::start(&mut command)?;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        let began = Instant::now();
        let address = loop {
            let text = std::fs::read_to_string(&log)?;
            let address =
                text.lines().find(|line| line.contains("\"listening\"")).and_then(|line| {
                    let start = line.find("\"address\":\"")? + 11;
                    line[start..].split('"').next().map(str::to_owned)
                });
            if let Some(address) = address {
                break address;
            }
            if began.elapsed() > TIMEOUT {
                bail!("the exporter doesn't listen after {TIMEOUT:?}: {text}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        Ok(Self { process, url: format!("http://{address}"), http })
    }

    pub(crate) async fn scrape(&self, accept: &str, encoding: &str) -> anyhow::Result<Vec<u8>> {
        let request = self.http.get(format!("{}/metrics", self.url));
        let request = request.header(ACCEPT, accept).header(ACCEPT_ENCODING, encoding);
        Ok(request.send().await?.error_for_status()?.bytes().await?.to_vec())
    }

    /// Returns the number of webhook requests counted so far.
    pub(crate) async fn counted(&self) -> anyhow::Result<u64> {
        let text = String::from_utf8(self.scrape("text/plain", "identity").await?)?;
        let values = text
            .lines()
            .filter(|line| line.starts_with("twilio_webhook_requests_total{"))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        Ok(values.sum())
    }

    /// Waits until this many events are counted.
    pub(crate) async fn wait_until_counted(&self, events: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut counted = 0;
        while began.elapsed() < TIMEOUT {
            counted = self.counted().await?;
            if counted >= events {
                return Ok(());
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
        bail!("only {counted} of {events} Call Events were counted within {TIMEOUT:?}")
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        self.process.usage().context("the exporter has ended")
    }
}
