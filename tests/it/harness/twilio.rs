//! A Twilio to speak to: the simulator on loopback, or answers made up by a test.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{AppendHeaders, IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use twilio_call_exporter::clock::Clock;
use twilio_call_exporter::simulator::{
    Behaviour, Mix, Push, PushForm, SimulatedAccount, Simulator, Truth, WorldConfig,
};

use super::{Program, Scrape, eventually};

/// How a compressed body begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A Twilio on loopback.
pub(crate) struct Twilio {
    simulator: Simulator,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    url: String,
    server: JoinHandle<()>,
    requests: Arc<AtomicU64>,
    traffic: Arc<Mutex<Vec<Exchange>>>,
}

/// A request, and when and how it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// The path with the query.
    pub uri: String,
    pub asked_at: Instant,
    /// `None`: whoever asked went away before.
    pub answered: Option<(Instant, u16)>,
}

/// A world in which every scenario has happened already, `rounds` times per account.
pub(crate) fn everything(accounts: usize, rounds: u64) -> WorldConfig {
    let calls = Mix::Everything.scenario_count() * rounds;
    WorldConfig {
        accounts,
        max_calls: Some(calls),
        // All within ten minutes, the last one long enough ago to be settled at once.
        calls_per_minute: f64::from(u32::try_from(calls).expect("few calls")) / 5.0,
        backlog: Duration::from_secs(600),
        call_seconds: 1..=5,
        mix: Mix::Everything,
        ..WorldConfig::default()
    }
}

/// A believable world of `calls` calls, which all have happened already.
pub(crate) fn world_of(calls: u32) -> WorldConfig {
    WorldConfig {
        max_calls: Some(u64::from(calls)),
        calls_per_minute: f64::from(calls) / 5.0,
        backlog: Duration::from_secs(600),
        call_seconds: 1..=5,
        ..WorldConfig::default()
    }
}

/// A believable world of `accounts` with `calls` each, which go on for seconds, four a second, and
/// begin to fail soon.
pub(crate) fn going_on(accounts: usize, calls: u64) -> WorldConfig {
    WorldConfig {
        accounts,
        max_calls: Some(calls),
        calls_per_minute: 240.0,
        backlog: Duration::from_secs(5),
        call_seconds: 1..=4,
        failing_after: Some(Duration::from_secs(2)),
        ..WorldConfig::default()
    }
}

impl Twilio {
    /// Serves a world.
    pub(crate) async fn serving(world: WorldConfig) -> Self {
        Self::build(world, SignedDuration::ZERO, |_, _| None, |_| None).await
    }

    /// Serves a world whose clock is ahead of this machine's, or behind.
    pub(crate) async fn ahead_by(world: WorldConfig, offset: SignedDuration) -> Self {
        Self::build(world, offset, |_, _| None, |_| None).await
    }

    /// Serves a world behind a gateway: some of its answers, by how many requests there were before, are
    /// dated wrongly by an offset, and with a status are pages of the gateway's own.
    pub(crate) async fn misdated(
        world: WorldConfig,
        misdated: impl Fn(u64) -> Option<(Option<u16>, SignedDuration)> + Send + Sync + 'static,
    ) -> Self {
        let misdated = Arc::new(misdated);
        let dates = Arc::clone(&misdated);
        let answer = move |_: &str, before| {
            let status = misdated(before)?.0?;
            Some((status, "text/html", b"<html>Bad gateway</html>".to_vec()))
        };
        Self::build(world, SignedDuration::ZERO, answer, move |before| Some(dates(before)?.1)).await
    }

    /// Serves a world, but answers what `answer` answers itself: it is given the path with the
    /// query, and how many requests there were before. A body that begins as gzip is
    /// announced as such.
    pub(crate) async fn answering<B: Into<Vec<u8>>>(
        world: WorldConfig,
        answer: impl Fn(&str, u64) -> Option<(u16, &'static str, B)> + Send + Sync + 'static,
    ) -> Self {
        let answer = move |uri: &str, before| {
            answer(uri, before).map(|(status, kind, body)| (status, kind, body.into()))
        };
        Self::build(world, SignedDuration::ZERO, answer, |_| None).await
    }

    async fn build(
        world: WorldConfig,
        offset: SignedDuration,
        answer: impl Fn(&str, u64) -> Option<(u16, &'static str, Vec<u8>)> + Send + Sync + 'static,
        misdated: impl Fn(u64) -> Option<SignedDuration> + Send + Sync + 'static,
    ) -> Self {
        let local = Clock::start();
        let clock: Arc<dyn Fn() -> Timestamp + Send + Sync> =
            Arc::new(move || local.now() + offset);
        let simulator = Simulator::new(world, Arc::clone(&clock));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(AtomicU64::new(0));
        let traffic = Arc::new(Mutex::new(Vec::new()));
        let (counter, answer) = (Arc::clone(&requests), Arc::new(answer));
        let misdated = Arc::new(misdated);
        let log = Arc::clone(&traffic);
        let router = simulator.router().layer(from_fn(move |request: Request, next: Next| {
            let before = counter.fetch_add(1, Ordering::SeqCst);
            let uri = request.uri().to_string();
            let own = answer(&uri, before);
            let date = misdated(before).map(|offset| local.now() + offset);
            let log = Arc::clone(&log);
            async move {
                let number = {
                    let mut log = log.lock().expect("no panic");
                    log.push(Exchange { uri, asked_at: Instant::now(), answered: None });
                    log.len() - 1
                };
                let mut response = answered(own, request, next).await;
                if let Some(date) = date {
                    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
                    response.headers_mut().insert("date", date.parse().expect("a header"));
                }
                let status = response.status().as_u16();
                log.lock().expect("no panic")[number].answered = Some((Instant::now(), status));
                response
            }
        }));
        let server = tokio::spawn(serve(listener, router));
        Self { simulator, clock, url, server, requests, traffic }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn accounts(&self) -> Vec<SimulatedAccount> {
        self.simulator.accounts()
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.simulator.behave(behaviour);
    }

    /// What an observer that missed nothing has counted by now.
    pub(crate) fn truth(&self) -> Truth {
        self.simulator.truth((self.clock)())
    }

    /// What the error logs hold by now of what happened since an instant.
    pub(crate) fn error_log(&self, since: Timestamp) -> BTreeMap<[String; 6], u64> {
        self.simulator.error_log(since, (self.clock)())
    }

    /// What is pushed to a URL of what is shown since an instant.
    pub(crate) fn pushes(&self, form: PushForm, url: &str, after: Timestamp) -> Vec<Push> {
        self.pushes_between(form, url, after, (self.clock)())
    }

    /// What is pushed to a URL of what is shown after one instant and until another.
    pub(crate) fn pushes_between(
        &self,
        form: PushForm,
        url: &str,
        after: Timestamp,
        until: Timestamp,
    ) -> Vec<Push> {
        self.simulator.pushes(form, url, after, until)
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// All requests so far.
    pub(crate) fn traffic(&self) -> Vec<Exchange> {
        self.traffic.lock().expect("no panic").clone()
    }

    /// Waits until everything has happened and the program has counted all of it and no more.
    pub(crate) async fn is_told_by(&self, program: &mut Program) -> Scrape {
        let mut last = None;
        let deadline = Instant::now() + super::PATIENCE - Duration::from_secs(1);
        eventually("the metrics tell the truth", async || {
            program.assert_running();
            let truth = self.truth();
            let scrape = program.scrape().await;
            if let Some(last) = &last {
                scrape.assert_not_below(last);
            }
            let is_told = truth.complete && differences(&truth, &scrape).is_empty();
            if !is_told && Instant::now() > deadline {
                let found = differences(&truth, &scrape).join("\n");
                panic!("complete: {}, differences (truth, metrics):\n{found}", truth.complete);
            }
            last = Some(scrape.clone());
            is_told.then_some(scrape)
        })
        .await
    }
}

impl Drop for Twilio {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Series in which truth and metrics differ.
pub(crate) fn differences(truth: &Truth, scrape: &Scrape) -> Vec<String> {
    let mut found = scrape.durable();
    let mut differences = Vec::new();
    for series in &truth.families {
        let key = (series.name.clone(), series.labels.clone());
        let value = found.remove(&key);
        if value.is_none_or(|value| (value - series.value).abs() > 1e-6) {
            differences.push(format!("{key:?}: {} and {value:?}", series.value));
        }
    }
    differences.extend(found.into_iter().map(|(key, value)| format!("{key:?}: none and {value}")));
    differences
}

async fn answered(
    own: Option<(u16, &'static str, Vec<u8>)>,
    request: Request,
    next: Next,
) -> Response {
    match own {
        None => next.run(request).await,
        Some((status, content_type, body)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            let mut headers = vec![("content-type", content_type)];
            if body.starts_with(&GZIP) {
                headers.push(("content-encoding", "gzip"));
            }
            (status, AppendHeaders(headers), Body::from(body)).into_response()
        }
    }
}

async fn serve(listener: TcpListener, router: Router) {
    axum::serve(listener, router).await.expect("serves");
}
