//! A call that fails on its own is named, and neither delays nor silences anything else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::harness::{Program, Scrape, Twilio, eventually, going_on, metric};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_alone_cannot_be_read_is_named_once_and_holds_up_nothing_else() {
    let stuck = Arc::new(Mutex::new(Stuck::default()));
    let answers = Arc::clone(&stuck);
    let twilio = Twilio::answering(going_on(1, 160), move |uri, _| {
        let is_stuck = answers.lock().expect("no panic").asks(uri);
        is_stuck.then(|| (500, "application/json", "{}".to_owned()))
    })
    .await;
    let program = Program::polling(&twilio).await;
    assert_eq!(catching_up(&program.scrape().await), Some(1.0), "a new store begins with the past");
    eventually("calls are settled", async || {
        (settled(&program.scrape().await) >= 1.0).then_some(())
    })
    .await;
    // Known up to seconds ago, the account doesn't begin with the past.
    let mut program = program.kill_and_restart().await;
    stuck.lock().expect("no panic").is_on = true;
    let scrape = eventually("a call can't be read", async || {
        let scrape = program.scrape().await;
        assert_ne!(catching_up(&scrape), Some(1.0));
        is_unreadable(&scrape, 1.0).then_some(scrape)
    })
    .await;
    let sid = stuck.lock().expect("no panic").sid.clone().expect("a call");
    eventually("the landing page shows it", async || {
        program.get("/").await.1.contains("1 call can't be read").then_some(())
    })
    .await;
    let before = settled(&scrape);
    eventually("other calls are settled", async || {
        let scrape = program.scrape().await;
        assert_ne!(catching_up(&scrape), Some(1.0));
        (settled(&scrape) >= before + 5.0).then_some(())
    })
    .await;
    assert_eq!(lines(&program, "WARN", &sid), 1, "{}", program.log());
    assert_eq!(lines(&program, "INFO", &sid), 0, "{}", program.log());
    stuck.lock().expect("no panic").is_on = false;
    eventually("it can be read again", async || {
        is_unreadable(&program.scrape().await, 0.0).then_some(())
    })
    .await;
    twilio.is_told_by(&mut program).await;
    let log = program.log();
    assert_eq!(lines(&program, "WARN", &sid), 1, "{log}");
    assert!(log.lines().any(|line| line.contains("can read a call's events again")), "{log}");
}

/// Answers 500 to each read of the first call that is asked for while it is on, and wasn't before.
#[derive(Default)]
struct Stuck {
    is_on: bool,
    known: BTreeSet<String>,
    sid: Option<String>,
}

impl Stuck {
    fn asks(&mut self, uri: &str) -> bool {
        let Some((path, _)) = uri.split_once("/Events.json") else { return false };
        let sid = path.rsplit('/').next().unwrap_or_default().to_owned();
        if self.known.insert(sid.clone()) && self.is_on {
            self.sid.get_or_insert(sid.clone());
        }
        self.is_on && self.sid.as_ref() == Some(&sid)
    }
}

/// The lines of a level that name the call and no failing webhook.
fn lines(program: &Program, level: &str, sid: &str) -> usize {
    let level = format!(r#""level":"{level}""#);
    let log = program.log();
    let of_call = log.lines().filter(|line| line.contains(&level) && line.contains(sid));
    of_call.filter(|line| !line.contains("webhook failed")).count()
}

/// Calls with events that were settled.
fn settled(scrape: &Scrape) -> f64 {
    let reads = metric("twilio_exporter_call_reads_total").label("stage", "settling");
    reads.label("result", "found").value_in(scrape).unwrap_or_default()
}

fn is_unreadable(scrape: &Scrape, calls: f64) -> bool {
    metric("twilio_exporter_calls_unreadable").is_in(scrape, calls)
}

fn catching_up(scrape: &Scrape) -> Option<f64> {
    metric("twilio_exporter_catching_up").value_in(scrape)
}
