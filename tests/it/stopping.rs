//! Signals stop the program: soon and with everything committed, and at once on a second signal.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Program, Twilio, eventually, everything, metric, ongoing_calls};

/// The default number of stops; `STOPS` sets another.
const FEW: usize = 1;
/// How long the program may take to stop under load: when measured with `STOPS`, and next to other tests.
const WITHIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "prints a measurement")]
async fn under_load_it_ends_soon_and_loses_nothing() {
    let requested = std::env::var("STOPS").ok().map(|text| text.parse().expect("a number"));
    let stops: usize = requested.unwrap_or(FEW);
    let calls = 30 + 10 * u64::try_from(stops).expect("few");
    let twilio = Twilio::serving(ongoing_calls(4, calls)).await;
    let mut program = Program::polling(&twilio).await;
    let mut took = Vec::new();
    for _ in 0..stops {
        eventually("events are counted", async || {
            let counted = metric("twilio_exporter_call_events_total").label("result", "counted");
            counted.value_in(&program.scrape().await).filter(|count| *count >= 5.0)
        })
        .await;
        // Half of the clients request more than they read, the others don't finish their request.
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
    assert!(took[stops - 1] <= WITHIN[usize::from(requested.is_none())], "{took:?}");
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_signals_are_ignored() {
    let twilio = Twilio::serving(ongoing_calls(1, 10)).await;
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
    twilio.wait_until_counted_by(&mut program).await;
    assert!(program.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_signals_count_as_one() {
    let twilio = Twilio::serving(ongoing_calls(1, 40)).await;
    let mut program = Program::polling(&twilio).await;
    for signals in [&["TERM", "INT"][..], &["TERM", "TERM", "TERM"], &["INT", "HUP", "TERM"]] {
        eventually("events are counted", async || {
            let counted = metric("twilio_exporter_call_events_total").label("result", "counted");
            counted.value_in(&program.scrape().await).filter(|count| *count >= 1.0)
        })
        .await;
        let before = program.scrape().await;
        let directory = program.directory();
        // All of them are pending when the program continues.
        for signal in ["STOP"].iter().chain(signals).chain(&["CONT"]) {
            program.signal(signal);
        }
        let ended;
        (ended, program) = program.wait_and_restart().await;
        assert_eq!(ended.code, Some(0), "{signals:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("stopping immediately"), "{signals:?}");
        assert_eq!(ended.stderr.matches("\"stopping\"").count(), 1, "{signals:?}");
        assert!(ended.stderr.contains("\"stopped\""), "{signals:?}");
        // Everything that was shown had been committed.
        program.scrape().await.assert_not_below(&before);
        drop(directory);
    }
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_second_signal_stops_the_program_at_once() {
    for second in ["TERM", "INT"] {
        let twilio = Twilio::serving(everything(1, 1)).await;
        let program = Program::polling(&twilio).await;
        let directory = program.directory();
        let log = || std::fs::read_to_string(directory.path().join("log")).expect("a log");
        // A request whose body is missing delays the stop by a second.
        let mut client = TcpStream::connect(program.address()).await.expect("a connection");
        let request = b"POST /push/error-log HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n";
        client.write_all(request).await.expect("written");
        let mut start = [0; 12];
        client.read_exact(&mut start).await.expect("a response");
        assert_eq!(&start, b"HTTP/1.1 100");
        program.signal("TERM");
        eventually("it stops", async || log().contains("\"stopping\"").then_some(())).await;
        // SIGHUP does nothing, and an early second signal counts as part of the first.
        let mut signals = ["HUP", second].into_iter().cycle();
        let ended = program.wait_while(|program| {
            program.signal(signals.next().expect("a cycle"));
        });
        assert_eq!(ended.await.code(), Some(1), "{second}: {}", log());
        assert!(log().contains("stopping immediately"), "{second}: {}", log());
    }
}
