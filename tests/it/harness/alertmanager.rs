//! A real Alertmanager with our configuration, and the pager it notifies: a receiver in the test process
//! that stores every notification.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{eventually, free_port, shortened};

/// The configuration we ship.
pub(crate) const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/config/alertmanager/alertmanager.yml");
/// The URL of its receivers.
const PAGER: &str = "http://localhost:9099/";

/// One notification sent to a receiver.
#[derive(Clone, Debug)]
pub(crate) struct Notification {
    /// Time since Alertmanager was started.
    pub after: Duration,
    /// The receiver's name.
    pub receiver: String,
    /// Whether all its alerts are resolved.
    pub is_resolved: bool,
    /// The labels of its firing alerts.
    pub firing: Vec<BTreeMap<String, String>>,
    /// The labels of its resolved alerts.
    pub resolved: Vec<BTreeMap<String, String>>,
}

impl Notification {
    /// Summarises the firing and resolved alerts by name and identifying labels, with the number of accounts.
    fn summary(&self) -> String {
        let names = |alerts: &[BTreeMap<String, String>]| {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for alert in alerts {
                let of = |label: &&str| alert.contains_key(*label);
                let of: Vec<_> = ["account", "host", "route"].into_iter().filter(of).collect();
                let name = format!("{}({})", alert["alertname"], of.join(", "));
                *counts.entry(name).or_default() += 1;
            }
            let counts = counts.iter().map(|(name, count)| format!("{count} {name}"));
            counts.collect::<Vec<_>>().join(", ")
        };
        let all = self.firing.iter().chain(&self.resolved);
        let accounts: BTreeSet<_> = all.filter_map(|labels| labels.get("account")).collect();
        format!(
            "{}: firing [{}], resolved [{}], {} accounts",
            self.receiver,
            names(&self.firing),
            names(&self.resolved),
            accounts.len(),
        )
    }
}

/// One line per notification; notifications with the same text share a line.
pub(crate) fn lines(notifications: &[Notification]) -> String {
    let mut grouped: Vec<(String, Vec<Duration>)> = Vec::new();
    for notification in notifications {
        let text = notification.summary();
        match grouped.iter_mut().find(|(known, _)| *known == text) {
            Some((_, times)) => times.push(notification.after),
            None => grouped.push((text, vec![notification.after])),
        }
    }
    let line = |(text, times): (String, Vec<Duration>)| {
        let [first, last] =
            [times.first(), times.last()].map(|time| time.map_or(0.0, Duration::as_secs_f64));
        format!("  {} x from {first:.1} s until {last:.1} s, {text}", times.len())
    };
    grouped.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A running Alertmanager. It is killed when dropped.
pub(crate) struct Alertmanager {
    child: Child,
    address: String,
    http: reqwest::Client,
    notifications: Arc<Mutex<Vec<Notification>>>,
    pager: JoinHandle<()>,
    _directory: TempDir,
}

impl Alertmanager {
    /// Starts one with the configuration we ship, except for the URL of the receivers.
    pub(crate) async fn start() -> Self {
        Self::start_accelerated(1).await
    }

    /// The same, with all durations divided by `factor`.
    pub(crate) async fn start_accelerated(factor: u64) -> Self {
        let directory = TempDir::new().expect("a directory");
        let notifications = Arc::new(Mutex::new(Vec::new()));
        let (pager_address, pager) = pager(Arc::clone(&notifications)).await;
        let shipped = std::fs::read_to_string(SHIPPED).expect("alertmanager.yml");
        assert!(shipped.contains(PAGER), "no receiver at {PAGER}");
        let text = shipped.replace(PAGER, &format!("http://{pager_address}/"));
        let text = if factor == 1 { text } else { shortened(&text, factor) };
        let file = directory.path().join("alertmanager.yml");
        std::fs::write(&file, text).expect("written");
        let address = format!("127.0.0.1:{}", free_port());
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus-alertmanager");
        twilio_call_exporter::twilio::client::install_crypto();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let alertmanager =
            Self { child, address, http, notifications, pager, _directory: directory };
        eventually("Alertmanager is ready", async || alertmanager.ask("/-/ready").await.map(drop))
            .await;
        alertmanager
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Posts alerts, as Prometheus does.
    pub(crate) async fn post_alerts(&self, alerts: &[Value]) {
        let url = format!("http://{}/api/v2/alerts", self.address);
        eventually("Alertmanager accepts alerts", async || {
            let request = self.http.post(&url).header("content-type", "application/json");
            let response = request.body(json!(alerts).to_string()).send().await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
    }

    /// Name, account and host of each alert that isn't inhibited.
    pub(crate) async fn active_alerts(&self) -> Option<Vec<String>> {
        let known: Vec<Value> = serde_json::from_str(&self.ask("/api/v2/alerts").await?).ok()?;
        let active = known.iter().filter(|alert| alert["status"]["state"] == "active");
        let name = |alert: &Value| {
            let of = |label: &str| alert["labels"][label].as_str().map(str::to_owned);
            let labels = ["alertname", "account", "host"].into_iter().filter_map(of);
            labels.collect::<Vec<_>>().join(" ")
        };
        let mut names: Vec<String> = active.map(name).collect();
        names.sort();
        Some(names)
    }

    /// All notifications sent to a receiver so far.
    pub(crate) fn notifications(&self, receiver: &str) -> Vec<Notification> {
        let all = self.notifications.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|one| one.receiver == receiver).cloned().collect()
    }

    async fn ask(&self, path: &str) -> Option<String> {
        let response = self.http.get(format!("http://{}{path}", self.address)).send().await.ok()?;
        response.error_for_status().ok()?.text().await.ok()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // It may have exited already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        self.pager.abort();
    }
}

/// Serves a receiver that stores notifications, whichever path they are sent to.
async fn pager(received: Arc<Mutex<Vec<Notification>>>) -> (String, JoinHandle<()>) {
    let began = Instant::now();
    let take = move |Path(_): Path<String>, body: String| async move {
        let body: Value = serde_json::from_str(&body).expect("a notification");
        let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
        let of = |status: &str| {
            let alerts = alerts.iter().filter(|alert| alert["status"] == status);
            alerts.map(|alert| labels(&alert["labels"])).collect()
        };
        let notification = Notification {
            after: began.elapsed(),
            receiver: body["receiver"].as_str().expect("a receiver").to_owned(),
            is_resolved: body["status"] == "resolved",
            firing: of("firing"),
            resolved: of("resolved"),
        };
        received.lock().unwrap_or_else(PoisonError::into_inner).push(notification);
    };
    // One notification may hold thousands of alerts.
    let router = Router::new()
        .route("/{receiver}", axum::routing::post(take))
        .layer(axum::extract::DefaultBodyLimit::disable());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
    (address, server)
}

fn labels(labels: &Value) -> BTreeMap<String, String> {
    let all = labels.as_object().expect("labels").iter();
    all.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}
