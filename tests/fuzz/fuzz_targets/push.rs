//! Only pushes signed by Twilio are counted, and only once: forged, altered, truncated, wrongly signed and
//! repeated requests change nothing, and none causes a panic.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use ring::{digest, hmac};
use secrecy::SecretString;
use twilio_call_exporter::domain::engine::lists::ListPlan;
use twilio_call_exporter::domain::engine::plan::ReadPlan;
use twilio_call_exporter::domain::engine::{Engine, InitialState, Settings};
use twilio_call_exporter::domain::judge::reported::Reported;
use twilio_call_exporter::domain::judge::route::Routes;
use twilio_call_exporter::domain::track::digest::DigestKey;
use twilio_call_exporter::domain::track::listing::{ErrorLogProgress, ListProgress};
use twilio_call_exporter::domain::words::sid::AccountSid;
use twilio_call_exporter::twilio::push::{PublicUrl, PushRequest, Refusal, Signer, verify};

const URL: &str = "https://exporter.example.com/push/error-log";
const TOKEN: &str = "made-up-token";
const SID: &str = "AC00000000000000000000000000000001";

static ACCOUNT: LazyLock<AccountSid> = LazyLock::new(|| AccountSid::parse(SID).expect("a SID"));
static PUBLIC_URL: LazyLock<PublicUrl> = LazyLock::new(|| URL.parse().expect("a URL"));
static SIGNERS: LazyLock<[Signer; 1]> =
    LazyLock::new(|| [Signer::new(*ACCOUNT, &SecretString::from(TOKEN))]);

fuzz_target!(|bytes: &[u8]| {
    let Some((&[choice, at], body)) = bytes.split_first_chunk::<2>() else { return };
    if choice % 2 == 0 {
        events(body, usize::from(at));
    } else {
        form(body, usize::from(at));
    }
});

/// A list of events, and altered versions of it.
fn events(body: &[u8], at: usize) {
    let hash = digest::digest(&digest::SHA256, body);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let query = format!("bodySHA256={hash}");
    let signature = sign(&format!("{URL}?{query}"));
    let request = PushRequest { query: &query, signature: Some(&signature), settings: None, body };
    assert_counted_once(request);
    let mut altered = body.to_vec();
    altered.push(b' ');
    assert_refused(PushRequest { body: &altered, ..request });
    if !body.is_empty() {
        let at = at % body.len();
        assert_refused(PushRequest { body: &body[..at], ..request });
        altered.pop();
        altered[at] ^= 1;
        assert_refused(PushRequest { body: &altered, ..request });
    }
    assert_refused(PushRequest { query: &format!("{query}&a"), ..request });
}

/// A form with these fields and the account that signs it, and altered versions of it.
fn form(fields: &[u8], at: usize) {
    let mut all: Vec<(String, String)> =
        form_urlencoded::parse(fields).into_owned().take(50).collect();
    all.insert(0, ("AccountSid".to_owned(), SID.to_owned()));
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&all).finish();
    let mut sorted = all.clone();
    sorted.sort();
    sorted.dedup();
    let text: String =
        sorted.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect();
    let signature = sign(&format!("{URL}{text}"));
    let request = PushRequest {
        query: "",
        signature: Some(&signature),
        settings: None,
        body: body.as_bytes(),
    };
    assert_counted_once(request);
    // Duplicate pairs are signed as one, so add a different value.
    let (name, value) = (&all[at % all.len()].0, format!("{}x", all[at % all.len()].1));
    if !all.contains(&(name.clone(), value.clone())) {
        let mut longer = form_urlencoded::Serializer::new(body.clone());
        let longer = longer.append_pair(name, &value).finish();
        assert_refused(PushRequest { body: longer.as_bytes(), ..request });
    }
    assert_refused(PushRequest { query: "a", ..request });
}

/// Asserts that a correctly signed request is accepted unless unreadable, and counted once.
fn assert_counted_once(request: PushRequest<'_>) {
    let signature = request.signature;
    assert_refused(PushRequest { signature: None, ..request });
    assert_refused(PushRequest { settings: Some("algorithm=HMAC_SHA256"), ..request });
    let other: PublicUrl = "https://exporter.example.com/".parse().expect("a URL");
    assert!(verify(request, &other, &*SIGNERS).is_err());
    let forger = Signer::new(*ACCOUNT, &SecretString::from("another"));
    assert!(verify(request, &PUBLIC_URL, &[forger]).is_err());
    assert!(signature.is_some());
    let accepted = match verify(request, &PUBLIC_URL, &*SIGNERS) {
        Ok(pushed) => pushed,
        Err(refusal) => {
            assert_eq!(refusal, Refusal::Unreadable, "the request is signed");
            return;
        }
    };
    let mut engine = engine();
    let now = Timestamp::from_second(1_790_000_000).expect("a time");
    let mut count = |entries: &[Reported]| {
        let effects = engine.on_push(entries.to_vec(), 0, now).expect("the engine counts pushes");
        effects.batch.facts.len()
    };
    let routes = Routes::default();
    let entries: Vec<Reported> =
        accepted.entries.iter().map(|entry| Reported::judge(entry, &routes)).collect();
    for entry in &entries {
        let endpoint = entry.endpoint.as_ref();
        assert!(endpoint.is_none_or(|of| of.host.len() <= 256 && of.route.len() <= 256));
    }
    assert!(count(&entries) <= entries.len());
    assert_eq!(count(&entries), 0, "a repeated push counts nothing");
}

fn assert_refused(request: PushRequest<'_>) {
    let refusal = verify(request, &PUBLIC_URL, &*SIGNERS).expect_err("refused");
    assert_ne!(refusal, Refusal::Unreadable, "the body is parsed before the signature is verified");
}

/// An engine whose error log progress is known.
fn engine() -> Engine {
    let since = Timestamp::from_second(1_000_000_000).expect("a time");
    let settings = Settings {
        account: *ACCOUNT,
        lists: ListPlan {
            interval: Duration::from_secs(30),
            initial_lookback: Duration::from_secs(3_600),
            catch_up: Duration::from_secs(86_400),
            error_log_interval: None,
        },
        reads: ReadPlan {
            live_interval: Duration::from_secs(60),
            after_end: Vec::new(),
            settle_delay: Duration::from_secs(960),
            audit_after: Duration::from_secs(3_600),
        },
        max_concurrency: 1,
        discovers: false,
        has_error_log: false,
        accepts_pushes: true,
        digest_key: DigestKey::new([7; 16]),
    };
    let error_log = Some(ErrorLogProgress { since, known_to: since });
    let lists = ListProgress { error_log, ..ListProgress::default() };
    Engine::new(settings, InitialState { lists, ..InitialState::default() })
}

fn sign(text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}
