//! If Twilio can't return a page of the requested size, the program requests smaller pages, and larger
//! ones again as soon as they can be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use twilio_call_exporter::simulator::WorldConfig;

use crate::harness::{Program, Twilio, eventually, everything, ongoing_calls, run, world_of};

/// Status, content type and body of a response that isn't a page.
type Answer = (u16, &'static str, String);

/// Responses of Twilio and the network if the requested page is too large.
fn too_big() -> [Answer; 3] {
    [
        (500, "application/json", r#"{"code":20500,"message":"Internal Server Error"}"#.to_owned()),
        (200, "application/json", r#"{"page":0,"calls":[{"sid":"CA"#.to_owned()),
        (200, "application/json", " ".repeat(17 << 20)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_returns_only_small_pages_is_read() {
    let [fails, breaks_off, is_too_large] = too_big();
    tokio::join!(
        assert_read_in_small_pages(fails),
        assert_read_in_small_pages(breaks_off),
        assert_read_in_small_pages(is_too_large)
    );
}

async fn assert_read_in_small_pages(answer: Answer) {
    let asked = answer.clone();
    let too_big = move |uri: &str, _| (page_size(uri) > 100).then(|| asked.clone());
    let world = WorldConfig { max_calls: Some(60), ..everything(1, 1) };
    let twilio = Twilio::answering(world, too_big).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    let large =
        twilio.traffic().iter().filter(|exchange| page_size(&exchange.uri) == 1_000).count();
    assert!(large < 20, "{:.60}: {large} large pages", answer.2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_returns_only_small_pages_does_not_affect_others() {
    // The first call in the world.
    let odd = |uri: &str| uri.contains("/Calls/CA0000000000000000");
    let too_big = move |uri: &str, _| {
        (odd(uri) && uri.contains("/Events.json") && page_size(uri) > 1)
            .then(|| too_big()[0].clone())
    };
    let twilio = Twilio::answering(world_of(12), too_big).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    let traffic = twilio.traffic();
    assert!(traffic.iter().any(|exchange| odd(&exchange.uri) && page_size(&exchange.uri) == 1));
    for exchange in traffic.iter().filter(|exchange| !odd(&exchange.uri)) {
        assert!(page_size(&exchange.uri) != 1, "{}", exchange.uri);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_type_of_list_that_returns_only_small_pages_is_read() {
    // Large pages fail for lists by start time, but not for lists of ended, active and all calls.
    let too_big = move |uri: &str, _| {
        (uri.contains("StartTime") && page_size(uri) > 100).then(|| too_big()[0].clone())
    };
    let twilio = Twilio::answering(ongoing_calls(1, 20), too_big).await;
    let _program = Program::polling(&twilio).await;
    eventually("the list is read in small pages", async || {
        let is_read = |uri: &str| uri.contains("StartTime") && page_size(uri) == 50;
        twilio.traffic().iter().any(|exchange| is_read(&exchange.uri)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_large_pages_again_after_an_outage() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let answer = move |_: &str, _| broken.load(Ordering::SeqCst).then(|| too_big()[0].clone());
    let twilio = Twilio::answering(ongoing_calls(1, 30), answer).await;
    let _program = Program::polling(&twilio).await;
    eventually("smaller pages are requested", async || {
        twilio.traffic().iter().any(|exchange| page_size(&exchange.uri) == 200).then_some(())
    })
    .await;
    is_broken.store(false, Ordering::SeqCst);
    eventually("larger pages are requested again", async || {
        let sizes: Vec<u64> = twilio.traffic().iter().map(|e| page_size(&e.uri)).collect();
        let first_small = sizes.iter().position(|size| *size == 200)?;
        sizes[first_small..].contains(&1_000).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_requests_smaller_pages_too() {
    let too_big = move |uri: &str, _| (page_size(uri) > 100).then(|| too_big()[0].clone());
    let twilio = Twilio::answering(world_of(5), too_big).await;
    let account = twilio.accounts()[0].clone();
    let ended = run(
        &["check-config", "--online"],
        &[
            ("TWILIO_ACCOUNT_SID", account.account_sid.as_str()),
            ("TWILIO_AUTH_TOKEN", &account.auth_token),
            ("TWILIO_API_BASE_URL", twilio.url()),
        ],
    );
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let text =
        "in pages of 50 at most: in larger ones, Twilio failed (HTTP 500, Twilio error 20500)";
    for resource in ["calls  ", "Call Events"] {
        let lines = ended.stdout.lines().filter(|line| line.trim_start().starts_with(resource));
        let shown: Vec<&str> = lines.collect();
        assert!(shown.iter().any(|line| line.contains(text)), "{resource}: {}", ended.stdout);
        assert!(
            shown.iter().any(|line| line.contains(" readable")),
            "{resource}: {}",
            ended.stdout
        );
    }
}

/// The page size that a request asks for; 0 if it isn't for a list.
fn page_size(uri: &str) -> u64 {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let size = query.split('&').find_map(|pair| pair.strip_prefix("PageSize="));
    size.and_then(|size| size.parse().ok()).unwrap_or_default()
}
