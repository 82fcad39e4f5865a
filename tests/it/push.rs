//! Pushed entries of Twilio's error log: each is counted once, even if it is also polled, and requests not
//! signed by Twilio change nothing.

mod simulate;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::*;
use fastrand::Rng;
use jiff::Timestamp;
use ring::{digest, hmac};
use tempfile::TempDir;
use twilio_call_exporter::clock::Clock;
use twilio_call_exporter::simulator::{Behaviour, Push, PushForm, WorldConfig};

use crate::error_log::{ENTRIES, counted, truth_since};
use crate::harness::{
    Program, Scrape, Series, Twilio, eventually, everything, metric, ongoing_calls, print_figures,
    world_of,
};

/// The public URL, as configured in Twilio: a proxy is in front of the program.
const URL: &str = "https://exporter.example.com/twilio";
const PUSHED: (&str, &str) = ("TWILIO_EXPORTER_PUSH__PUBLIC_URL", URL);
const NOT_POLLED: (&str, &str) = ("TWILIO_EXPORTER_POLL__ERROR_LOG_INTERVAL", "0s");

#[tokio::test(flavor = "multi_thread")]
async fn each_entry_is_counted_once_despite_repeated_pushes_and_kills() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let kills: u64 = number("KILLS").unwrap_or(4);
    tokio::join!(
        run_with_kills(kills / 2, number("KILL_SEED").unwrap_or(1), true),
        run_with_kills(kills / 2, number("KILL_SEED").unwrap_or(2), false),
    );
}

/// Runs with this many kills. If the log is polled as well, some of the pushes are lost.
async fn run_with_kills(kills: u64, seed: u64, is_polled: bool) {
    let mut random = Rng::with_seed(seed);
    let world = WorldConfig { calls_per_minute: 600.0, ..everything(1, 1 + kills / 15) };
    let twilio = Twilio::serving(WorldConfig { backlog: Duration::ZERO, ..world }).await;
    twilio.set_behaviour(Behaviour { error_log_late: 3, ..Behaviour::default() });
    let interval = if is_polled { "1s" } else { "0s" };
    let polled = ("TWILIO_EXPORTER_POLL__ERROR_LOG_INTERVAL", interval);
    let mut program = Program::polling_with(&twilio, &[PUSHED, polled]).await;
    let mut delivery = PushDelivery::default();
    let mut highest: BTreeMap<Series, f64> = BTreeMap::new();
    let mut watch = |scrape: &Scrape| {
        for (series, value) in scrape.family(ENTRIES) {
            let highest = highest.entry(series.clone()).or_default();
            assert!(value >= *highest, "{series:?} fell from {highest} to {value}");
            *highest = value;
        }
    };
    for _ in 0..kills {
        let before = counted(&program.scrape().await);
        eventually("more is counted", async || {
            delivery.deliver_round(&twilio, &program, &mut random, is_polled).await;
            let scrape = program.scrape().await;
            watch(&scrape);
            (counted(&scrape) > before || twilio.truth().complete).then_some(())
        })
        .await;
        program = program.kill_and_restart().await;
    }
    eventually("everything is pushed", async || {
        let is_complete = twilio.truth().complete;
        delivery.deliver_round(&twilio, &program, &mut random, is_polled).await;
        // Entries appear three seconds late.
        let is_quiet = delivery.last_new.is_some_and(|at| at.elapsed() > Duration::from_secs(4));
        (is_complete && delivery.waiting.is_empty() && is_quiet).then_some(())
    })
    .await;
    let since = since(&program);
    eventually("all entries are counted", async || {
        let scrape = program.scrape().await;
        watch(&scrape);
        let found: BTreeMap<_, _> =
            scrape.family(ENTRIES).into_iter().filter(|(_, value)| *value > 0.0).collect();
        (found == truth_since(&twilio, since)).then_some(())
    })
    .await;
    let counts = |result: &str| metric("twilio_exporter_pushes_total").label("result", result);
    let scrape = program.scrape().await;
    assert!(counts("counted").value_in(&scrape).expect("shown") > 0.0);
    assert!(counts("refused").is_in(&scrape, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_pushes_change_nothing_and_signed_ones_count_once() {
    let twilio = Twilio::serving(ongoing_calls(1, 400)).await;
    let program = Program::polling_with(&twilio, &[PUSHED, NOT_POLLED]).await;
    wait_until_pushes_count(&program).await;
    let push = first_push(&twilio, URL).await;
    let token = &twilio.accounts()[0].auth_token;
    let large = signed(&format!("[{}]", " ".repeat(1 << 20)), token);
    let elsewhere = first_push(&twilio, "https://exporter.example.com/other").await;
    let forged = signed(&push.body, "another-token");
    let half = push.body[..push.body.len() / 2].to_owned();
    let refused = [
        Push { signature: String::new(), ..push.clone() },
        Push { signature: "x".repeat(28), ..push.clone() },
        Push { query: String::new(), ..push.clone() },
        Push { query: format!("{}&a=b", push.query), ..push.clone() },
        Push { body: half, ..push.clone() },
        Push { body: push.body.replace("11200", "12100"), ..push.clone() },
        Push { body: String::new(), ..push.clone() },
        signed("{", token),
        elsewhere,
        forged,
        large,
    ];
    for forged in &refused {
        assert_eq!(send(&program, forged).await, 403, "{} {}", forged.query, forged.signature);
    }
    let scrape = program.scrape().await;
    assert_eq!(counted(&scrape), 0.0);
    let results = metric("twilio_exporter_pushes_total").label("result", "refused");
    assert!(results.is_in(&scrape, f64::from(u32::try_from(refused.len()).expect("few"))));
    assert!(metric("twilio_exporter_error_log_lag_seconds_count").is_in(&scrape, 0.0));
    let lines = program.log();
    assert_eq!(lines.matches("refused a push").count(), 1, "{lines}");
    assert!(!lines.contains(&push.body[..200]) && !lines.contains("+15005550006"), "{lines}");

    assert_eq!(send(&program, &push).await, 204);
    let after = counted(&program.scrape().await);
    assert!(after > 0.0);
    for text in ["+15005550006", "secret", "%2B1500555"] {
        assert!(!push.body.contains(text) || !is_kept(&program, text).await, "{text} is kept");
    }
    assert!(push.body.contains("+15005550006") && push.body.contains("secret"));
    assert!(is_kept(&program, "ivr.example.com").await, "the host is a label");
    assert_eq!(send(&program, &push).await, 204, "Twilio may push more than once");
    assert_eq!(counted(&program.scrape().await), after);
    let program = program.kill_and_restart().await;
    wait_until_pushes_count(&program).await;
    assert_eq!(send(&program, &push).await, 204, "a repeated request after a restart");
    assert_eq!(counted(&program.scrape().await), after);
    assert_eq!(program.get("/push/error-log").await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_answered_with_503_while_the_store_is_unavailable() {
    let twilio = Twilio::serving(ongoing_calls(1, 400)).await;
    let program = Program::polling_with(&twilio, &[PUSHED, NOT_POLLED]).await;
    wait_until_pushes_count(&program).await;
    let push = first_push(&twilio, URL).await;
    let (file, away) = (program.storage().join("exporter.db"), program.storage().join("away"));
    std::fs::rename(&file, &away).expect("moved away");
    assert_eq!(send(&program, &push).await, 503);
    assert_eq!(counted(&program.scrape().await), 0.0);
    std::fs::rename(&away, &file).expect("put back");
    eventually("the push is accepted", async || (send(&program, &push).await == 204).then_some(()))
        .await;
    let after = counted(&program.scrape().await);
    let entries = push.body.matches("error-logs.error.logged").count();
    assert_eq!(after, f64::from(u32::try_from(entries).expect("few")));
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_entries_of_discovered_subaccounts_and_requires_basic_auth() {
    let world = WorldConfig { subaccounts: 1, ..ongoing_calls(1, 400) };
    let twilio = Twilio::serving(world).await;
    let accounts = twilio.accounts();
    let directory = TempDir::new().expect("a directory");
    let web = directory.path().join("web.yml");
    let hash = bcrypt::hash("right", 4).expect("a hash");
    std::fs::write(&web, format!("basic_auth_users:\n  twilio: {hash}\n")).expect("written");
    let config = directory.path().join("exporter.yml");
    let text = format!(
        "accounts:\n  - account_sid: {}\n    auth_token_env: TOKEN\n    base_url: {}\n    subaccounts: {{ discover: true }}\npush: {{ public_url: '{URL}' }}\npoll: {{ error_log_interval: 0s, interval: 1s }}\nlimits: {{ hold_back: 0s }}\n",
        accounts[0].account_sid,
        twilio.url()
    );
    std::fs::write(&config, text).expect("written");
    let variables = BTreeMap::from([("TOKEN".to_owned(), accounts[0].auth_token.clone())]);
    let arguments = vec![
        format!("--config.file={}", config.display()),
        format!("--web.config.file={}", web.display()),
    ];
    let program = Program::start(Arc::new(directory), variables, arguments).await;
    let of_subaccount = metric(ENTRIES).label("account", &accounts[1].account_sid);
    let after = Clock::start().now();
    eventually("entries of the subaccount are counted", async || {
        let pushes = twilio.pushes(PushForm::Debugger, URL, after);
        for push in &pushes {
            assert_eq!(send(&program, push).await, 401, "without a password");
            let sent = request(&program, push).basic_auth("twilio", Some("right"));
            let status = sent.send().await.expect("an answer").status().as_u16();
            assert!([204, 503].contains(&status), "{status}");
        }
        let scrape = program.request("/metrics").basic_auth("twilio", Some("right"));
        let scrape = scrape.send().await.expect("an answer").text().await.expect("a body");
        of_subaccount.value_in(&Scrape::parse(&scrape)).filter(|value| *value > 0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_are_accepted_only_while_configured() {
    let twilio = Twilio::serving(ongoing_calls(1, 400)).await;
    let program = Program::polling_with(&twilio, &[NOT_POLLED]).await;
    let push = first_push(&twilio, URL).await;
    assert_eq!(send(&program, &push).await, 404);
    assert!(!program.scrape().await.text.contains("twilio_exporter_pushes_total{"));
    let file = program.directory().path().join("exporter.yml");
    let text = std::fs::read_to_string(&file).expect("read");
    std::fs::write(&file, format!("{text}push: {{ public_url: '{URL}' }}\n")).expect("written");
    program.signal("HUP");
    eventually("pushes are accepted", async || (send(&program, &push).await == 204).then_some(()))
        .await;
    std::fs::write(&file, text).expect("written");
    program.signal("HUP");
    eventually("pushes are no longer accepted", async || {
        (send(&program, &push).await == 404).then_some(())
    })
    .await;
}

/// Limits on the additional memory and storage for a day with many errors.
const MOST_MEMORY: u64 = 20 << 20;
const MOST_STORED: u64 = 40 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_entries_use_little_memory_and_disk() {
    let twilio = Twilio::serving(world_of(10)).await;
    let program = Program::polling_with(&twilio, &[PUSHED, NOT_POLLED]).await;
    wait_until_pushes_count(&program).await;
    // Send the largest possible request before measuring.
    let token = &twilio.accounts()[0].auth_token;
    assert_eq!(
        send(&program, &signed(&format!("[{{}}{}]", " ".repeat(1_000_000)), token)).await,
        204
    );
    let before = program.peak_memory();
    for number in 0..100 {
        let push = signed(&entries(number * 1_000, &twilio.accounts()[0].account_sid), token);
        assert_eq!(send(&program, &push).await, 204);
    }
    assert_eq!(counted(&program.scrape().await), 100_000.0);
    let more = program.peak_memory() - before;
    let stored = std::fs::metadata(program.storage().join("exporter.db")).expect("a store").len();
    print_figures(&format!(
        "100,000 entries: {} KiB of memory, {} KiB stored",
        more >> 10,
        stored >> 10
    ));
    assert!(more <= MOST_MEMORY && stored <= MOST_STORED);
    // Recent entries are loaded again after a restart.
    let program = program.kill_and_restart().await;
    wait_until_pushes_count(&program).await;
    print_figures(&format!(
        "{} KiB after a restart, {} before",
        program.peak_memory() >> 10,
        before >> 10
    ));
}

/// A thousand entries of a thousand calls, with the current time.
fn entries(first: u64, account: &str) -> String {
    let now = Clock::start().now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let entry = |number: u64| {
        let payload = serde_json::json!({ "webhook": { "request": { "url": "https://ivr.example.com/menu" } } });
        serde_json::json!({
            "type": "com.twilio.error-logs.error.logged",
            "data": {
                "sid": format!("NO{number:032}"),
                "account_sid": account,
                "level": "ERROR",
                "error_code": "11200",
                "correlation_sid": format!("CA{number:032}"),
                "date_created": now,
                "payload": payload.to_string(),
            },
        })
    };
    serde_json::Value::from((first..first + 1_000).map(entry).collect::<Vec<_>>()).to_string()
}

/// Whether a text appears in the log, on a page or in the store.
async fn is_kept(program: &Program, text: &str) -> bool {
    let mut kept = vec![program.log().into_bytes()];
    for path in ["/", "/metrics", "/failures", "/failures.json"] {
        kept.push(program.get(path).await.1.into_bytes());
    }
    for file in std::fs::read_dir(program.storage()).expect("a store") {
        kept.push(std::fs::read(file.expect("a file").path()).expect("read"));
    }
    kept.iter().any(|kept| kept.windows(text.len()).any(|part| part == text.as_bytes()))
}

/// Simulates Twilio's delivery of pushes.
#[derive(Default)]
struct PushDelivery {
    pushed_to: Option<Timestamp>,
    waiting: VecDeque<Push>,
    accepted: Vec<Push>,
    /// When there were new entries.
    last_new: Option<Instant>,
}

impl PushDelivery {
    /// Pushes new entries in a random form, retries pushes that were not accepted, and repeats an accepted
    /// one; loses some if `is_lossy`.
    async fn deliver_round(
        &mut self,
        twilio: &Twilio,
        program: &Program,
        random: &mut Rng,
        is_lossy: bool,
    ) {
        let now = Clock::start().now();
        let after = self.pushed_to.replace(now).unwrap_or(Timestamp::MIN);
        let form = if random.bool() { PushForm::Events } else { PushForm::Debugger };
        let new = twilio.pushes_between(form, URL, after, now);
        if !new.is_empty() {
            self.last_new = Some(Instant::now());
        }
        self.waiting.extend(new.into_iter().filter(|_| !is_lossy || random.u8(..3) > 0));
        for _ in 0..self.waiting.len() {
            let push = self.waiting.pop_front().expect("a waiting push");
            match send(program, &push).await {
                204 => self.accepted.push(push),
                503 => self.waiting.push_back(push),
                status => panic!("{status}"),
            }
        }
        if let Some(again) = random.choice(&self.accepted) {
            let status = send(program, again).await;
            assert!([204, 503].contains(&status), "{status}");
        }
    }
}

/// Waits until the account counts pushed entries.
async fn wait_until_pushes_count(program: &Program) {
    let lag = metric("twilio_exporter_error_log_lag_seconds_count");
    eventually("pushed entries are counted", async || lag.value_in(&program.scrape().await)).await;
}

/// The first push of an error that happens from now on.
async fn first_push(twilio: &Twilio, url: &str) -> Push {
    let after = Clock::start().now();
    eventually("an error is pushed", async || {
        // Skip the current second: the account may have started to count in it.
        let pushes = twilio.pushes(PushForm::Events, url, after + Duration::from_secs(2));
        pushes.into_iter().find(|push| push.body.contains("11200"))
    })
    .await
}

/// A signed push with this body.
fn signed(body: &str, token: &str) -> Push {
    let hash = digest::digest(&digest::SHA256, body.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let query = format!("?bodySHA256={hash}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, format!("{URL}{query}").as_bytes()));
    Push { query, content_type: "application/json", signature, body: body.to_owned() }
}

fn request(program: &Program, push: &Push) -> reqwest::RequestBuilder {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    http.post(format!("http://{}/push/error-log{}", program.address(), push.query))
        .header("content-type", push.content_type)
        .header("x-twilio-signature", &push.signature)
        .body(push.body.clone())
}

async fn send(program: &Program, push: &Push) -> u16 {
    request(program, push).send().await.expect("an answer").status().as_u16()
}

/// Since when entries are counted, according to the store.
fn since(program: &Program) -> Timestamp {
    let copy = TempDir::new().expect("a directory");
    for name in ["exporter.db", "exporter.db-wal"] {
        std::fs::copy(program.storage().join(name), copy.path().join(name)).expect("copied");
    }
    let store = rusqlite::Connection::open(copy.path().join("exporter.db")).expect("a store");
    let since = "SELECT error_log_since_ms FROM account";
    let since = store.query_row(since, [], |row| row.get(0)).expect("one account");
    Timestamp::from_millisecond(since).expect("an instant")
}
