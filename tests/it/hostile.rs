//! Hostile responses to API requests: memory and time stay bounded, the failures are counted, and other
//! accounts aren't delayed.

use std::io::Write;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use twilio_call_exporter::simulator::WorldConfig;

use crate::harness::{Program, Twilio, eventually, metric, world_of};

/// The limit on the program's peak memory in bytes. A debug build without load takes 40 MB.
const MEMORY: u64 = 250 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_100_mb_are_cut_off_without_delaying_another_account() {
    let page = format!(r#"{{"events":[{{"x":"{}"}}]}}"#, "x".repeat(100_000_000));
    assert_contained(page.into_bytes(), "too_large").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_bomb_is_cut_off_without_delaying_another_account() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(br#"{"events":[{"x":""#).expect("written");
    for _ in 0..1_000 {
        encoder.write_all(&[b'x'; 100_000]).expect("written");
    }
    assert_contained(encoder.finish().expect("written"), "too_large").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_millions_of_items_is_malformed() {
    let page = format!(r#"{{"events":[1{}]}}"#, ",1".repeat(7_000_000));
    assert_contained(page.into_bytes(), "malformed").await;
}

/// Answers every Call Events request of one account with `body`, and checks that `reason` is counted, that
/// another account is counted completely, and that memory stays bounded.
async fn assert_contained(body: Vec<u8>, reason: &str) {
    let world = WorldConfig { accounts: 2, ..world_of(8) };
    let twilio = Twilio::serving(world.clone()).await;
    let [hostile, other] = [0, 1].map(|index| twilio.accounts()[index].account_sid.clone());
    let path = hostile.clone();
    let twilio = Twilio::answering(world, move |uri: &str, _| {
        let is_hit = uri.contains(&path) && uri.contains("/Events.json");
        is_hit.then(|| (200, "application/json", body.clone()))
    })
    .await;
    let mut program = Program::polling(&twilio).await;
    eventually("the hostile responses are counted", async || {
        let retries = metric("twilio_exporter_api_retries_total").label("account", &hostile);
        let retries = retries.label("reason", reason).value_in(&program.scrape().await);
        retries.filter(|retries| *retries > 0.0)
    })
    .await;
    wait_until_counted(&program, &twilio, &other).await;
    program.assert_running();
    let peak = program.peak_memory();
    assert!(peak < MEMORY, "{peak} bytes resident");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_sent_byte_by_byte_times_out_without_delaying_another_account() {
    let twilio = Twilio::serving(world_of(8)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let slow = listener.local_addr().expect("an address");
    let server = tokio::spawn(send_slowly(listener));
    let account = twilio.accounts()[0].clone();
    let text = format!(
        "accounts:\n  - {{ name: slow, account_sid: AC{:032}, auth_token_env: TOKEN, base_url: 'http://{slow}' }}\n  - {{ name: other, account_sid: {}, auth_token_env: TOKEN, base_url: '{}' }}\napi: {{ timeout: 1s }}\npoll: {{ after_end: [1s], settle_delay: 3s }}\nlimits: {{ hold_back: 0s }}\n",
        9,
        account.account_sid,
        twilio.url(),
    );
    let program = Program::configured(&text, &[("TOKEN", &account.auth_token)]).await;
    wait_until_counted_as(&program, &twilio, &account.account_sid, "other").await;
    eventually("the slow responses time out", async || {
        let retries = metric("twilio_exporter_api_retries_total").label("account", "slow");
        let timeouts = retries.label("reason", "timeout").value_in(&program.scrape().await);
        timeouts.filter(|timeouts| *timeouts >= 2.0)
    })
    .await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_routes_of_a_host_become_81_and_lose_no_request() {
    let answer = |uri: &str, _| {
        let number = |name: &str| {
            let (_, rest) = uri.split_once(name)?;
            rest.split('&').next()?.parse::<usize>().ok()
        };
        uri.contains("/Events.json").then(|| {
            let page = number("Page=").unwrap_or(0);
            let events: Vec<String> = (page * 1_000..(page + 1) * 1_000).map(event).collect();
            let path = uri.split('?').next().unwrap_or_default();
            let next = match page {
                9 => "null".to_owned(),
                _ => format!("\"{path}?PageSize=1000&Page={}\"", page + 1),
            };
            let events = events.join(",");
            (200, "application/json", format!(r#"{{"events":[{events}],"next_page_uri":{next}}}"#))
        })
    };
    let twilio = Twilio::answering(world_of(3), answer).await;
    let program = Program::polling(&twilio).await;
    let scrape = eventually("every request is counted", async || {
        let scrape = program.scrape().await;
        let requests = metric("twilio_webhook_requests_total").value_in(&scrape);
        // Several calls with ten thousand requests each: routes overflow in more than one commit.
        requests.filter(|requests| *requests >= 20_000.0 && requests % 10_000.0 == 0.0)?;
        Some(scrape)
    })
    .await;
    let routes = |series: &str| {
        let mut routes: Vec<&str> = scrape
            .text
            .lines()
            .filter(|line| line.starts_with(series))
            .filter_map(|line| line.split("route=\"").nth(1)?.split('"').next())
            .collect();
        routes.sort_unstable();
        routes.dedup();
        routes.len()
    };
    assert_eq!(routes("twilio_webhook_requests_total{"), 81, "80 routes and `other`");
    let overflow = metric("twilio_exporter_route_overflow_total").value_in(&scrape);
    let requests = metric("twilio_webhook_requests_total").value_in(&scrape);
    let other = metric("twilio_webhook_requests_total").label("route", "other");
    assert_eq!(overflow, other.value_in(&scrape));
    assert!(overflow < requests && overflow >= requests.map(|requests| requests * 0.99));
    let lines = program.log();
    let warnings: Vec<&str> =
        lines.lines().filter(|line| line.contains("no room for this route")).collect();
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(warning.contains("a.example") && warning.contains("WARN"), "{warning}");
}

/// A Call Event for a webhook whose path is distinct for each number.
fn event(number: usize) -> String {
    let word: String =
        format!("{number:05}").bytes().map(|digit| char::from(b'k' + digit - b'0')).collect();
    format!(
        r#"{{"request":{{"method":"POST","url":"https://a.example/{word}","parameters":{{}}}},"response":{{"response_code":200,"request_duration":5,"content_type":"text/xml","response_body":"<Response/>","date_created":"Tue, 24 Nov 2026 10:00:00 +0000"}}}}"#
    )
}

async fn wait_until_counted(program: &Program, twilio: &Twilio, account: &str) {
    wait_until_counted_as(program, twilio, account, account).await;
}

/// Waits until all webhook requests of an account are counted under its label.
async fn wait_until_counted_as(program: &Program, twilio: &Twilio, account: &str, label: &str) {
    eventually("the other account is counted", async || {
        let truth = twilio.truth();
        let all = truth.value("twilio_webhook_requests_total", &[("account", account)]);
        let counted = metric("twilio_webhook_requests_total").label("account", label);
        let counted = counted.value_in(&program.scrape().await);
        (truth.complete && all > 0.0 && counted == Some(all)).then_some(())
    })
    .await;
}

/// Announces a body of one megabyte to each client, and sends one byte every 100 ms.
async fn send_slowly(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        tokio::spawn(async move {
            let mut request = [0; 4096];
            let _received = stream.read(&mut request).await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
            let mut sent = stream.write_all(head).await;
            while sent.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                sent = stream.write_all(b" ").await;
            }
        });
    }
}
