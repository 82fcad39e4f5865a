//! A single unreadable call is logged with its SID, and doesn't delay or hide anything else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::harness::{Program, Scrape, Twilio, eventually, metric, ongoing_calls};

#[tokio::test(flavor = "multi_thread")]
async fn a_single_unreadable_call_is_logged_once_and_delays_nothing_else() {
    let stuck = Arc::new(Mutex::new(Stuck::default()));
    let answers = Arc::clone(&stuck);
    let twilio = Twilio::answering(ongoing_calls(1, 100), move |uri, _| {
        let is_stuck = answers.lock().expect("no panic").on_request(uri);
        is_stuck.then(|| (500, "application/json", "{}".to_owned()))
    })
    .await;
    let program = Program::polling(&twilio).await;
    assert_eq!(
        catching_up(&program.scrape().await),
        Some(1.0),
        "a new store starts by catching up"
    );
    eventually("calls are settled", async || {
        (settled(&program.scrape().await) >= 1.0).then_some(())
    })
    .await;
    // The account was up to date seconds ago, so it doesn't catch up.
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
    twilio.wait_until_counted_by(&mut program).await;
    let log = program.log();
    assert_eq!(lines(&program, "WARN", &sid), 1, "{log}");
    assert!(log.lines().any(|line| line.contains("can read a call's events again")), "{log}");
}

/// While on, selects the first call that has not been requested before; all its reads get a 500.
#[derive(Default)]
struct Stuck {
    is_on: bool,
    known: BTreeSet<String>,
    sid: Option<String>,
}

impl Stuck {
    /// Records a request, and returns whether to fail it.
    fn on_request(&mut self, uri: &str) -> bool {
        let Some((path, _)) = uri.split_once("/Events.json") else { return false };
        let sid = path.rsplit('/').next().unwrap_or_default().to_owned();
        if self.known.insert(sid.clone()) && self.is_on {
            self.sid.get_or_insert(sid.clone());
        }
        self.is_on && self.sid.as_ref() == Some(&sid)
    }
}

/// The number of log lines of a level with the call's SID, without failing webhooks.
fn lines(program: &Program, level: &str, sid: &str) -> usize {
    let level = format!(r#""level":"{level}""#);
    let log = program.log();
    let of_call = log.lines().filter(|line| line.contains(&level) && line.contains(sid));
    of_call.filter(|line| !line.contains("webhook failed")).count()
}

/// The number of settled calls with events.
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
