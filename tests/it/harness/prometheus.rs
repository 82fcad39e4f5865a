//! A real Prometheus server that scrapes a program every second.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Program, eventually};

/// A running Prometheus. It is killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    url: String,
    http: reqwest::Client,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts a server, and waits until it has scraped the program.
    pub(crate) async fn scraping(program: &Program) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: twilio\n    honor_labels: true\n    static_configs: [ {{ targets: ['{}'] }} ]\n",
            program.address()
        );
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        let port = free_port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--enable-feature=exemplar-storage")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("http://127.0.0.1:{port}");
        let prometheus = Self { child, url, http, _directory: directory };
        eventually("Prometheus has scraped twice", async || {
            prometheus.query("count_over_time(up[1m])").await.filter(|scrapes| *scrapes >= 2.0)
        })
        .await;
        prometheus
    }

    /// The labels of all exemplars that Prometheus keeps for a selector.
    pub(crate) async fn exemplars(&self, selector: &str) -> Vec<serde_json::Value> {
        let mut url =
            reqwest::Url::parse(&format!("{}/api/v1/query_exemplars", self.url)).expect("a URL");
        let now = twilio_call_exporter::clock::Clock::start().now().as_second();
        url.query_pairs_mut()
            .append_pair("query", selector)
            .append_pair("start", &(now - 3_600).to_string())
            .append_pair("end", &(now + 60).to_string());
        let answer = self.http.get(url).send().await.expect("an answer").text().await;
        let answer: serde_json::Value =
            serde_json::from_str(&answer.expect("a body")).expect("JSON");
        let series = answer["data"].as_array().cloned().unwrap_or_default();
        let exemplars = series.iter().filter_map(|series| series["exemplars"].as_array());
        exemplars.flatten().map(|exemplar| exemplar["labels"].clone()).collect()
    }

    /// The first value of an instant query; `None` without a result.
    pub(crate) async fn query(&self, query: &str) -> Option<f64> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/query", self.url)).expect("a URL");
        url.query_pairs_mut().append_pair("query", query);
        let text = self.http.get(url).send().await.ok()?.text().await.ok()?;
        let answer: serde_json::Value = serde_json::from_str(&text).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Gone already is as good.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A port that was free a moment ago: Prometheus can't tell which it took.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
