//! A real Prometheus server that scrapes a program, every second by default.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Program, eventually};

/// A running Prometheus. It is killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    port: u16,
    http: reqwest::Client,
    began: Instant,
    directory: TempDir,
    lookback: String,
    text_only: Option<JoinHandle<()>>,
}

/// The configuration of a Prometheus.
pub(crate) struct Setup<'a> {
    /// Job names and targets.
    pub jobs: &'a [(&'a str, &'a str)],
    /// Additional settings of each job, indented by four spaces.
    pub settings: &'a str,
    /// Names and contents of the `*.rules.yml` files.
    pub rules: &'a [(&'a str, String)],
    pub scrape_interval: &'a str,
    pub evaluation_interval: &'a str,
    /// The address of an Alertmanager, if there is one.
    pub alertmanager: Option<&'a str>,
    /// How long a query returns a series after its last sample.
    pub lookback: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            jobs: &[],
            settings: "",
            rules: &[],
            scrape_interval: "1s",
            evaluation_interval: "1s",
            alertmanager: None,
            lookback: "5m",
        }
    }
}

impl Setup<'_> {
    fn write(&self, directory: &Path) {
        std::fs::write(directory.join("prometheus.yml"), self.config()).expect("written");
        for (name, text) in self.rules {
            std::fs::write(directory.join(name), text).expect("written");
        }
    }

    fn config(&self) -> String {
        let mut config = format!(
            "global: {{ scrape_interval: {scrape}, scrape_timeout: {scrape}, evaluation_interval: {} }}\n",
            self.evaluation_interval,
            scrape = self.scrape_interval,
        );
        config.push_str("rule_files: [ '*.rules.yml' ]\n");
        if let Some(address) = self.alertmanager {
            config.push_str(&format!(
                "alerting: {{ alertmanagers: [ {{ static_configs: [ {{ targets: ['{address}'] }} ] }} ] }}\n"
            ));
        }
        config.push_str("scrape_configs:\n");
        for (job, address) in self.jobs {
            config.push_str(&format!(
                "  - job_name: {job}\n    honor_labels: true\n    static_configs: [ {{ targets: ['{address}'] }} ]\n{}",
                self.settings
            ));
        }
        config
    }
}

impl Prometheus {
    /// Starts a server and waits until it has scraped the program.
    pub(crate) async fn scraping(program: &Program) -> Self {
        Self::scraping_with(program, "").await
    }

    /// The same, with additional settings for the job.
    pub(crate) async fn scraping_with(program: &Program, settings: &str) -> Self {
        let jobs = [("twilio", program.address())];
        let prometheus = Self::start(&Setup { jobs: &jobs, settings, ..Setup::default() });
        prometheus.wait_until_scraped("twilio").await;
        prometheus
    }

    /// Starts a server that evaluates rules every second and scrapes the program twice: as job `twilio`
    /// in the format it prefers, OpenMetrics, and as job `text` in the text format. It starts with the blocks in a
    /// directory, which are moved.
    pub(crate) async fn watching_with_blocks(
        program: &Program,
        rules: &[(&str, String)],
        blocks: &Path,
    ) -> Self {
        let directory = directory_with(blocks);
        let (text, server) = text_only(program.address().to_owned()).await;
        let jobs = [("twilio", program.address()), ("text", &text)];
        let setup = Setup { jobs: &jobs, rules, ..Setup::default() };
        let mut prometheus = Self::start_in(directory, &setup);
        prometheus.text_only = Some(server);
        prometheus.wait_until_scraped("twilio").await;
        prometheus.wait_until_scraped("text").await;
        prometheus
    }

    /// Starts a server.
    pub(crate) fn start(setup: &Setup<'_>) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self::start_in(directory, setup)
    }

    /// Starts a server with the blocks in a directory, which are moved.
    pub(crate) fn start_with_blocks(setup: &Setup<'_>, blocks: &Path) -> Self {
        Self::start_in(directory_with(blocks), setup)
    }

    fn start_in(directory: TempDir, setup: &Setup<'_>) -> Self {
        setup.write(directory.path());
        let port = free_port();
        let lookback = format!("--query.lookback-delta={}", setup.lookback);
        let child = spawn(directory.path(), port, &lookback);
        twilio_call_exporter::twilio::client::install_crypto();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let began = Instant::now();
        Self { child, port, http, began, directory, lookback, text_only: None }
    }

    /// Reloads the server with another setup; the `lookback` can't change.
    pub(crate) async fn reload(&self, setup: &Setup<'_>) {
        setup.write(self.directory.path());
        let response = self.http.post(self.url("/-/reload")).send().await.expect("an answer");
        assert!(response.status().is_success(), "{response:?}");
    }

    /// Sends samples by remote write: protobuf, compressed with Snappy.
    pub(crate) async fn remote_write(&self, body: Vec<u8>) {
        let request = self.http.post(self.url("/api/v1/write"));
        let request = request
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-write-version", "0.1.0");
        let response = request.body(body).send().await.expect("an answer");
        let status = response.status();
        assert!(status.is_success(), "{status}: {:?}", response.text().await);
    }

    /// All rule groups, with their evaluation times.
    pub(crate) async fn groups(&self) -> Vec<Value> {
        let answer = self.ask("/api/v1/rules", &[]).await.expect("an answer");
        answer["data"]["groups"].as_array().expect("groups").clone()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Waits until a job has been scraped twice.
    pub(crate) async fn wait_until_scraped(&self, job: &str) {
        eventually("Prometheus has scraped twice", async || {
            let scrapes = format!("sum_over_time(up{{job=\"{job}\"}}[1m])");
            self.query(&scrapes).await.filter(|scrapes| *scrapes >= 2.0)
        })
        .await;
    }

    /// Kills the server with SIGKILL and restarts it with its data.
    pub(crate) async fn restart(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
        self.child = spawn(self.directory.path(), self.port, &self.lookback);
        self.wait_until_scraped("twilio").await;
    }

    /// The time since it was started.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// All pending and firing alerts.
    pub(crate) async fn alerts(&self) -> Vec<Value> {
        let answer = self.ask("/api/v1/alerts", &[]).await.expect("an answer");
        answer["data"]["alerts"].as_array().expect("alerts").clone()
    }

    /// The result of an instant query.
    pub(crate) async fn instant(&self, query: &str) -> Vec<Value> {
        let answer = self.ask("/api/v1/query", &[("query", query)]).await.expect("an answer");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("a result").clone()
    }

    /// The result of a range query; `from`, `to` and `step` in seconds.
    pub(crate) async fn range(&self, query: &str, from: i64, to: i64, step: i64) -> Vec<Value> {
        let [from, to, step] = [from, to, step].map(|seconds| seconds.to_string());
        let parameters = [("query", query), ("start", &from), ("end", &to), ("step", &step)];
        let answer = self.ask("/api/v1/query_range", &parameters).await.expect("an answer");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("a result").clone()
    }

    /// The values of a label of the selected series.
    pub(crate) async fn label_values(&self, series: &str, label: &str) -> Vec<Value> {
        let path = format!("/api/v1/label/{label}/values");
        let answer = self.ask(&path, &[("match[]", series)]).await.expect("an answer");
        assert_eq!(answer["status"], "success", "{series}: {answer}");
        answer["data"].as_array().expect("values").clone()
    }

    /// The labels of all exemplars that Prometheus stores for a selector.
    pub(crate) async fn exemplars(&self, selector: &str) -> Vec<Value> {
        let now = twilio_call_exporter::clock::Clock::start().now().as_second();
        let (start, end) = ((now - 3_600).to_string(), (now + 60).to_string());
        let parameters = [("query", selector), ("start", &start), ("end", &end)];
        let answer = self.ask("/api/v1/query_exemplars", &parameters).await.expect("an answer");
        let series = answer["data"].as_array().cloned().unwrap_or_default();
        let exemplars = series.iter().filter_map(|series| series["exemplars"].as_array());
        exemplars.flatten().map(|exemplar| exemplar["labels"].clone()).collect()
    }

    /// The first value of an instant query; `None` if the result is empty.
    pub(crate) async fn query(&self, query: &str) -> Option<f64> {
        let answer = self.ask("/api/v1/query", &[("query", query)]).await?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let url = reqwest::Url::parse_with_params(&self.url(path), parameters).expect("a URL");
        let text = self.http.get(url).send().await.ok()?.text().await.ok()?;
        serde_json::from_str(&text).ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have exited already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        if let Some(server) = &self.text_only {
            server.abort();
        }
    }
}

/// Returns a directory for a server, with blocks that are moved there.
fn directory_with(blocks: &Path) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    std::fs::rename(blocks, directory.path().join("tsdb")).expect("moved");
    directory
}

fn spawn(directory: &Path, port: u16, lookback: &str) -> Child {
    Command::new("prometheus")
        .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", directory.join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(lookback)
        // The default is 15 days.
        .arg("--storage.tsdb.retention.time=90d")
        .arg("--enable-feature=exemplar-storage")
        .arg("--web.enable-lifecycle")
        .arg("--web.enable-remote-write-receiver")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus")
}

/// Serves a program's metrics in the text format, whatever the `Accept` header: Prometheus always prefers
/// OpenMetrics.
async fn text_only(program: String) -> (String, JoinHandle<()>) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = move |headers: HeaderMap| {
        let request =
            http.get(format!("http://{program}/metrics")).header(header::ACCEPT, "text/plain");
        async move {
            assert!(headers.contains_key(header::ACCEPT), "Prometheus sends an Accept header");
            let Ok(response) = request.send().await else {
                return (StatusCode::BAD_GATEWAY, HeaderMap::new(), String::new());
            };
            let mut headers = HeaderMap::new();
            let content_type = response.headers()[header::CONTENT_TYPE].clone();
            assert!(
                content_type
                    .to_str()
                    .is_ok_and(|text| text.starts_with("text/plain; version=0.0.4"))
            );
            headers.insert(header::CONTENT_TYPE, content_type);
            (StatusCode::OK, headers, response.text().await.unwrap_or_default())
        }
    };
    let router = Router::new().route("/metrics", axum::routing::get(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
    (address, server)
}

/// A port that was free a moment ago, for servers that can't report a port they have chosen.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
