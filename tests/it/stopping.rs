//! Signals end the program: soon, with everything committed, and at once if they come twice.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Program, Twilio, eventually, everything, going_on, metric};

/// Stops in every run; `STOPS` asks for more.
const FEW: usize = 1;
/// How long the program may take, however busy it is: as a figure, and beside other tests.
const WITHIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "how long it took is a figure")]
async fn under_load_it_ends_soon_and_loses_nothing() {
    let asked = std::env::var("STOPS").ok().map(|text| text.parse().expect("a number"));
    let stops: usize = asked.unwrap_or(FEW);
    let calls = 30 + 10 * u64::try_from(stops).expect("few");
    let twilio = Twilio::serving(going_on(4, calls)).await;
    let mut program = Program::polling(&twilio).await;
    let mut took = Vec::new();
    for _ in 0..stops {
        eventually("events are counted", async || {
            let counted = metric("twilio_exporter_call_events_total").label("result", "counted");
            counted.value_in(&program.scrape().await).filter(|count| *count >= 5.0)
        })
        .await;
        // Some ask without end, and some don't take what they asked for.
        let mut clients = Vec::new();
        for number in 0..60 {
            let mut client = TcpStream::connect(program.address()).await.expect("a connection");
            let asks: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
            let text = if number % 2 == 0 { asks.repeat(50) } else { asks[..20].to_vec() };
            client.write_all(&text).await.expect("sent");
            clients.push(client);
        }
        let ended;
        (ended, program) = program.stop_and_restart().await;
        took.push(ended);
        drop(clients);
    }
    took.sort();
    println!("{stops} stops: median {:?}, longest {:?}", took[stops / 2], took[stops - 1]);
    assert!(took[stops - 1] <= WITHIN[usize::from(asked.is_none())], "{took:?}");
    twilio.is_told_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_without_a_meaning_do_nothing() {
    let twilio = Twilio::serving(going_on(1, 10)).await;
    let mut program = Program::polling(&twilio).await;
    let named =
        ["USR1", "USR2", "QUIT", "ALRM", "VTALRM", "PROF", "POLL", "PWR", "STKFLT", "XCPU", "XFSZ"];
    // The last two are real-time signals.
    for signal in named.into_iter().chain(["PIPE", "WINCH", "35", "64"]) {
        for _ in 0..3 {
            program.signal(signal);
        }
        assert_eq!(program.get("/-/healthy").await.0, 200, "SIG{signal}");
        program.assert_running();
    }
    twilio.is_told_by(&mut program).await;
    assert!(program.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_come_together_are_one() {
    let twilio = Twilio::serving(going_on(1, 40)).await;
    let mut program = Program::polling(&twilio).await;
    for together in [&["TERM", "INT"][..], &["TERM", "TERM", "TERM"], &["INT", "HUP", "TERM"]] {
        eventually("events are counted", async || {
            let counted = metric("twilio_exporter_call_events_total").label("result", "counted");
            counted.value_in(&program.scrape().await).filter(|count| *count >= 1.0)
        })
        .await;
        let before = program.scrape().await;
        let directory = program.directory();
        // All of them are pending when it goes on.
        for signal in ["STOP"].iter().chain(together).chain(&["CONT"]) {
            program.signal(signal);
        }
        let ended;
        (ended, program) = program.ends_and_restarts().await;
        assert_eq!(ended.code, Some(0), "{together:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("stopping immediately"), "{together:?}");
        assert_eq!(ended.stderr.matches("\"stopping\"").count(), 1, "{together:?}");
        assert!(ended.stderr.contains("\"stopped\""), "{together:?}");
        // What was shown was committed.
        program.scrape().await.assert_not_below(&before);
        drop(directory);
    }
    twilio.is_told_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_second_signal_ends_it_at_once() {
    for second in ["TERM", "INT"] {
        let twilio = Twilio::serving(everything(1, 1)).await;
        let program = Program::polling(&twilio).await;
        let directory = program.directory();
        let log = || std::fs::read_to_string(directory.path().join("log")).expect("a log");
        // A client that takes nothing of what it asks for holds up the stop for a second.
        let client = TcpStream::connect(program.address()).await.expect("a connection");
        let mut refused = 0;
        eventually("the program reads nothing more from the client", async || {
            let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
            let sent = client.try_write(&request).is_ok();
            refused = if sent { 0 } else { refused + 1 };
            (refused > 10).then_some(())
        })
        .await;
        program.signal("TERM");
        eventually("it stops", async || log().contains("\"stopping\"").then_some(())).await;
        // ReloadSignals do nothing, and those of the second kind that come early belong to the first.
        let mut signals = ["HUP", second].into_iter().cycle();
        let ended = program.ends_while(|program| {
            program.signal(signals.next().expect("a cycle"));
        });
        assert_eq!(ended.await.code(), Some(1), "{second}: {}", log());
        assert!(log().contains("stopping immediately"), "{second}: {}", log());
    }
}
