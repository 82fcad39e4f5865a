//! Requests to Twilio that are repeated for as long as a repetition may help.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use crate::clock::Clock;
use crate::domain::engine::events_run::{AfterEvents, EventsRun};
use crate::domain::engine::failure::{Failure, PageSizeVerdict, Verdict};
use crate::domain::engine::page_size::{PAGE_SIZES, smaller};
use crate::domain::engine::plan::{Read, Stage};
use crate::domain::engine::request::{AnswerContent, PageRequest, Request, Target};
use crate::domain::judge::route::Routes;
use crate::domain::track::digest::{DigestKey, DigestVersion, Digests};
use crate::domain::track::reading::Reading;
use crate::domain::words::sid::CallSid;
use crate::poller::Account;
use crate::poller::sender::RequestSender;

use super::gate::Gate;
use super::progress::Progress;

/// After this many failures of a call's events in a row, another request shows whether only this call fails.
const CALL_FAILURES: u32 = 5;

/// After this many requests without any answer, Twilio can't be reached at all, perhaps because of a mistake.
const MAX_UNANSWERED: u32 = 4;

/// The key of the digests that find repeated Call Events on the pages of one read. They are never stored.
const DIGEST_KEY: DigestKey = DigestKey::new([0; 16]);

/// Sends requests.
#[derive(Debug)]
pub(super) struct Requests {
    gate: Gate,
    pub(super) clock: Clock,
    routes: Arc<Routes>,
    pub(super) progress: Progress,
    /// Whether any request was answered, even with an error.
    was_answered: AtomicBool,
    /// How many requests for Call Events were answered, and how long they took in microseconds.
    answered: AtomicU64,
    took_us: AtomicU64,
}

/// The result of reading a call's events.
#[derive(Debug)]
pub(super) enum CallRead {
    /// All of its events.
    Whole(Reading),
    /// Twilio returns the call, but not all of its events.
    Unreadable {
        /// Those that it returns, if any.
        reading: Option<Reading>,
        /// The last error.
        error: String,
    },
}

impl Requests {
    pub(super) fn new(gate: Gate, clock: Clock, routes: Routes, progress: Progress) -> Self {
        let (answered, took_us) = (AtomicU64::new(0), AtomicU64::new(0));
        let (routes, was_answered) = (Arc::new(routes), AtomicBool::new(false));
        Self { gate, clock, routes, progress, was_answered, answered, took_us }
    }

    /// Returns how long requests for Call Events take on average, if there were any.
    pub(super) fn mean_duration(&self) -> Option<Duration> {
        let [answered, took] =
            [&self.answered, &self.took_us].map(|count| count.load(Ordering::Relaxed));
        took.checked_div(answered).map(Duration::from_micros)
    }

    /// Sends a request. If Twilio throttles it, repeats it after the time that Twilio asks for.
    pub(super) async fn send(
        &self,
        account: &Account,
        target: Target,
    ) -> Result<AnswerContent, Failure> {
        loop {
            let admitted = self.gate.admit().await;
            let sender = RequestSender {
                client: account.client.clone(),
                account: account.key.sid,
                routes: Arc::clone(&self.routes),
                clock: self.clock,
            };
            let request = Request { id: admitted.id, target: target.clone() };
            let answer = sender.send(request).await.answer;
            if matches!(target, Target::CallEvents { .. }) {
                let took_us = u64::try_from(answer.took.as_micros()).unwrap_or(0);
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.took_us.fetch_add(took_us, Ordering::Relaxed);
            }
            self.was_answered.fetch_or(answer.answered_at.is_some(), Ordering::Relaxed);
            admitted.ended(&answer.result);
            match answer.result {
                Err(failure) if matches!(failure.verdict, Verdict::Throttled { .. }) => {
                    self.progress.trouble(&account.label, &failure.text);
                }
                result => {
                    if result.is_ok() {
                        self.progress.recovered();
                    }
                    return result;
                }
            }
        }
    }

    /// Reads a list page by page, and repeats requests while Twilio fails, with smaller pages if they may succeed.
    /// `on_page` gets each page, and whether it is the first: the list may start again. It returns the link to the
    /// next page.
    ///
    /// # Errors
    /// Fails if a request is refused or can't succeed, or with the errors of `on_page`.
    pub(super) async fn pages(
        &self,
        account: &Account,
        target: impl Fn(PageRequest) -> Target,
        mut on_page: impl FnMut(AnswerContent, bool) -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<()> {
        let (mut page, mut failures) = (PageRequest { size: PAGE_SIZES[0], next: None }, 0);
        loop {
            let failure = match self.send(account, target(page.clone())).await {
                Ok(content) => {
                    failures = 0;
                    page.next = on_page(content, page.next.is_none())?;
                    if page.next.is_none() {
                        return Ok(());
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            failures += 1;
            if failures >= MAX_UNANSWERED && !self.was_answered.load(Ordering::Relaxed) {
                bail!("account `{}`: {}", account.label, failure.text);
            }
            match smaller(page.size).filter(|_| may_be_too_large(&failure, failures)) {
                // The link to the next page contains the size.
                Some(size) => page = PageRequest { size, next: None },
                None => self.repeat(account, &failure)?,
            }
        }
    }

    /// Notes that a request will be repeated.
    ///
    /// # Errors
    /// Fails if a repetition can't succeed.
    fn repeat(&self, account: &Account, failure: &Failure) -> anyhow::Result<()> {
        match failure.verdict {
            Verdict::Throttled { .. } | Verdict::Failed { .. } => {
                self.progress.trouble(&account.label, &failure.text);
                Ok(())
            }
            Verdict::Refused | Verdict::NotFound | Verdict::Unreadable => {
                Err(anyhow!("account `{}`: {}", account.label, failure.text))
            }
        }
    }

    /// Reads all events of a call.
    ///
    /// # Errors
    /// Fails if Twilio refuses to return even the call.
    pub(super) async fn read(&self, account: &Account, call: CallSid) -> anyhow::Result<CallRead> {
        let digests = Digests::new(DIGEST_KEY, DigestVersion::CURRENT);
        let (mut size, mut failures, mut error) = (PAGE_SIZES[0], 0, String::new());
        loop {
            let read = Read { sid: call, stage: Stage::Settling, skips: 0 };
            let began_at = self.clock.now();
            let mut run = EventsRun::new(read, digests, account.key.sid, size, began_at);
            let (failure, reading) = loop {
                let target = Target::CallEvents { call, digests, page: run.page() };
                let result = match self.send(account, target).await {
                    Ok(content) => {
                        Ok(content.call_events().context("a response of another request")?)
                    }
                    Err(failure) => Err(failure),
                };
                let now = self.clock.now();
                match run.on_page(result, now, now) {
                    AfterEvents::Continue => {}
                    AfterEvents::Read(reading) if reading.is_complete => {
                        return Ok(CallRead::Whole(reading));
                    }
                    AfterEvents::Read(reading) => break (None, Some(reading)),
                    AfterEvents::Failed(failure) => break (Some(failure), None),
                }
            };
            failures += 1;
            match failure {
                Some(failure) if failure.verdict == Verdict::NotFound => {
                    return Ok(CallRead::Unreadable { reading, error: failure.text });
                }
                Some(failure) if failure.verdict == Verdict::Refused => {
                    self.returns_call(account, call).await?;
                    return Ok(CallRead::Unreadable { reading, error: failure.text });
                }
                Some(failure) => {
                    self.progress.trouble(&account.label, &failure.text);
                    size = smaller(size)
                        .filter(|_| may_be_too_large(&failure, failures))
                        .unwrap_or(size);
                    error = failure.text;
                }
                None => "the list of Call Events stops before its end".clone_into(&mut error),
            }
            // If Twilio fails altogether, this waits until it doesn't, and the call is read again.
            if failures >= CALL_FAILURES {
                if self.returns_call(account, call).await? {
                    return Ok(CallRead::Unreadable { reading, error });
                }
                failures = 0;
            }
        }
    }

    /// Fetches a call without its events, and waits while Twilio fails. Returns whether Twilio answered at once.
    ///
    /// # Errors
    /// Fails if Twilio refuses to return the call.
    async fn returns_call(&self, account: &Account, call: CallSid) -> anyhow::Result<bool> {
        let mut is_first = true;
        while let Err(failure) = self.send(account, Target::Call(call)).await {
            match failure.verdict {
                Verdict::NotFound | Verdict::Unreadable => break,
                Verdict::Throttled { .. } | Verdict::Failed { .. } | Verdict::Refused => {
                    self.repeat(account, &failure)?;
                }
            }
            is_first = false;
        }
        Ok(is_first)
    }
}

/// Whether a smaller page may succeed after this many failures in a row.
fn may_be_too_large(failure: &Failure, failures: u32) -> bool {
    match failure.page_size {
        PageSizeVerdict::TooLarge => true,
        PageSizeVerdict::PossiblySize => failures.is_multiple_of(2),
        PageSizeVerdict::Unrelated => false,
    }
}
