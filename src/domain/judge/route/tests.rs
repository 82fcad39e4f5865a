//! Tests the labels of hosts and paths.

mod generated;

use super::*;

#[test]
fn data_is_replaced() {
    for (url, expected) in [
        ("https://a.example/voice", "a.example /voice"),
        ("https://a.example/users/42/calls", "a.example /users/:id/calls"),
        ("https://a.example/v1/voice", "a.example /v1/voice"),
        ("https://a.example/+15005550006/x", "a.example /:id/x"),
        ("https://a.example/%2B15005550006", "a.example /:id"),
        ("https://a.example/%2B1%20500%20555%200006", "a.example /:id"),
        ("https://a.example/AC0123456789abcdef0123456789abcdef", "a.example /:id"),
        ("https://a.example/0b3c9c1e-7a3b-4c1e-9f6a-0123456789ab/x", "a.example /:id/x"),
        ("https://a.example/jane%40example.com", "a.example /:id"),
        ("https://a.example/deadbeefdeadbeef", "a.example /deadbeefdeadbeef"),
        ("https://a.example/deadbeefdeadbee1", "a.example /:id"),
        ("https://a.example/Zx81kLmNoPqRsTuVwXyZ", "a.example /:id"),
        (
            "https://webhooks.twilio.com/v1/Accounts/AC0123456789abcdef0123456789abcdef/Flows/FW0123456789abcdef0123456789abcdef",
            "webhooks.twilio.com /v1/Accounts/:id/Flows/FW0123456789abcdef0123456789abcdef",
        ),
    ] {
        check(&[], url, expected);
    }
}

/// URLs from practice with their host and route, or `-` for an invalid URL.
#[test]
fn the_corpus_of_urls_has_the_expected_routes() {
    let corpus = include_str!("../../../../tests/fixtures/routes.tsv");
    let lines = corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in lines {
        let mut fields = line.split('\t');
        let mut field = || fields.next().expect("three fields");
        let (url, expected) = (field(), (field(), field()));
        let found = WebhookUrl::parse(url).map(|url| Routes::default().endpoint(&url));
        let found = found.unwrap_or(Endpoint { host: "-".to_owned(), route: "-".to_owned() });
        if (found.host.as_str(), found.route.as_str()) != expected {
            wrong.push(format!("{url}: {} {}", found.host, found.route));
        }
        count += 1;
    }
    assert!(count >= 120, "{count} URLs");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each segment is tested in the middle of a path, whose other segments must stay.
#[test]
fn the_corpus_of_segments_is_replaced_or_stays() {
    let corpus = include_str!("../../../../tests/fixtures/segments.tsv");
    let lines = corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut wrong, mut data, mut words) = (Vec::new(), 0, 0);
    for line in lines {
        let (segment, expected) = line.split_once('\t').expect("two fields");
        let url = format!("https://a.example/ivr/{segment}/menu");
        let url = WebhookUrl::parse(&url).expect("valid URL");
        let route = Routes::default().endpoint(&url).route;
        if route != format!("/ivr/{expected}/menu") {
            wrong.push(format!("{segment}: {route}"));
        }
        *if segment == expected { &mut words } else { &mut data } += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(data >= 200 && words >= 200, "{data} data segments, {words} names");
}

#[test]
fn a_very_long_url_is_truncated() {
    let url = format!("https://{}.example/{}", "h".repeat(10_000), "ä".repeat(10_000));
    let endpoint = Routes::default().endpoint(&WebhookUrl::parse(&url).expect("valid URL"));
    assert!(endpoint.host.len() <= 256 && endpoint.route.len() <= 256);
}

#[test]
fn a_label_is_safe_on_a_terminal() {
    for (url, expected) in [
        ("https://a.example/a\u{1b}[31m/b\u{202e}c", "a.example /a%1B[31m/b%E2%80%AEc"),
        ("https://a\u{202e}b.example/x", "a%E2%80%AEb.example /x"),
        ("https://a.example/line\u{2028}break\nx", "a.example /line%E2%80%A8break%0Ax"),
    ] {
        check(&[], url, expected);
    }
    check(&["/ivr/:tenant"], "https://15005550006.example/ivr/x", ":id.example /ivr/:tenant");
}

#[test]
fn configured_patterns_take_precedence_and_may_name_a_host() {
    let patterns = ["/ivr/:tenant/menu", "*.preview.example.com/ivr/:tenant"];
    check(&patterns, "https://a.example/ivr/acme/menu", "a.example /ivr/:tenant/menu");
    check(
        &patterns,
        "https://pr-1.preview.example.com/ivr/x",
        "*.preview.example.com /ivr/:tenant",
    );
    check(&patterns, "https://a.example/ivr//menu", "a.example /ivr//menu");
    check(&patterns, "https://a.example/ivr/acme/menu/x", "a.example /ivr/acme/menu/x");
}

/// A number is data in any script, with any separators, after any word, and at any depth of encoding.
#[test]
fn a_phone_number_is_data_in_any_notation() {
    for seed in 0..5_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let segment = written(&mut random);
        let url = format!("https://a.example/ivr/{segment}/menu");
        let endpoint = Routes::default().endpoint(&WebhookUrl::parse(&url).expect("valid URL"));
        let route = endpoint.route.replace(":id.xml", ":id");
        assert_eq!(route, "/ivr/:id/menu", "seed {seed}: {segment}");
    }
}

/// A phone number as an application may write it into a path.
fn written(random: &mut fastrand::Rng) -> String {
    let scripts = ["0123456789", "０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗"];
    let between =
        ["", "", "-", ".", " ", "_", "~", ":", ",", "–", "\u{a0}", "\u{200b}", "\u{202d}", ") "];
    let before = ["", "", "", "+", "＋", "00", "tel:", "tel-", "caller_", "from.", "sip:", "電話"];
    let after = ["", "", "", "-menu", "_x", "@sip.example", ".xml"];
    let mut pick = |texts: &[&str]| texts[random.usize(..texts.len())].to_owned();
    let (script, separator) = (pick(&scripts), pick(&between));
    let (mut text, end) = (pick(&before), pick(&after));
    for at in 0..random.usize(7..=15) {
        if at > 0 && random.u8(..3) == 0 {
            text.push_str(&separator);
        }
        text.extend(script.chars().nth(random.usize(..10)));
    }
    let text = text + &end;
    match random.u8(..6) {
        0 => text,
        1 => percent_encoded(&text, |byte| !byte.is_ascii_alphanumeric()),
        // Every byte, although no library does that.
        rounds => (1..rounds).fold(percent_encoded(&text, |_| true), |text, _| {
            percent_encoded(&text, |byte| byte == b'%')
        }),
    }
}

fn percent_encoded(text: &str, is_encoded: impl Fn(u8) -> bool) -> String {
    let byte = |byte: u8| match is_encoded(byte) {
        true => format!("%{byte:02X}"),
        false => char::from(byte).to_string(),
    };
    // Non-ASCII bytes are always encoded, so that the result is ASCII.
    text.bytes().map(|b| if b.is_ascii() { byte(b) } else { format!("%{b:02X}") }).collect()
}

#[test]
fn labels_of_any_text_are_short_and_safe() {
    let alphabet: Vec<char> =
        "ab1F:/.-_%25@=;?#[]xn\u{0}\u{1b}\u{85}\u{202e}é電０٣\u{1d7ce}\u{fffd}".chars().collect();
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let length = if seed % 100 == 0 { 5_000 } else { 60 };
        let text: String =
            (0..random.usize(..length)).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
        let Some(url) = WebhookUrl::parse(&format!("https://{text}"))
            .map(|url| Routes::default().endpoint(&url))
        else {
            continue;
        };
        for label in [url.host, url.route] {
            assert!(label.len() <= label::MAX_LABEL_BYTES, "seed {seed}: {label}");
            assert!(!label.contains(label::is_unsafe), "seed {seed}: {label:?}");
        }
    }
}

fn check(patterns: &[&str], url: &str, expected: &str) {
    let routes = Routes::new(
        patterns.iter().map(|text| RoutePattern::parse(text).expect("valid pattern")).collect(),
    );
    let endpoint = routes.endpoint(&WebhookUrl::parse(url).expect("valid URL"));
    assert_eq!(format!("{} {}", endpoint.host, endpoint.route), expected, "{url}");
}
