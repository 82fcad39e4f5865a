//! The real binary, started the way a user starts it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{PATIENCE, Scrape, Twilio, eventually};

/// Delays of seconds instead of the default minutes.
const DELAYS: [(&str, &str); 7] = [
    ("TWILIO_EXPORTER_POLL__INTERVAL", "1s"),
    ("TWILIO_EXPORTER_POLL__LIVE_INTERVAL", "1s"),
    ("TWILIO_EXPORTER_POLL__AFTER_END", "[1s]"),
    ("TWILIO_EXPORTER_POLL__SETTLE_DELAY", "4s"),
    ("TWILIO_EXPORTER_POLL__AUDIT_AFTER", "2s"),
    ("TWILIO_EXPORTER_LIMITS__HOLD_BACK", "0s"),
    ("TWILIO_EXPORTER_API__MAX_CONCURRENCY", "8"),
];

/// The variable for a shell script that starts the program with `exec "$@"`.
pub(crate) const STARTED_BY: &str = "TEST_STARTED_BY";

/// A running program. It is killed when dropped.
pub(crate) struct Program {
    child: Child,
    address: String,
    http: reqwest::Client,
    directory: Arc<TempDir>,
    variables: BTreeMap<String, String>,
    arguments: Vec<String>,
}

/// The exit status and output of a program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Starts a program that polls all accounts of a Twilio.
    pub(crate) async fn polling(twilio: &Twilio) -> Self {
        Self::polling_with(twilio, &[]).await
    }

    /// The same, with additional environment variables.
    pub(crate) async fn polling_with(twilio: &Twilio, variables: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self::polling_in(directory, twilio, variables).await
    }

    /// The same in an existing directory; the store goes to its `data` subdirectory.
    pub(crate) async fn polling_in(
        directory: TempDir,
        twilio: &Twilio,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut all: BTreeMap<String, String> =
            DELAYS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for (index, account) in twilio.accounts().iter().enumerate() {
            all.insert(format!("TOKEN_{index}"), account.auth_token.clone());
        }
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let path = directory.path().join("exporter.yml");
        let unnamed: Vec<_> = (0..twilio.accounts().len()).map(|index| (index, "")).collect();
        std::fs::write(&path, accounts(twilio, &unnamed)).expect("written");
        let arguments = vec![format!("--config.file={}", path.display())];
        Self::start(Arc::new(directory), all, arguments).await
    }

    /// Starts with this text as its configuration file, `exporter.yml` in its directory.
    pub(crate) async fn configured(text: &str, variables: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join("exporter.yml");
        std::fs::write(&path, text).expect("written");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables = variables.iter().map(owned).collect();
        let arguments = vec![format!("--config.file={}", path.display())];
        Self::start(Arc::new(directory), variables, arguments).await
    }

    /// Starts with arguments and variables only, and waits until it listens.
    pub(crate) async fn start(
        directory: Arc<TempDir>,
        variables: BTreeMap<String, String>,
        arguments: Vec<String>,
    ) -> Self {
        let mut program = Self::spawn(directory, variables, arguments);
        program.wait_until_listening().await;
        program
    }

    fn spawn(
        directory: Arc<TempDir>,
        variables: BTreeMap<String, String>,
        arguments: Vec<String>,
    ) -> Self {
        let log = directory.path().join("log");
        let child = command(&arguments, &variables)
            .arg(format!("--storage.path={}", directory.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json", "--log.level=debug"])
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log).expect("a log file"))
            .spawn()
            .expect("the program starts");
        twilio_call_exporter::twilio::client::install_crypto();
        Self {
            child,
            address: String::new(),
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            directory,
            variables,
            arguments,
        }
    }

    /// Waits until the program listens.
    pub(crate) async fn wait_until_listening(&mut self) {
        eventually("the program listens", async || {
            self.assert_running();
            self.detect_listen_address().then_some(())
        })
        .await;
    }

    /// Whether the log contains the listen address; stores it.
    pub(crate) fn detect_listen_address(&mut self) -> bool {
        if self.address.is_empty() {
            self.address = listen_address(&self.directory.path().join("log")).unwrap_or_default();
        }
        !self.address.is_empty()
    }

    /// Kills the program with SIGKILL and restarts it on the same store.
    pub(crate) async fn kill_and_restart(self) -> Self {
        let mut program = self.kill_and_spawn();
        program.wait_until_listening().await;
        program
    }

    /// Stops the program and restarts it on the same store with some of the accounts, given by index and
    /// name; an account without a name is labelled with its SID.
    pub(crate) async fn restart_with(mut self, twilio: &Twilio, named: &[(usize, &str)]) -> Self {
        self.terminate().await;
        let directory = Arc::clone(&self.directory);
        std::fs::write(directory.path().join("exporter.yml"), accounts(twilio, named))
            .expect("written");
        Self::start(directory, self.variables.clone(), self.arguments.clone()).await
    }

    /// Stops the program and restarts it on the same store; returns how long it took to stop.
    pub(crate) async fn stop_and_restart(mut self) -> (Duration, Self) {
        let took = self.terminate().await;
        let directory = Arc::clone(&self.directory);
        let program = Self::start(directory, self.variables.clone(), self.arguments.clone()).await;
        (took, program)
    }

    /// Stops the program, changes its storage directory and restarts it.
    pub(crate) async fn stop_and(mut self, change: impl FnOnce(&Path)) -> Self {
        self.terminate().await;
        change(&self.storage());
        let directory = Arc::clone(&self.directory);
        Self::start(directory, self.variables.clone(), self.arguments.clone()).await
    }

    /// Stops the program, asserts that it succeeded, and removes its log, so that the next program doesn't
    /// find this one's address there. Returns how long it took.
    async fn terminate(&mut self) -> Duration {
        let began = Instant::now();
        signal(&self.child, "TERM");
        let ended = eventually("it stops", async || self.child.try_wait().expect("a child")).await;
        let took = began.elapsed();
        assert!(ended.success(), "{ended}: {}", self.log());
        std::fs::remove_file(self.directory.path().join("log")).expect("removed");
        took
    }

    /// Kills the program with SIGKILL and restarts it without waiting until it listens.
    pub(crate) fn kill_and_spawn(mut self) -> Self {
        self.assert_running();
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
        let directory = Arc::clone(&self.directory);
        // Otherwise the next program would find this one's address in the log.
        std::fs::remove_file(directory.path().join("log")).expect("removed");
        Self::spawn(directory, self.variables.clone(), self.arguments.clone())
    }

    /// Sends SIGTERM and waits until the program has ended.
    pub(crate) async fn stop(self) -> ExitStatus {
        signal(&self.child, "TERM");
        self.ends().await
    }

    /// Waits until the program has ended.
    pub(crate) async fn ends(mut self) -> ExitStatus {
        eventually("the program ends", async || self.child.try_wait().expect("a child")).await
    }

    /// Waits until the program has ended, calling `act` repeatedly until then.
    pub(crate) async fn wait_while(mut self, mut act: impl FnMut(&Self)) -> ExitStatus {
        eventually("the program ends", async || {
            let ended = self.child.try_wait().expect("a child");
            if ended.is_none() {
                act(&self);
            }
            ended
        })
        .await
    }

    /// Waits until the program has ended and restarts it on the same store; returns how it ended.
    pub(crate) async fn wait_and_restart(mut self) -> (Ended, Self) {
        let status = eventually("it ends", async || self.child.try_wait().expect("a child")).await;
        let ended = Ended { code: status.code(), stdout: String::new(), stderr: self.log() };
        // Otherwise the next program would find this one's address in the log.
        std::fs::remove_file(self.directory.path().join("log")).expect("removed");
        let directory = Arc::clone(&self.directory);
        let program = Self::start(directory, self.variables.clone(), self.arguments.clone()).await;
        (ended, program)
    }

    /// Scrapes `/metrics`.
    pub(crate) async fn scrape(&self) -> Scrape {
        Scrape::parse(&self.get("/metrics").await.1)
    }

    /// Requests a path and returns the status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.request(path).send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("a body"))
    }

    pub(crate) fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("http://{}{path}", self.address))
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its directory, which is removed with the last reference to it.
    pub(crate) fn directory(&self) -> Arc<TempDir> {
        Arc::clone(&self.directory)
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).expect("a log")
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The number of its open files and sockets, from its metrics: only the program and root can see them.
    pub(crate) async fn open_files(&self) -> usize {
        let open = super::metric("process_open_fds").value_in(&self.scrape().await);
        format!("{}", open.expect("a metric")).parse().expect("a number")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// The peak of its resident memory, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("the program ended ({status}): {}", self.log());
        }
    }
}

/// The `accounts` section of a configuration.
fn accounts(twilio: &Twilio, named: &[(usize, &str)]) -> String {
    let mut file = String::from("accounts:\n");
    for &(index, name) in named {
        let (sid, url) = (&twilio.accounts()[index].account_sid, twilio.url());
        file.push_str(&format!(
            "  - account_sid: {sid}\n    auth_token_env: TOKEN_{index}\n    base_url: {url}\n"
        ));
        if !name.is_empty() {
            file.push_str(&format!("    name: {name}\n"));
        }
    }
    file
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have exited already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Runs the program and waits until it ends; kills it after [`PATIENCE`].
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let owned = |text: &&str| (*text).to_owned();
    let arguments: Vec<String> = arguments.iter().map(owned).collect();
    let variables = variables.iter().map(|(name, value)| (owned(name), owned(value))).collect();
    let child = command(&arguments, &variables)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let process = child.id();
    let (sender, watchdog) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if watchdog.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _gone = Command::new("kill").args(["-9", &process.to_string()]).status();
        }
    });
    let output = child.wait_with_output().expect("the program ends");
    drop(sender);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A command with exactly these variables: the environment of the test process isn't inherited.
fn command(arguments: &[String], variables: &BTreeMap<String, String>) -> Command {
    let program = env!("CARGO_BIN_EXE_twilio-call-exporter");
    let mut command = match variables.get(STARTED_BY) {
        None => Command::new(program),
        Some(script) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh", program]);
            shell
        }
    };
    command.env_clear().envs(variables).args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill").success());
}

/// The listen address from the log, if it has been logged.
fn listen_address(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().find(|line| line.contains("\"listening\""))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(line["address"].as_str()?.to_owned())
}
