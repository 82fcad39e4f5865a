//! A process of a scenario: what it used, as the kernel tells, and its end.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

/// Ticks of `/proc` in a second: fixed by Linux' interface, whatever the kernel's own clock is.
const TICKS: u64 = 100;

/// A running process, killed when dropped.
pub(crate) struct Process {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

/// What a process has used since it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// The most memory it had resident, in bytes.
    pub peak: u64,
    /// What it has resident now, in bytes.
    pub resident: u64,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { child, output })
    }

    /// The next line that it writes.
    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.as_mut().context("no output")?.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let read = |name| std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id()));
        let (stat, status) = (read("stat")?, read("status")?);
        // The name in parentheses may hold blanks; user and system time are fields 14 and 15.
        let fields = stat.rsplit_once(") ").context("an odd stat")?.1;
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).map(|n| n.parse().unwrap_or(0u64)).sum();
        let of = |key: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no line")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
        };
        Ok(Usage {
            cpu: Duration::from_millis(ticks * 1000 / TICKS),
            peak: of("VmHWM:")?,
            resident: of("VmRSS:")?,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
