//! `/failures`: each failing webhook is listed once and can be found by its labels, and hostile URLs are
//! rendered harmless.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;

use crate::harness::{
    Program, Scrape, Tag, Twilio, eventually, everything, metric, tags, world_of,
};

/// The labels of `twilio_webhook_failures_total`, which alerts carry too.
const LABELS: [&str; 5] = ["account", "host", "route", "kind", "reason"];

#[tokio::test(flavor = "multi_thread")]
async fn every_failing_webhook_is_recorded_once_despite_kills() {
    let twilio = Twilio::serving(everything(2, 1)).await;
    let mut program = Program::polling(&twilio).await;
    eventually("webhooks fail", async || {
        let failed = metric("twilio_webhook_failures_total").value_in(&program.scrape().await);
        failed.filter(|failed| *failed >= 10.0)
    })
    .await;
    program = program.kill_and_restart().await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    let failures = recorded(&program, "?limit=1000").await;
    let counted = counted(&scrape);
    assert!(counted.len() > 20, "the world has only {} kinds of failures", counted.len());
    assert_eq!(by_labels(&failures), counted);
    for failure in &failures {
        let text = |field: &str| failure[field].as_str().expect(field);
        let has_detail = text("reason") == "malformed_xml";
        assert_eq!(failure["detail"].is_string(), has_detail, "{failure}");
        let fields = 9 + usize::from(has_detail);
        assert_eq!(failure.as_object().expect("an object").len(), fields, "{failure}");
        assert!(text("time").parse::<jiff::Timestamp>().is_ok() && text("time").ends_with('Z'));
        assert!(text("call_sid").starts_with("CA") && text("call_sid").len() == 34, "{failure}");
        let has_response = text("code").parse::<u16>().is_ok();
        assert!(has_response != (text("code") == "none"), "{failure}");
        let seconds = &failure["duration_seconds"];
        assert!(seconds.is_null() || seconds.as_f64().is_some_and(|s| s < 60.0), "{failure}");
    }
    let time = |failure: &serde_json::Value| -> jiff::Timestamp {
        failure["time"].as_str().and_then(|time| time.parse().ok()).expect("a time")
    };
    let times: Vec<_> = failures.iter().map(time).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    program = program.kill_and_restart().await;
    assert_eq!(recorded(&program, "?limit=1000").await, failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_label_links_to_all_failures_with_the_same_value() {
    let twilio = Twilio::serving(everything(1, 1)).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    let all = recorded(&program, "?limit=1000").await;
    let mut links: BTreeSet<String> = links(&program.get("/failures?limit=1000").await.1);
    links.retain(|link| link.starts_with("/failures?"));
    assert!(links.len() > 15, "{links:?}");
    for link in links {
        let (status, page) = program.get(&link).await;
        assert_eq!(status, 200, "{link}: {page}");
        let query = link.strip_prefix("/failures").expect("a query");
        let url = reqwest::Url::parse(&format!("http://h{link}")).expect("a URL");
        let filters: Vec<_> = url.query_pairs().filter(|(key, _)| key != "limit").collect();
        assert_eq!(filters.len(), 1, "{link}");
        let matching: Vec<Value> = all
            .iter()
            .filter(|failure| filters.iter().all(|(key, value)| failure[&**key] == **value))
            .cloned()
            .collect();
        assert!(!matching.is_empty(), "{link}");
        assert_eq!(recorded(&program, query).await, matching, "{link}");
        assert_eq!(rows(&page), matching.len(), "{link}");
    }
    // Follow the links to older failures page by page.
    let (mut next, mut seen) = (Some("/failures?limit=7".to_owned()), BTreeSet::new());
    while let Some(link) = next {
        let page = program.get(&link).await.1;
        let tags = tags(&page);
        let calls =
            tags.iter().filter_map(|tag| tag.attribute("href")).filter(|l| l.contains("/CA"));
        seen.extend(calls.map(str::to_owned));
        let older = page.split("\">Older</a>").next().filter(|before| before.len() < page.len());
        let older = older.and_then(|before| before.rsplit("href=\"").next());
        let older = older.map(|older| format!("/{}", older.replace("&amp;", "&")));
        assert_ne!(older, Some(link), "the link leads to the same page");
        next = older;
    }
    let calls: BTreeSet<_> = all.iter().map(|failure| failure["call_sid"].to_string()).collect();
    assert_eq!(seen.len(), calls.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_and_errors_have_the_requested_content_type() {
    let twilio = Twilio::serving(world_of(5)).await;
    let program = Program::polling(&twilio).await;
    let json = ("accept", "application/json");
    for (path, header, status, content_type) in [
        ("/failures", None, 200, "text/html; charset=utf-8"),
        ("/failures", Some(json), 200, "application/json"),
        ("/failures.json", None, 200, "application/json"),
        ("/failures.json", Some(("accept", "text/html")), 200, "application/json"),
        (
            "/failures?from=2026-01-01T00:00:00Z&to=1900000000000&account=",
            None,
            200,
            "text/html; charset=utf-8",
        ),
        ("/failures?kind=%3Cscript%3E", None, 400, "text/html; charset=utf-8"),
        ("/failures?kind=%3Cscript%3E", Some(json), 400, "application/json"),
        ("/failures.json?limit=%FF", None, 400, "application/json"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let url = format!("http://{}{path}", program.address());
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            let mut request = client.request(method.clone(), url);
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            let response = request.send().await.expect("a response");
            assert_eq!(response.status(), status, "{path}");
            let headers = response.headers();
            assert_eq!(headers["content-type"], content_type, "{path}");
            assert_eq!(headers["cache-control"], "no-store", "{path}");
            let policy = headers["content-security-policy"].to_str().expect("text").to_owned();
            assert!(policy.contains("form-action 'self'") && policy.contains("default-src 'none'"));
            let body = response.text().await.expect("a body");
            if method == Method::HEAD {
                assert_eq!(body, "");
            } else if content_type == "application/json" {
                let value: Value = serde_json::from_str(&body).expect("JSON");
                assert_eq!(value["error"].is_string(), status == 400, "{value}");
                assert_eq!(value["failures"].is_array(), status == 200, "{value}");
            } else {
                assert!(!body.contains("<script"), "{body}");
                tags(&body);
            }
        }
    }
    assert!(links(&program.get("/").await.1).contains("/failures"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_webhook_urls_leave_the_pages_harmless() {
    let answer = |uri: &str, _| {
        uri.contains("/Events.json").then(|| (200, "application/json", hostile_page()))
    };
    let twilio = Twilio::answering(world_of(3), answer).await;
    let program = Program::polling(&twilio).await;
    let text = "the page lists the failures that the counters show";
    let (failures, page) = eventually(text, async || {
        let scrape = program.scrape().await;
        let failures = recorded(&program, "?limit=1000").await;
        let page = program.get("/failures?limit=1000").await.1;
        let is_all = by_labels(&failures).len() == hostile_urls().len();
        // No call was read between the requests.
        let is_shown = by_labels(&failures) == counted(&scrape) && rows(&page) == failures.len();
        (is_all && is_shown).then_some((failures, page))
    })
    .await;
    let now = twilio_call_exporter::clock::Clock::start().now();
    let times = failures.iter().map(|failure| failure["time"].as_str().expect("a time"));
    let ages = times.map(|time| now.duration_since(time.parse().expect("a time")).as_secs());
    // Impossible and missing dates are replaced by the time of counting: a failure in the far future would
    // stay the most recent.
    let (old, recent): (Vec<i64>, Vec<i64>) = ages.partition(|age| *age > 86_400);
    assert_eq!(old.len() * 2, recent.len());
    assert!(recent.iter().all(|age| (-5..120).contains(age)), "{recent:?}");
    assert!(!page.contains("<script"), "{page}");
    let known = [
        "html", "head", "meta", "title", "style", "body", "h1", "form", "label", "input", "select",
        "option", "button", "p", "span", "a", "table", "thead", "tbody", "tr", "th", "td", "time",
        "!DOCTYPE",
    ];
    for Tag { name, attributes } in tags(&page) {
        assert!(known.contains(&name.trim_start_matches('/')), "<{name}>");
        assert!(!attributes.iter().any(|(name, _)| name.starts_with("on")), "{attributes:?}");
    }
    for link in links(&page) {
        let is_ours = link == "/" || link.starts_with("/failures");
        let console = "https://www.twilio.com/console/voice/calls/logs/CA";
        assert!(is_ours || link.starts_with(console), "{link}");
        if is_ours {
            let (status, page) = program.get(&link).await;
            let is_json = link.starts_with("/failures.json");
            assert!(status == 200 && (is_json || !page.contains("<script")), "{link}");
            let is_list = link.starts_with("/failures?");
            assert!(!is_list || rows(&page) > 0, "{link} finds nothing: {page}");
        }
    }
}

/// Dates in the past, in an impossible future, and missing.
const DATES: [&str; 3] =
    ["\"Tue, 11 Aug 2020 17:44:08 +0000\"", "\"Thu, 01 Jan 2099 00:00:00 +0000\"", "null"];

/// URLs that try to break out of the HTML or JSON that contains them.
fn hostile_urls() -> Vec<Vec<u8>> {
    let mut urls: Vec<Vec<u8>> = [
        "https://h.example/\"'><script>alert(1)</script>",
        "https://h.example/' onmouseover='alert(1)",
        "https://h.example/line\\nfeed\\r\\ttab",
        "https://h.example/back\\\\slash\\\\",
        "https://h.example/brace\\\"}",
        "https://h.example/controls\\u0000\\u0001\\u001b[31m\\u007f\\u0085",
        "https://h.example/%3Cscript%3E&lt;script&gt;&amp;",
        "https://h.example/bidi\\u202e\\u2066\\ufeff",
        "https://h.example/\\ud800lone",
        "https://h.example/javascript:alert(1)",
        "https://h\\\"'><script>alert(1)<.example/",
        "https://h&amp;=+%00.example/",
        "javascript://h.example/%0aalert(1)",
    ]
    .iter()
    .map(|url| url.replace("/\"'>", "/\\\"'>").into_bytes())
    .collect();
    urls.push(b"https://h.example/bytes\xff\xfe\xc3".to_vec());
    urls.push(b"https://h\xf0\x28.example/".to_vec());
    urls
}

/// A page of Call Events with the hostile URLs.
fn hostile_page() -> Vec<u8> {
    let mut page = b"{\"events\":[".to_vec();
    for (index, url) in hostile_urls().into_iter().enumerate() {
        page.extend_from_slice(if index == 0 { b"" } else { b"," });
        page.extend_from_slice(br#"{"request":{"method":"POST","url":""#);
        page.extend(url);
        page.extend_from_slice(br#"","parameters":{"call_sid":"CA","call_status":"ringing","direction":"inbound"}},"response":{"response_code":500,"request_duration":20,"content_type":"text/html","response_body":"","date_created":"#);
        page.extend_from_slice(DATES[index % DATES.len()].as_bytes());
        page.extend_from_slice(b"}}");
    }
    page.extend_from_slice(b"],\"next_page_uri\":null}");
    page
}

/// Queries `/failures.json`.
async fn recorded(program: &Program, query: &str) -> Vec<Value> {
    let (status, text) = program.get(&format!("/failures.json{query}")).await;
    assert_eq!(status, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    answer["failures"].as_array().expect("a list").clone()
}

/// The number of failures for each set of labels.
fn by_labels(failures: &[Value]) -> BTreeMap<Vec<String>, usize> {
    let mut counts = BTreeMap::new();
    for failure in failures {
        let labels = LABELS.map(|label| failure[label].as_str().expect(label).to_owned());
        *counts.entry(labels.to_vec()).or_default() += 1;
    }
    counts
}

/// The same according to the counters.
fn counted(scrape: &Scrape) -> BTreeMap<Vec<String>, usize> {
    let durable = scrape.durable();
    let failures = durable.iter().filter(|((name, _), _)| name == "twilio_webhook_failures_total");
    failures
        .map(|((_, labels), count)| {
            let labels = LABELS.map(|label| labels[label].clone()).to_vec();
            (labels, format!("{count}").parse().expect("a whole number"))
        })
        .collect()
}

/// The targets of a page's links, as a browser resolves them behind a proxy that serves the program under a
/// path prefix. The prefix is removed.
fn links(page: &str) -> BTreeSet<String> {
    let base = reqwest::Url::parse("http://proxy.example/under/failures").expect("a URL");
    let resolve = |link: &str| {
        let url = base.join(link).expect("a link");
        if url.host() != base.host() {
            return url.to_string();
        }
        let whole = url.as_str();
        whole.strip_prefix("http://proxy.example/under").expect(whole).to_owned()
    };
    tags(page).iter().filter_map(|tag| tag.attribute("href")).map(resolve).collect()
}

/// The number of rows of the table, without the header.
fn rows(page: &str) -> usize {
    tags(page).iter().filter(|tag| tag.name == "tr").count().saturating_sub(1)
}
