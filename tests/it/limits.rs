//! Limits on series, open files, threads, tracked calls and the hold-back.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use twilio_call_exporter::clock::Clock;

use crate::harness::{
    Ended, Program, STARTED_BY, Scrape, Twilio, eventually, metric, ongoing_calls, run, world_of,
};

const CALL: &str = "CA00000000000000000000000000000043";
/// The value of `limits.series`.
const SERIES: usize = 700;
/// The number of series that an account may have beyond it, according to the example configuration.
const EXTRA_SERIES: usize = 476;

#[tokio::test(flavor = "multi_thread")]
async fn endless_codes_kinds_and_content_types_stay_within_the_series_limit_and_are_counted() {
    let config = include_str!("../../config/exporter.yml");
    assert!(
        config.contains(&format!("up to {EXTRA_SERIES} more")),
        "the example configuration states another number"
    );
    let date = Clock::start().now().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
    let types = ["text/xml", "text/html", "application/json", "audio/mpeg", "x/y"];
    let event = |number: usize| {
        let host = if number.is_multiple_of(5) { "api.twilio.com" } else { "ivr.example.com" };
        let path = match number % 5 {
            0 => "/2010-04-01/Accounts/AC/Calls.json".to_owned(),
            _ => format!("/route-{}", char::from(b"abcdefghij"[number % 10])),
        };
        let digits = if number.is_multiple_of(3) { json!("1") } else { json!(null) };
        let mut parameters = json!({ "CallSid": CALL, "CallStatus": "in-progress" });
        if !digits.is_null() {
            parameters["Digits"] = digits;
        }
        json!({
            "request": {
                "method": "POST",
                "url": format!("https://{host}{path}"),
                "parameters": parameters,
            },
            "response": {
                "response_code": 100 + number % 500,
                "request_duration": number,
                "content_type": types[number % types.len()],
                "response_body": "<Response/>",
                "date_created": date,
            },
        })
    };
    let events: Vec<_> = (0..1_000).map(event).collect();
    let events = json!({ "events": events, "next_page_uri": null }).to_string();
    let call = json!({
        "sid": CALL, "status": "completed", "direction": "inbound", "start_time": date, "end_time": date,
    });
    let calls = json!({ "calls": [call], "next_page_uri": null }).to_string();
    let twilio = Twilio::answering(world_of(1), move |uri, _| {
        let body = if uri.contains(CALL) { &events } else { &calls };
        Some((200, "application/json", body.clone()))
    })
    .await;
    let limit = SERIES.to_string();
    let program =
        Program::polling_with(&twilio, &[("TWILIO_EXPORTER_LIMITS__SERIES", &limit)]).await;
    let scrape = eventually("all events are counted", async || {
        let scrape = program.scrape().await;
        metric("twilio_exporter_call_events_total")
            .label("result", "counted")
            .is_in(&scrape, 1_000.0)
            .then_some(scrape)
    })
    .await;
    assert_within_limits(&scrape);
    let overflow = metric("twilio_exporter_route_overflow_total").value_in(&scrape);
    assert!(overflow.is_some_and(|events| events > 0.0), "{overflow:?}");
    let program = program.kill_and_restart().await;
    let after = program.scrape().await;
    assert_within_limits(&after);
    assert_eq!(after.durable_with_buckets(), scrape.durable_with_buckets());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_leave_file_descriptors_for_the_store_and_twilio_and_time_out() {
    for (files, spare, warnings) in [(128, 64, 0), (48, 8, 1)] {
        let twilio = Twilio::serving(ongoing_calls(1, 20)).await;
        let (mut program, idle) = with_idle_clients(200, files, &twilio).await;
        let scrape = wait_for_scrape(&program).await;
        let open = metric("process_open_fds").value_in(&scrape).expect("a metric");
        let most = f64::from(files - spare);
        assert!(open <= most, "{open} of {files} files open");
        let refused = metric("twilio_exporter_http_connections_cut_total").value_in(&scrape);
        assert!(refused.is_some_and(|refused| refused > 0.0), "{refused:?}");
        twilio.wait_until_counted_by(&mut program).await;
        assert_eq!(program.log().matches("limit on open files").count(), warnings, "{files}");
        drop(idle);
        assert!(program.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_for_connections_it_warns_and_recovers() {
    let twilio = Twilio::serving(world_of(1)).await;
    let own_files = Program::polling(&twilio).await.open_files().await;
    let own_files = u32::try_from(own_files).expect("a number");
    let (program, idle) = with_idle_clients(20, own_files + 2, &twilio).await;
    eventually("the program warns", async || {
        program.log().contains("cannot accept connections").then_some(())
    })
    .await;
    drop(idle);
    wait_for_scrape(&program).await;
    let warnings = program.log().matches("cannot accept connections").count();
    assert!((1..=3).contains(&warnings), "{warnings} warnings");
    assert!(program.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_on_open_files_is_raised_to_the_hard_limit() {
    let script = r#"ulimit -S -n 60; ulimit -H -n 500; exec "$@""#;
    let twilio = Twilio::serving(ongoing_calls(1, 1)).await;
    let program = Program::polling_with(&twilio, &[(STARTED_BY, script)]).await;
    assert!(metric("process_max_fds").is_in(&program.scrape().await, 500.0));
}

#[test]
fn too_few_file_descriptors_for_the_runtime_fail_the_start_with_one_error() {
    for files in 5..=8 {
        let script = format!("ulimit -n {files}; exec \"$@\"");
        assert_one_start_error(&run(&[], &[(STARTED_BY, &script)]));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root to switch to another user, because root has no limit on threads"]
async fn too_few_threads_fail_the_start_with_one_error_and_a_few_suffice() {
    // The limit counts the processes of this user only.
    let limited = |threads: usize| {
        format!(
            "exec setpriv --reuid=61234 --regid=61234 --clear-groups --inh-caps=-all,+dac_override \
             --ambient-caps=-all,+dac_override prlimit --nproc={threads}:{threads} \"$@\""
        )
    };
    // The main thread, the runtime's workers, one thread for blocking work, and the store's thread.
    let minimum = 3 + std::thread::available_parallelism().expect("a number").get();
    let directory = TempDir::new().expect("a directory");
    let storage = format!("--storage.path={}", directory.path().join("data").display());
    let sid = "AC00000000000000000000000000000000";
    for threads in 1..minimum {
        assert_one_start_error(&run(
            &[&storage],
            &[
                (STARTED_BY, limited(threads).as_str()),
                ("TWILIO_ACCOUNT_SID", sid),
                ("TWILIO_AUTH_TOKEN", "none"),
            ],
        ));
    }
    let twilio = Twilio::serving(ongoing_calls(1, 20)).await;
    // One more, because the thread for blocking work may not be idle yet when it is needed again.
    let mut program = Program::polling_with(&twilio, &[(STARTED_BY, &limited(minimum + 1))]).await;
    wait_for_scrape(&program).await;
    // Allow no further thread, for longer than tokio keeps idle threads by default (10 s).
    let pid = format!("--pid={}", program.id());
    let user = ["--reuid=61234", "--regid=61234", "--clear-groups"];
    let lowered =
        Command::new("setpriv").args(user).args(["prlimit", &pid, "--nproc=1:1"]).status();
    assert!(lowered.expect("setpriv runs").success());
    tokio::time::sleep(Duration::from_secs(11)).await;
    wait_for_scrape(&program).await;
    twilio.wait_until_counted_by(&mut program).await;
    assert!(!program.log().contains("panicked"), "{}", program.log());
    assert!(program.stop().await.success());
}

fn assert_one_start_error(ended: &Ended) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let mut errors = ended.stderr.lines().filter(|line| !line.contains(" INFO "));
    assert!(errors.next().is_some_and(|line| line.contains(" ERROR cannot start")), "{ended:?}");
    assert_eq!(errors.next(), None, "{ended:?}");
}

/// Starts a program with a limit on open files, and clients that send nothing.
async fn with_idle_clients(
    clients: usize,
    files: u32,
    twilio: &Twilio,
) -> (Program, Vec<TcpStream>) {
    let script = format!("ulimit -n {files}; exec \"$@\"");
    let program = Program::polling_with(twilio, &[(STARTED_BY, &script)]).await;
    let mut idle = Vec::new();
    for _ in 0..clients {
        idle.push(TcpStream::connect(program.address()).await.expect("a connection"));
    }
    (program, idle)
}

/// Scrapes until it succeeds, which takes until idle clients have timed out.
async fn wait_for_scrape(program: &Program) -> Scrape {
    eventually("a scrape succeeds", async || {
        let request = program.request("/metrics").timeout(Duration::from_secs(15));
        let answer = request.send().await.ok().filter(|answer| answer.status() == 200)?;
        Some(Scrape::parse(&answer.text().await.ok()?))
    })
    .await
}

fn assert_within_limits(scrape: &Scrape) {
    let shown = scrape.durable_with_buckets().len();
    assert!(shown <= SERIES + EXTRA_SERIES, "{shown} series");
    let value = |name: &str| metric(name).value_in(scrape);
    assert_eq!(value("twilio_webhook_requests_total"), Some(800.0));
    assert_eq!(value("twilio_webhook_request_duration_seconds_count"), Some(800.0));
    assert_eq!(value("twilio_call_api_requests_total"), Some(200.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_active_calls_are_tracked_up_to_the_limit_and_the_rest_deferred() {
    const LIMIT: u32 = 3_000;
    let number = std::sync::atomic::AtomicU64::new(0);
    // Each page has a thousand new calls and links to a next page.
    let answer = move |uri: &str, before| {
        let path = uri.split('?').next().filter(|path| path.ends_with("/Calls.json"))?;
        let start = Clock::start().now().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
        let call = |number| {
            json!({ "sid": format!("CA{number:032x}"), "status": "in-progress", "direction": "inbound",
                "start_time": start })
        };
        let from = number.fetch_add(1_000, std::sync::atomic::Ordering::SeqCst);
        let calls: Vec<_> = (from..from + 1_000).map(call).collect();
        let next = format!("{path}?PageSize=1000&Page={before}");
        Some((
            200,
            "application/json",
            json!({ "calls": calls, "next_page_uri": next }).to_string(),
        ))
    };
    let twilio = Twilio::answering(world_of(1), answer).await;
    let limit = LIMIT.to_string();
    let limits = [("TWILIO_EXPORTER_LIMITS__TRACKED_CALLS", limit.as_str())];
    let program = Program::polling_with(&twilio, &limits).await;
    let scrape = eventually("calls are deferred", async || {
        let scrape = program.scrape().await;
        let deferred = metric("twilio_exporter_calls_deferred_total").value_in(&scrape);
        deferred.filter(|deferred| *deferred > 20_000.0).map(|_| scrape)
    })
    .await;
    assert!(metric("twilio_exporter_tracked_calls").is_in(&scrape, f64::from(LIMIT)));
    let warnings = program.log().matches("limits.tracked_calls").count();
    assert_eq!(warnings, 1, "{}", program.log());
    assert!(program.peak_memory() < 150 << 20, "{} bytes", program.peak_memory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_interval_above_the_hold_back_is_logged_once_with_the_remedy() {
    let twilio = Twilio::serving(world_of(1)).await;
    let hold_back = [("TWILIO_EXPORTER_LIMITS__HOLD_BACK", "1s")];
    let program = Program::polling_with(&twilio, &hold_back).await;
    let mut scrapes = 0;
    let warnings = || {
        let log = program.log();
        let is_warning =
            |line: &&str| line.contains("WARN") && line.contains("set limits.hold_back");
        log.lines().filter(is_warning).count()
    };
    eventually("the warning is logged", async || {
        let began = std::time::Instant::now();
        program.scrape().await;
        scrapes += 1;
        while began.elapsed() < std::time::Duration::from_millis(1_500) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        (warnings() > 0).then_some(())
    })
    .await;
    assert!(scrapes >= 4, "warned after only {scrapes} scrapes");
    assert_eq!(warnings(), 1);
}
