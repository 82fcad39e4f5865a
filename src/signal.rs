//! Handles the signals that stop the program, make it reload, or are ignored.

use std::time::{Duration, Instant};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How soon after a signal another one counts as the same: `timeout` and shells signal both the process and
/// its process group.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Signals that would end the program by default but have no meaning for it: sent by mistake, by tools that
/// address several programs, or by the kernel for a resource limit. A write beyond the file size limit
/// (`SIGXFSZ`) then fails as on a full disk. Signals that report a fault in the program aren't included.
const IGNORED: [Number; 11] = [
    Number::USR1,
    Number::USR2,
    Number::QUIT,
    Number::ALARM,
    Number::VTALARM,
    Number::PROF,
    Number::IO,
    Number::POWER,
    Number::STKFLT,
    Number::XCPU,
    Number::XFSZ,
];
/// The real-time signals of Linux, which have no names; the C library reserves the first few.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Ignores the signals that have no meaning for the program, until the process ends. Must be called within a
/// runtime.
///
/// # Errors
/// Fails if a handler can't be installed.
pub fn ignore_others() -> std::io::Result<()> {
    for number in IGNORED {
        let _installed = signal(SignalKind::from_raw(number.as_raw()))?;
    }
    for number in REAL_TIME {
        // The reserved signals depend on the C library.
        let _reserved = signal(SignalKind::from_raw(number));
    }
    Ok(())
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// Fails if the handlers can't be installed.
    pub fn listen() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal and returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for a signal that doesn't belong to the previous one, which has just arrived.
    pub async fn next_distinct(&mut self) -> &'static str {
        let last = Instant::now();
        loop {
            let signal = self.next().await;
            if last.elapsed() > SAME_SIGNAL {
                return signal;
            }
        }
    }
}

/// SIGHUP.
#[derive(Debug)]
pub struct ReloadSignals(Signal);

impl ReloadSignals {
    /// Installs the handler; without it, SIGHUP ends the program.
    ///
    /// # Errors
    /// Fails if the handler can't be installed.
    pub fn listen() -> std::io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // No more signals can arrive.
            std::future::pending().await
        }
    }
}
