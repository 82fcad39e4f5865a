//! A Twilio for the program to poll: the simulator on loopback, or responses provided by a test.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// The first bytes of a gzip body (RFC 1952).
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

/// A request and its response.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// The path and query.
    pub uri: String,
    pub requested_at: Instant,
    /// When the response was ready, and its status; `None` if the client disconnected before.
    pub answered: Option<(Instant, u16)>,
}

/// A world in which every scenario has already happened, `rounds` times per account.
pub(crate) fn everything(accounts: usize, rounds: u64) -> WorldConfig {
    let calls = Mix::Everything.scenario_count() * rounds;
    WorldConfig {
        accounts,
        max_calls: Some(calls),
        // All within ten minutes, and the last one long enough ago to be settled immediately.
        calls_per_minute: f64::from(u32::try_from(calls).expect("few calls")) / 5.0,
        backlog: Duration::from_secs(600),
        call_seconds: 1..=5,
        mix: Mix::Everything,
        ..WorldConfig::default()
    }
}

/// A realistic world of `calls` calls, all of which have already happened.
pub(crate) fn world_of(calls: u32) -> WorldConfig {
    WorldConfig {
        max_calls: Some(u64::from(calls)),
        calls_per_minute: f64::from(calls) / 5.0,
        backlog: Duration::from_secs(600),
        call_seconds: 1..=5,
        ..WorldConfig::default()
    }
}

/// A realistic world of `accounts` with `calls` each: eight calls start per second, last for seconds, and
/// begin to fail after two seconds.
pub(crate) fn ongoing_calls(accounts: usize, calls: u64) -> WorldConfig {
    WorldConfig {
        accounts,
        max_calls: Some(calls),
        calls_per_minute: 480.0,
        backlog: Duration::from_secs(2),
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

    /// Serves a world whose clock differs from this machine's by `offset`.
    pub(crate) async fn ahead_by(world: WorldConfig, offset: SignedDuration) -> Self {
        Self::build(world, offset, |_, _| None, |_| None).await
    }

    /// Serves a world that started some time ago, so that its line could begin to fail then.
    pub(crate) async fn started_ago(world: WorldConfig, age: SignedDuration) -> Self {
        Self::build_started(world, age, SignedDuration::ZERO, |_, _| None, |_| None).await
    }

    /// Serves a world behind a gateway. `misdated` gets the number of earlier requests; if it returns an
    /// offset, the response's date is off by it, and with a status the response is a page of the gateway.
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

    /// Serves a world, but takes a response from `answer` if it returns one: it gets the path with the query
    /// and the number of earlier requests. A body that starts with the gzip magic bytes is sent with
    /// `content-encoding: gzip`.
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
        Self::build_started(world, SignedDuration::ZERO, offset, answer, misdated).await
    }

    async fn build_started(
        world: WorldConfig,
        age: SignedDuration,
        offset: SignedDuration,
        answer: impl Fn(&str, u64) -> Option<(u16, &'static str, Vec<u8>)> + Send + Sync + 'static,
        misdated: impl Fn(u64) -> Option<SignedDuration> + Send + Sync + 'static,
    ) -> Self {
        let local = Clock::start();
        let clock: Arc<dyn Fn() -> Timestamp + Send + Sync> =
            Arc::new(move || local.now() + offset);
        let is_started = AtomicBool::new(false);
        let simulated = Arc::clone(&clock);
        // The world starts at the first time that it is given.
        let simulated = Arc::new(move || {
            let age =
                if is_started.swap(true, Ordering::SeqCst) { SignedDuration::ZERO } else { age };
            simulated() - age
        });
        let simulator = Simulator::new(world, simulated);
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
                    log.push(Exchange { uri, requested_at: Instant::now(), answered: None });
                    log.len() - 1
                };
                let mut response = respond(own, request, next).await;
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

    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        self.simulator.set_behaviour(behaviour);
    }

    /// The counts of an observer that has missed nothing so far.
    pub(crate) fn truth(&self) -> Truth {
        self.simulator.truth((self.clock)())
    }

    /// The counts of an observer that had missed nothing at an instant.
    pub(crate) fn truth_at(&self, at: Timestamp) -> Truth {
        self.simulator.truth(at)
    }

    /// The entries in the error logs so far for events since an instant.
    pub(crate) fn error_log(&self, since: Timestamp) -> BTreeMap<[String; 6], u64> {
        self.simulator.error_log(since, (self.clock)())
    }

    /// The pushes to a URL of entries that appeared after an instant.
    pub(crate) fn pushes(&self, form: PushForm, url: &str, after: Timestamp) -> Vec<Push> {
        self.pushes_between(form, url, after, (self.clock)())
    }

    /// The pushes to a URL of entries that appeared after one instant and up to another.
    pub(crate) fn pushes_between(
        &self,
        form: PushForm,
        url: &str,
        after: Timestamp,
        until: Timestamp,
    ) -> Vec<Push> {
        self.simulator.pushes(form, url, after, until)
    }

    /// The number of requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// All requests so far.
    pub(crate) fn traffic(&self) -> Vec<Exchange> {
        self.traffic.lock().expect("no panic").clone()
    }

    /// Waits until everything has happened and the program has counted exactly that.
    pub(crate) async fn wait_until_counted_by(&self, program: &mut Program) -> Scrape {
        let mut last = None;
        let deadline = Instant::now() + super::PATIENCE - Duration::from_secs(1);
        eventually("the metrics match the simulator's counts", async || {
            program.assert_running();
            let truth = self.truth();
            let scrape = program.scrape().await;
            if let Some(last) = &last {
                scrape.assert_not_below(last);
            }
            let is_complete = truth.complete && differences(&truth, &scrape).is_empty();
            if !is_complete && Instant::now() > deadline {
                let found = differences(&truth, &scrape).join("\n");
                panic!("complete: {}, differences (truth, metrics):\n{found}", truth.complete);
            }
            last = Some(scrape.clone());
            is_complete.then_some(scrape)
        })
        .await
    }
}

impl Drop for Twilio {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The series in which the truth and the metrics differ.
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

async fn respond(
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
