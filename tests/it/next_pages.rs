//! No Call Event is counted twice if `next_page_uri` points back to a page that has been read.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::harness::{Program, Twilio, eventually, metric, world_of};

/// A call's only Call Event.
const EVENT: &str =
    r#"{"request":{"method":"GET","url":"https://a.example/x"},"response":{"response_code":200}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_sometimes_points_to_itself_is_counted_once() {
    let next = |path: &str, _, read: usize| {
        read.is_multiple_of(2).then(|| format!("{path}?PageSize=1000&PageToken=PA{read}"))
    };
    each_event_is_counted_once(1_000, next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_page_that_points_to_the_first_in_any_spelling_is_counted_once() {
    let next = |path: &str, call: usize, read: usize| {
        let spellings = [
            format!("{path}?PageSize=1"),
            format!("{path}?PageSize=1&Page=0"),
            format!("{path}?Page=0&PageSize=1"),
            format!("{path}?Page%53ize=1&%50age=%30&PageToken="),
            format!("/elsewhere/..{path}?PageSize=1&Page=00#first"),
            // Recognised only once the first page has no next page.
            format!("{path}?PageSize=1&PageToken=PA"),
        ];
        let spelling = call % spellings.len();
        let points_back =
            if spelling == spellings.len() - 1 { read == 0 } else { read.is_multiple_of(2) };
        points_back.then(|| spellings[spelling].clone())
    };
    each_event_is_counted_once(1, next).await;
}

/// Polls calls with one Call Event each, whose pages can only be read with at most `size` items, and
/// asserts that each event is counted once. `next` returns the next page's URI, given the path, the
/// call's number and how often its pages have been read.
async fn each_event_is_counted_once(
    size: usize,
    next: impl Fn(&str, usize, usize) -> Option<String> + Send + Sync + 'static,
) {
    let calls = Mutex::new(BTreeMap::<String, (usize, usize)>::new());
    let answer = move |uri: &str, _| {
        let (path, query) = uri.split_once('?')?;
        if !path.ends_with("/Events.json") {
            return None;
        }
        if form_urlencoded::parse(query.as_bytes()).any(|(name, value)| {
            name == "PageSize" && value.parse().is_ok_and(|asked: usize| asked > size)
        }) {
            return Some((200, "application/json", " ".repeat(17 << 20)));
        }
        let mut calls = calls.lock().expect("no panic");
        let number = calls.len();
        let (number, reads) = calls.entry(path.to_owned()).or_insert((number, 0));
        let next = next(path, *number, *reads);
        *reads += 1;
        let page = serde_json::json!({ "next_page_uri": next }).to_string();
        let page = page.replacen('{', &format!(r#"{{"events":[{EVENT}],"#), 1);
        Some((200, "application/json", page))
    };
    let twilio = Twilio::answering(world_of(12), answer).await;
    let program = Program::polling(&twilio).await;
    let scrape = eventually("every call is settled", async || {
        let (truth, scrape) = (twilio.truth(), program.scrape().await);
        let settled = metric("twilio_exporter_call_reads_total").label("stage", "settling");
        let settled = settled.label("result", "found").value_in(&scrape);
        let calls = truth.value("twilio_calls_total", &[]);
        (truth.complete && calls > 0.0 && settled == Some(calls)).then_some(scrape)
    })
    .await;
    let calls = metric("twilio_calls_total").value_in(&scrape);
    let requests = metric("twilio_webhook_requests_total").value_in(&scrape);
    assert_eq!(requests, calls, "one request per call");
}
