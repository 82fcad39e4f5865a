//! A process of a scenario, with its CPU time and memory as reported by the kernel.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

/// Ticks per second in `/proc`. Linux' interface fixes them, regardless of the kernel's own tick rate.
const TICKS: u64 = 100;

/// A running process, which is killed when dropped.
pub(crate) struct Process {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

/// The resources that a process has used since it started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Peak resident memory, in bytes.
    pub peak: u64,
    /// Current resident memory, in bytes.
    pub resident: u64,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { child, output })
    }

    /// Returns the next line of the process's standard output.
    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.as_mut().context("standard output isn't captured")?.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let read = |name| std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id()));
        let (stat, status) = (read("stat")?, read("status")?);
        // The name in parentheses may contain spaces. User and system time are fields 14 and 15.
        let fields = stat.rsplit_once(") ").context("cannot parse /proc/<pid>/stat")?.1;
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).map(|n| n.parse().unwrap_or(0u64)).sum();
        let bytes = |key: &str| -> anyhow::Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .with_context(|| format!("no {key}"))?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
        };
        Ok(Usage {
            cpu: Duration::from_millis(ticks * 1000 / TICKS),
            peak: bytes("VmHWM:")?,
            resident: bytes("VmRSS:")?,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may already have ended.
        let _already_ended = self.child.kill();
        let _status = self.child.wait();
    }
}
