//! The cost of rendering ten thousand series.
//!
//! `cargo bench --bench scrape`. Excludes HTTP, which `--bench load -- scrapes` includes.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use jiff::Timestamp;
use std::time::Duration;
use twilio_call_exporter::domain::engine::effects::Fact;
use twilio_call_exporter::domain::judge::content_type::ContentType;
use twilio_call_exporter::domain::judge::kind::RequestKind;
use twilio_call_exporter::domain::judge::observe::Observation;
use twilio_call_exporter::domain::judge::route::Endpoint;
use twilio_call_exporter::domain::judge::verdict::{Code, Reason, Verdict};
use twilio_call_exporter::domain::words::sid::CallSid;
use twilio_call_exporter::metrics::exposition::{Exposition, Format};
use twilio_call_exporter::metrics::ledger::{AccountId, Entry, Ledger, LedgerLimits};
use twilio_call_exporter::metrics::snapshot;

fn main() {
    divan::main();
}

#[divan::bench(args = [Format::Text, Format::OpenMetrics])]
fn exposition_of_10000_series(bencher: Bencher<'_, '_>, format: Format) {
    let ledger = ledger();
    let text = exposition(&ledger, format).concat();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!((10_000..10_200).contains(&series), "{series} series");
    bencher
        .counter(ItemsCount::new(series))
        .counter(BytesCount::of_str(&text))
        .bench_local(|| exposition(&ledger, format));
}

fn exposition(ledger: &Ledger, format: Format) -> Vec<String> {
    let mut exposition = Exposition::new(format);
    snapshot::write(ledger, format == Format::OpenMetrics, &mut exposition);
    exposition.finish()
}

/// Four accounts with enough routes for ten thousand series; one request in a hundred fails.
fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    for account in 1..=4 {
        ledger.show(AccountId(account), format!("account-{account}"), Timestamp::UNIX_EPOCH);
        let facts: Vec<Fact> = (0..6_000).map(fact).collect();
        let entry = Entry { account: AccountId(account), facts: &facts, received_at: None };
        let limits = LedgerLimits {
            routes_per_account: 1_000,
            series: 1_000_000,
            hold_back: Duration::ZERO,
        };
        let delta = ledger.apply([entry], limits, now());
        ledger.publish(delta);
    }
    ledger
}

fn fact(number: u64) -> Fact {
    let fails = number.is_multiple_of(100);
    Fact::Event {
        observation: Observation {
            endpoint: Endpoint {
                host: "ivr.example.com".to_owned(),
                route: format!("/tenant/menu-{}", number % 57),
            },
            is_configured: false,
            kind: RequestKind::GatherAction,
            duration_ms: Some(number % 16_000),
            has_invalid_duration: false,
            verdict: Verdict {
                code: Code::from_status(if fails { 503 } else { 200 }).expect("a code"),
                failure: fails.then_some(Reason::Http5xx),
                malformation: None,
                content_type: Some(ContentType::TextXml),
                warning: None,
                is_unjudged: false,
            },
        },
        call_sid: CallSid::parse(&format!("CA{number:032x}")).expect("a SID"),
        at: now(),
        is_history: true,
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("an instant")
}
