//! The signals that end the program, those that make it reload, and those that do nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long after the first signal another one belongs to it: `timeout` and shells signal both the
/// process and its process group.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Signals that would end the program by default and have no meaning here: sent by mistake, by tools
/// that address several programs at once, or by the kernel for a resource limit. A write beyond the
/// limit on file sizes (`SIGXFSZ`) then fails like one to a full disk. Left out are those that report
/// a fault of the program itself.
const WITHOUT_MEANING: [Number; 11] = [
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
/// Real-time signals of Linux, which have no names; the C library keeps the first few to itself.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Makes the program survive the signals that have no meaning for it. The handlers stay installed
/// until the process ends. Needs a runtime.
///
/// # Errors
/// If a handler can't be installed.
pub fn ignore_others() -> std::io::Result<()> {
    for number in WITHOUT_MEANING {
        let _installed = signal(SignalKind::from_raw(number.as_raw()))?;
    }
    for number in REAL_TIME {
        // Which ones are reserved depends on the C library.
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
    /// Takes the signals over.
    ///
    /// # Errors
    /// If the handlers can't be installed.
    pub fn listen() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one, and tells which.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for one that does not belong to the last one, which came just now.
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
    /// Takes the signal over, which would else end the program.
    ///
    /// # Errors
    /// If the handler can't be installed.
    pub fn listen() -> std::io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // No more will come.
            std::future::pending().await
        }
    }
}
