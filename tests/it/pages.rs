//! HTTP endpoints: format and compression of metrics, health, readiness, the landing page and links.

use std::collections::{BTreeSet, VecDeque};

use crate::harness::{Program, Scrape, Twilio, eventually, everything, metric, tags, world_of};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_the_text_format_content_type_and_float_bounds() {
    let twilio = Twilio::serving(everything(1, 1)).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    let response = program.request("/metrics").send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.expect("a body");
    assert!(
        text.contains("le=\"15.0\"")
            && text.contains("le=\"0.05\"")
            && text.contains("le=\"+Inf\"")
    );
    assert!(!text.contains("le=\"15\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_families_of_a_known_world_match_the_golden_file() {
    let twilio = Twilio::serving(everything(1, 1)).await;
    let mut program = Program::polling(&twilio).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    let is_durable = |line: &&str| {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        let families = [
            "twilio_webhook_",
            "twilio_twiml_",
            "twilio_calls_total",
            "twilio_calls_with",
            "twilio_call_api",
        ];
        families.iter().any(|family| name.starts_with(family))
    };
    let found: String =
        scrape.text.lines().filter(is_durable).flat_map(|line| [line, "\n"]).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &found).expect("written");
    }
    let expected = std::fs::read_to_string(path).expect("tests/golden/metrics.txt");
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(found == expected, "differs from tests/golden/metrics.txt: {differs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_compressed_if_the_client_accepts_gzip() {
    let twilio = Twilio::serving(world_of(5)).await;
    let program = Program::polling(&twilio).await;
    let client = reqwest::Client::builder().no_proxy().no_gzip().build().expect("a client");
    let url = format!("http://{}/metrics", program.address());
    let response = client.get(url).header("accept-encoding", "gzip").send().await;
    let response = response.expect("an answer");
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let compressed = response.bytes().await.expect("a body");
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&compressed[..]);
    std::io::Read::read_to_string(&mut decoder, &mut text).expect("gzip");
    let scrape = Scrape::parse(&text);
    assert!(metric("twilio_exporter_build_info").is_in(&scrape, 1.0));
    assert!(compressed.len() * 3 < text.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_the_landing_page_answer() {
    let twilio = Twilio::serving(world_of(5)).await;
    let program = Program::polling(&twilio).await;
    assert_eq!(program.get("/-/healthy").await, (200, "Healthy.\n".to_owned()));
    assert_eq!(program.get("/-/ready").await, (200, "Ready.\n".to_owned()));
    assert_eq!(program.get("/nowhere").await.0, 404);
    let account = &twilio.accounts()[0].account_sid;
    eventually("the landing page shows the account as readable", async || {
        let (status, page) = program.get("/").await;
        assert_eq!(status, 200);
        (page.contains(account) && page.contains("readable") && page.contains("\"metrics\""))
            .then_some(())
    })
    .await;
    let response = program.request("/").send().await.expect("an answer");
    assert!(
        response.headers()["content-security-policy"]
            .to_str()
            .expect("text")
            .starts_with("default-src 'none'")
    );
    let posted = reqwest::Client::builder().no_proxy().build().expect("a client");
    let posted = posted.post(format!("http://{}/metrics", program.address()));
    assert_eq!(posted.send().await.expect("an answer").status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_matches_the_families_of_a_running_program() {
    use twilio_call_exporter::metrics::catalog;
    let twilio = Twilio::serving(everything(2, 1)).await;
    let pushed = [("TWILIO_EXPORTER_PUSH__PUBLIC_URL", "https://exporter.example.com/push")];
    let mut program = Program::polling_with(&twilio, &pushed).await;
    let scrape = twilio.wait_until_counted_by(&mut program).await;
    let strip = |name: &str| {
        let suffix =
            ["_bucket", "_sum", "_count"].into_iter().find(|suffix| name.ends_with(suffix));
        name.trim_end_matches(suffix.unwrap_or_default()).to_owned()
    };
    for name in scrape.names().into_iter().filter(|name| !name.starts_with("process_")) {
        let family =
            catalog::ALL.iter().find(|family| family.name == name || family.name == strip(name));
        assert!(family.is_some(), "{name} is not in the catalogue");
    }
    // A family that doesn't appear here is never filled.
    let shown: std::collections::BTreeSet<String> =
        scrape.names().iter().map(|name| strip(name)).collect();
    for family in catalog::ALL {
        assert!(shown.contains(family.name), "{} is never shown", family.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_webhooks_are_logged_at_a_limited_rate() {
    let twilio = Twilio::serving(everything(1, 1)).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    let log = program.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.contains("\"webhook failed\""))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let of = |reason: &str| lines.iter().find(|line| line["reason"] == reason);
    let line = of("wrong_root").or_else(|| of("http_5xx")).or_else(|| of("timeout"));
    let line = line.expect("a failing webhook");
    for field in ["account", "host", "route", "kind", "code", "reason", "call_sid", "suppressed"] {
        assert!(!line[field].is_null(), "{field} in {line}");
    }
    let of_one_route = lines.iter().filter(|line| line["route"] == "/menu").count();
    assert!((1..=5).contains(&of_one_route), "{of_one_route} lines for one route in one minute");
    assert!(!log.contains("+1500555") && !log.contains("%2B1500555"), "a phone number in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_forms_stay_below_the_path_of_a_reverse_proxy() {
    let twilio = Twilio::serving(everything(1, 1)).await;
    let mut program = Program::polling(&twilio).await;
    twilio.wait_until_counted_by(&mut program).await;
    // Pages with and without failures, rejected queries, missing pages, and every page they link to.
    let mut to_visit: VecDeque<String> = [
        "/",
        "/failures?limit=2",
        "/failures?account=none",
        "/failures?reason=tls&host=none&kind=voice_url&from=2026-01-01T00:00:00Z",
        "/failures?to=2001-01-01T00:00:00Z",
        "/failures?kind=nonsense",
        "/failures?nonsense=1",
        "/failures/",
        "/metrics/",
        "/nowhere/at/all",
        "/-/",
        "/-/reload",
        "//",
    ]
    .map(str::to_owned)
    .into();
    let mut visited = BTreeSet::new();
    let (mut links, mut forms) = (0, 0);
    while let Some(path) = to_visit.pop_front() {
        if !visited.insert(path.clone()) || visited.len() > 60 {
            continue;
        }
        let response = program.request(&path).send().await.expect("an answer");
        for name in ["location", "refresh", "link", "content-location"] {
            assert!(!response.headers().contains_key(name), "{path} has the header {name}");
        }
        let is_html = response
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("text/html")));
        let page = response.text().await.expect("a body");
        if !is_html {
            continue;
        }
        let tags = tags(&page);
        assert!(
            !tags.iter().any(|tag| tag.name == "base"
                || tag.name == "meta" && tag.attribute("http-equiv").is_some()),
            "{path}"
        );
        let addresses = tags.iter().flat_map(|tag| {
            let names = ["href", "action", "formaction", "src", "srcset", "poster", "data", "cite"];
            names.map(|name| (name, tag.attribute(name)))
        });
        for (name, address) in addresses.filter_map(|(name, found)| Some((name, found?))) {
            if address.starts_with("https://www.twilio.com/console/") && name == "href" {
                continue;
            }
            let base = format!("http://proxy.example/a/path{path}");
            let base = reqwest::Url::parse(&base).expect("a URL");
            let resolved = base.join(address).expect(address);
            let within = resolved.as_str().strip_prefix("http://proxy.example/a/path/");
            let within = within.unwrap_or_else(|| panic!("{path}: {name}=\"{address}\""));
            let served = program.get(&format!("/{within}")).await.0;
            assert_eq!(served, 200, "{path}: {name}=\"{address}\"");
            to_visit.push_back(format!("/{within}"));
            links += usize::from(name == "href");
            forms += usize::from(name == "action");
        }
    }
    assert!(links > 100 && forms > 5, "{links} links, {forms} forms");
}
