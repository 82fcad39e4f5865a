//! Readers that close their end of a pipe, such as `head -1`.

use std::io::pipe;
use std::process::{Command, Stdio};

use tempfile::TempDir;

const SID: &str = "AC00000000000000000000000000000001";

#[test]
fn commands_end_quietly_when_their_output_is_not_read() {
    let storage = TempDir::new().expect("a directory");
    for (arguments, code) in [
        (&["check-config"][..], 0),
        (&["check-config", "--config.file=/nowhere.yml"], 78),
        (&["demo", "--web.listen-address=127.0.0.1:0"], 0),
        (&["simulate", "--listen=127.0.0.1:0"], 0),
        (&["--help"], 0),
    ] {
        // With standard error read, and closed as well.
        for closes_both in [false, true] {
            let closed = || {
                let (reader, writer) = pipe().expect("a pipe");
                drop(reader);
                Stdio::from(writer)
            };
            let output = Command::new(env!("CARGO_BIN_EXE_twilio-call-exporter"))
                .args(arguments)
                .env_clear()
                .env("TWILIO_ACCOUNT_SID", SID)
                .env("TWILIO_AUTH_TOKEN", "a-token")
                .env("TMPDIR", storage.path())
                .stdout(closed())
                .stderr(if closes_both { closed() } else { Stdio::piped() })
                .output()
                .expect("the program starts");
            let stderr = String::from_utf8(output.stderr).expect("UTF-8");
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
            assert!(!stderr.contains("panic"), "{arguments:?}: {stderr}");
        }
    }
}
