//! Reloads of the configuration during calls: nothing is lost or counted twice, and an invalid
//! configuration changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use twilio_call_exporter::simulator::WorldConfig;

use crate::harness::{Exchange, Program, Twilio, eventually, metric, ongoing_calls, world_of};

#[tokio::test(flavor = "multi_thread")]
async fn adds_removes_and_renames_accounts_during_calls() {
    let twilio = Twilio::serving(ongoing_calls(3, 40)).await;
    let file = ConfigFile::new(&twilio, &[(0, "one"), (1, "two")], "");
    let mut program = file.start(&[]).await;
    let before = counted(&program, "two", 5.0).await;
    counted(&program, "one", 5.0).await;
    file.write(&twilio, &[(1, "deux"), (2, "three")], "");
    reload(&program).await;
    assert!(
        counted(&program, "deux", 1.0).await >= before,
        "the values are kept under the new name"
    );
    let scrape = program.scrape().await;
    for gone in ["one", "two"] {
        assert!(!scrape.text.contains(&format!("account=\"{gone}\"")), "{gone} is still shown");
    }
    counted(&program, "three", 5.0).await;
    // A name that moves to another account doesn't carry values over.
    file.write(&twilio, &[(0, "three"), (1, ""), (2, "")], "");
    reload(&program).await;
    let sid = &twilio.accounts()[0].account_sid;
    eventually("only the first account has the name", async || {
        let info = metric("twilio_account_info").label("account", "three");
        let scrape = program.scrape().await;
        let is_unique = info.value_in(&scrape) == Some(1.0);
        (is_unique && info.label("account_sid", sid).value_in(&scrape) == Some(1.0)).then_some(())
    })
    .await;
    file.write(&twilio, &[(0, ""), (1, ""), (2, "")], "");
    reload(&program).await;
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_configuration_is_reported_and_changes_nothing() {
    let twilio = Twilio::serving(ongoing_calls(1, 100)).await;
    let file = ConfigFile::new(&twilio, &[(0, "one")], "");
    let program = file.start(&["--web.enable-lifecycle"]).await;
    counted(&program, "one", 1.0).await;
    let is_valid = metric("twilio_exporter_config_last_reload_successful");
    assert!(is_valid.is_in(&program.scrape().await, 1.0));
    for (wrong, expected) in [
        ("nonsense: 1\n", "unknown key of 8 characters"),
        ("api: { ca_file: /nowhere.pem }\n", "api.ca_file"),
        ("poll: { interval: soon }\n", "poll.interval"),
    ] {
        file.write(&twilio, &[(0, "two")], wrong);
        let (status, text) = post(&program, "/-/reload").await;
        assert_eq!(status, 500, "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(is_valid.is_in(&program.scrape().await, 0.0), "{wrong}");
        let so_far = counted(&program, "one", 1.0).await;
        // Polling continues as before.
        counted(&program, "one", so_far + 2.0).await;
    }
    assert!(program.log().contains("cannot reload the configuration"));
    file.write(&twilio, &[(0, "two")], "");
    assert_eq!(post(&program, "/-/reload").await.0, 200);
    assert!(is_valid.is_in(&program.scrape().await, 1.0));
    counted(&program, "two", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_routes_limits_and_exemplars() {
    let twilio = Twilio::serving(ongoing_calls(1, 200)).await;
    let file = ConfigFile::new(&twilio, &[(0, "one")], "exemplars: false\n");
    let program = file.start(&[]).await;
    counted(&program, "one", 5.0).await;
    assert!(!open_metrics(&program).await.contains("# {call_sid="));
    let settings = "exemplars: true\nlimits: { hold_back: 0s, routes_per_account: 1 }\nroutes: [ '/:all', '/:some/:more', '/:some/:more/:yet' ]\n";
    file.write(&twilio, &[(0, "one")], settings);
    reload(&program).await;
    eventually("a new pattern applies, and its routes overflow", async || {
        let overflow = metric("twilio_exporter_route_overflow_total");
        overflow.value_in(&program.scrape().await).filter(|count| *count > 0.0)
    })
    .await;
    let settings = settings.replace("routes_per_account: 1", "routes_per_account: 1000");
    file.write(&twilio, &[(0, "one")], &settings);
    reload(&program).await;
    eventually("a new pattern applies", async || {
        metric("twilio_webhook_requests_total")
            .label("route", "/:all")
            .value_in(&program.scrape().await)
    })
    .await;
    eventually("exemplars are shown", async || {
        open_metrics(&program).await.contains("# {call_sid=").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reads_changed_secret_files() {
    let twilio = Twilio::serving(ongoing_calls(1, 100)).await;
    let account = &twilio.accounts()[0];
    let directory = Arc::new(TempDir::new().expect("a directory"));
    let (secret, path) = (directory.path().join("secret"), directory.path().join("exporter.yml"));
    std::fs::write(&secret, "an old token").expect("written");
    let text = format!(
        "accounts: [ {{ account_sid: {}, base_url: '{}', auth_token_file: '{}', name: one }} ]\npoll: {DELAYS}\n",
        account.account_sid,
        twilio.url(),
        secret.display()
    );
    std::fs::write(&path, text).expect("written");
    let arguments = vec![format!("--config.file={}", path.display())];
    let program = Program::start(directory, BTreeMap::new(), arguments).await;
    eventually("Twilio refuses the old token", async || {
        metric("twilio_exporter_up").is_in(&program.scrape().await, 0.0).then_some(())
    })
    .await;
    std::fs::write(&secret, &account.auth_token).expect("written");
    reload(&program).await;
    counted(&program, "one", 1.0).await;
    assert!(
        !program.log().contains("an old token") && !program.log().contains(&account.auth_token)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_subaccounts_until_discovery_is_disabled() {
    let twilio = Twilio::serving(WorldConfig { subaccounts: 5, ..world_of(2) }).await;
    let parent = &twilio.accounts()[0];
    let discovering = with_subaccounts(&twilio, "discover: true");
    let mut program = Program::configured(&discovering, &[("TOKEN", &parent.auth_token)]).await;
    let path = program.directory().path().join("exporter.yml");
    let write = |text: &str| std::fs::write(&path, text).expect("written");
    twilio.wait_until_counted_by(&mut program).await;
    let shown =
        async |program: &Program| metric("twilio_account_info").value_in(&program.scrape().await);
    assert_eq!(shown(&program).await, Some(6.0));
    let accounts = twilio.accounts();
    let sid = &accounts.last().expect("an account").account_sid;
    write(&with_subaccounts(&twilio, &format!("discover: true, exclude: [ {sid} ]")));
    reload(&program).await;
    eventually("all but one subaccount are polled", async || {
        (shown(&program).await == Some(6.0 - 1.0)).then_some(())
    })
    .await;
    let is_removal =
        |line: &str| line.contains("a subaccount is no longer polled") && line.contains(sid);
    assert_eq!(program.log().lines().filter(|line| is_removal(line)).count(), 1);
    write(&with_subaccounts(&twilio, "discover: false"));
    reload(&program).await;
    eventually("only the parent account is polled", async || {
        (shown(&program).await == Some(1.0)).then_some(())
    })
    .await;
    let scrape = program.scrape().await;
    for gone in accounts.iter().filter(|account| account.account_sid != parent.account_sid) {
        assert!(!scrape.text.contains(&gone.account_sid), "{} is shown", gone.account_sid);
    }
    write(&discovering);
    reload(&program).await;
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn known_subaccounts_are_polled_while_they_cannot_be_listed() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&is_broken);
    let answer = move |uri: &str, _| {
        let is_list = uri.contains("/Accounts.json") && broken.load(Ordering::SeqCst);
        is_list.then_some((500, "application/json", "{}"))
    };
    let world = WorldConfig { subaccounts: 2, ..ongoing_calls(1, 200) };
    let twilio = Twilio::answering(world, answer).await;
    let text = with_subaccounts(&twilio, "discover: true");
    let token = twilio.accounts()[0].auth_token.clone();
    let program = Program::configured(&text, &[("TOKEN", &token)]).await;
    let subaccount = twilio.accounts()[1].account_sid.clone();
    counted(&program, &subaccount, 3.0).await;
    is_broken.store(true, Ordering::SeqCst);
    let path = program.directory().path().join("exporter.yml");
    let text = with_subaccounts(&twilio, "discover: true, exclude: [ none ]");
    std::fs::write(path, text).expect("written");
    reload(&program).await;
    let so_far = counted(&program, &subaccount, 1.0).await;
    counted(&program, &subaccount, so_far + 3.0).await;
    eventually("the failure to list subaccounts is logged", async || {
        program
            .log()
            .contains("\"resource\":\"accounts\",\"reason\":\"server_error\"")
            .then_some(())
    })
    .await;
}

/// The default number of reloads under load; CI sets `RELOADS` to more.
const FEW: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_leak_nothing_and_lose_no_event() {
    let reloads = std::env::var("RELOADS").ok().map(|text| text.parse().expect("a number"));
    let reloads: usize = reloads.unwrap_or(FEW);
    let twilio =
        Twilio::serving(ongoing_calls(2, 20 + 5 * u64::try_from(reloads).expect("few"))).await;
    let file = ConfigFile::new(&twilio, &[(0, ""), (1, "")], "");
    let mut program = file.start(&[]).await;
    let mut last = program.scrape().await;
    let mut files = Vec::new();
    for _ in 0..reloads {
        reload(&program).await;
        let scrape = program.scrape().await;
        scrape.assert_not_below(&last);
        last = scrape;
        files.push(program.open_files().await);
    }
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    assert!(scrape.names().len() > 100);
    let (first, last) = (files[1], files[files.len() - 1]);
    assert!(last <= first + 4, "open files: {files:?}");
    assert!(program.peak_memory() < 100 << 20, "{} bytes", program.peak_memory());
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_over_http_only_with_the_lifecycle_flag() {
    let twilio = Twilio::serving(ongoing_calls(1, 5)).await;
    let program = Program::polling(&twilio).await;
    let (status, text) = post(&program, "/-/reload").await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("--web.enable-lifecycle"), "{text}");
    let allowed = ConfigFile::new(&twilio, &[(0, "")], "").start(&["--web.enable-lifecycle"]).await;
    assert_eq!(allowed.get("/-/reload").await.0, 405);
    let foreign = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://{}/-/reload", allowed.address());
    let foreign = foreign.post(url).header("origin", "http://evil.example").send().await;
    assert_eq!(foreign.expect("an answer").status(), 403, "a request from another site");
    assert_eq!(post(&allowed, "/-/reload").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reloads_neither_restart_polling_nor_delay_counting() {
    let twilio = Twilio::serving(ongoing_calls(1, 1_000)).await;
    let program =
        ConfigFile::new(&twilio, &[(0, "one")], "").start(&["--web.enable-lifecycle"]).await;
    counted(&program, "one", 4.0).await;
    // An unfiltered list is the first request of a polling loop, and rare after that.
    let loop_starts = || {
        let is_first = |exchange: &&Exchange| exchange.uri.ends_with("Calls.json?PageSize=1000");
        twilio.traffic().iter().filter(is_first).count()
    };
    let (starts_before, started) = (loop_starts(), Instant::now());
    let calls_before = counted(&program, "one", 1.0).await;
    let reloads = || program.log().matches("configuration reloaded").count();
    let posts: Vec<_> = (0..40)
        .map(|number| {
            let address = program.address().to_owned();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(250) * number).await;
                post_to(&address, "/-/reload").await.0
            })
        })
        .collect();
    while started.elapsed() < Duration::from_secs(10) {
        program.signal("HUP");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for post in posts {
        assert_eq!(post.await.expect("no panic"), 200, "each reload request succeeds");
    }
    let seconds = started.elapsed().as_secs();
    let most = usize::try_from(seconds / 5 + 2).expect("few");
    assert!((2..=most).contains(&reloads()), "{} reloads in {seconds} s", reloads());
    assert_eq!(loop_starts(), starts_before, "polling was restarted");
    // Four calls start per second and are counted a few seconds later.
    let counted = counted(&program, "one", 1.0).await - calls_before;
    assert!(counted >= 20.0, "{counted} calls counted in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_restarts_only_changed_accounts() {
    let twilio = Twilio::serving(ongoing_calls(2, 300)).await;
    let file = ConfigFile::new(&twilio, &[(0, "one"), (1, "two")], "");
    let mut program = file.start(&[]).await;
    counted(&program, "one", 2.0).await;
    counted(&program, "two", 2.0).await;
    let loop_starts = |index: usize| {
        let sid = twilio.accounts()[index].account_sid.clone();
        let is_first = move |exchange: &&Exchange| {
            exchange.uri.ends_with(&format!("{sid}/Calls.json?PageSize=1000"))
        };
        twilio.traffic().iter().filter(is_first).count()
    };
    let before = (loop_starts(0), loop_starts(1));
    file.write(&twilio, &[(0, "one"), (1, "deux")], "");
    reload(&program).await;
    eventually("its polling is restarted", async || (loop_starts(1) > before.1).then_some(()))
        .await;
    counted(&program, "deux", 3.0).await;
    assert_eq!(loop_starts(0), before.0, "the other account's polling was restarted");
    program.assert_running();
}

/// Delays of seconds instead of the default minutes.
const DELAYS: &str =
    "{ interval: 1s, live_interval: 1s, after_end: [1s], settle_delay: 4s, audit_after: 2s }";

/// A configuration with one account and these `subaccounts` settings.
fn with_subaccounts(twilio: &Twilio, subaccounts: &str) -> String {
    format!(
        "accounts: [ {{ account_sid: {}, base_url: '{}', auth_token_env: TOKEN, subaccounts: {{ {subaccounts} }} }} ]\npoll: {DELAYS}\nlimits: {{ hold_back: 0s }}\n",
        twilio.accounts()[0].account_sid,
        twilio.url()
    )
}

/// A configuration file that a test can rewrite.
struct ConfigFile {
    directory: Arc<TempDir>,
    tokens: BTreeMap<String, String>,
}

impl ConfigFile {
    fn new(twilio: &Twilio, named: &[(usize, &str)], settings: &str) -> Self {
        let tokens = twilio.accounts().into_iter().enumerate();
        let tokens = tokens.map(|(index, account)| (format!("TOKEN_{index}"), account.auth_token));
        let directory = Arc::new(TempDir::new().expect("a directory"));
        let file = Self { directory, tokens: tokens.collect() };
        file.write(twilio, named, settings);
        file
    }

    fn write(&self, twilio: &Twilio, named: &[(usize, &str)], settings: &str) {
        let defaults = [format!("poll: {DELAYS}\n"), "limits: { hold_back: 0s }\n".to_owned()];
        let is_set = |default: &String| {
            default.split_inclusive(':').next().is_some_and(|key| settings.contains(key))
        };
        let defaults: String = defaults.into_iter().filter(|default| !is_set(default)).collect();
        let mut text = format!("{defaults}{settings}accounts:\n");
        for (index, name) in named {
            let account = &twilio.accounts()[*index];
            let name = if name.is_empty() { &account.account_sid } else { *name };
            writeln!(
                text,
                "  - {{ account_sid: {}, auth_token_env: TOKEN_{index}, base_url: '{}', name: '{name}' }}",
                account.account_sid,
                twilio.url()
            )
            .expect("a text");
        }
        std::fs::write(self.directory.path().join("exporter.yml"), text).expect("written");
    }

    async fn start(&self, flags: &[&str]) -> Program {
        let path = self.directory.path().join("exporter.yml");
        let mut arguments = vec![format!("--config.file={}", path.display())];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Program::start(Arc::clone(&self.directory), self.tokens.clone(), arguments).await
    }
}

/// Sends SIGHUP and waits until the configuration has been reloaded.
async fn reload(program: &Program) {
    let reloads = || program.log().matches("configuration reloaded").count();
    let before = reloads();
    program.signal("HUP");
    eventually("the configuration is reloaded", async || (reloads() > before).then_some(())).await;
}

async fn post(program: &Program, path: &str) -> (u16, String) {
    post_to(program.address(), path).await
}

async fn post_to(address: &str, path: &str) -> (u16, String) {
    let url = format!("http://{address}{path}");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let response = client.post(url).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("a body"))
}

async fn open_metrics(program: &Program) -> String {
    let request = program.request("/metrics").header("accept", "application/openmetrics-text");
    request.send().await.expect("an answer").text().await.expect("a body")
}

/// Waits until at least this many calls of an account have been counted; returns the number.
async fn counted(program: &Program, account: &str, calls: f64) -> f64 {
    eventually("calls are counted", async || {
        let metric = metric("twilio_calls_total").label("account", account);
        metric.value_in(&program.scrape().await).filter(|count| *count >= calls)
    })
    .await
}
