//! Outside judges: programs that know the formats better than we do.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Program, Twilio, everything};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs promtool, from Debian's package prometheus"]
async fn promtool_accepts_the_metrics() {
    let twilio = Twilio::serving(everything(2, 1)).await;
    let mut program = Program::polling(&twilio).await;
    let scrape = twilio.is_told_by(&mut program).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    promtool.stdin.take().expect("a pipe").write_all(scrape.text.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "", "promtool has remarks");
}
