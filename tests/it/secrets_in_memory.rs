//! Other processes of the same user can read neither the program's memory nor its environment.

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::harness::eventually;

/// The unprivileged user `nobody`.
const NOBODY: u32 = 65_534;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs to be root, to run the program as another user"]
async fn its_files_in_proc_belong_to_root_under_any_user() {
    let directory = TempDir::new().expect("a directory");
    let binary = directory.path().join("twilio-call-exporter");
    std::fs::copy(env!("CARGO_BIN_EXE_twilio-call-exporter"), &binary).expect("copied");
    for path in [directory.path(), &binary] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("opened");
    }
    let nobody = NOBODY.to_string();
    let users = [format!("--reuid={nobody}"), format!("--regid={nobody}")];
    let log = std::fs::File::create(directory.path().join("log")).expect("a file");
    let mut child = Command::new("setpriv")
        .args(users)
        .args(["--clear-groups", "--"])
        .arg(&binary)
        .args(["--web.listen-address=127.0.0.1:0", "demo"])
        .current_dir(std::env::temp_dir())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("setpriv");
    let logged = || std::fs::read_to_string(directory.path().join("log")).expect("a log");
    let address = eventually("it listens", async || {
        let log = logged();
        let (_, rest) = log.split_once("listening address=")?;
        rest.split_whitespace().next().map(str::to_owned)
    })
    .await;
    let of = |name: &str| {
        std::fs::metadata(format!("/proc/{}/{name}", child.id())).expect("a process").uid()
    };
    let owners = (of("status"), of("environ"), of("mem"));
    twilio_call_exporter::twilio::client::install_crypto();
    let url = format!("http://{address}/metrics");
    let metrics = reqwest::get(url).await.expect("an answer").text().await.expect("a body");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(owners, (0, 0, 0), "readable by user {NOBODY}: {}", logged());
    for name in ["process_open_fds ", "process_resident_memory_bytes ", "process_max_fds "] {
        assert!(metrics.contains(&format!("\n{name}")), "{name} can no longer be read");
    }
}
