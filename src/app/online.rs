//! `check-config --online`: checks whether each account can be read, and estimates how many requests it needs.
//!
//! Makes a few sequential requests per account. Changes nothing, and doesn't open the store.

use std::fmt::Write;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::engine::failure::PageSizeVerdict;
use crate::domain::engine::page_size::PAGE_SIZES;
use crate::domain::engine::request::{NextPage, PageRequest, Resource};
use crate::domain::track::listing::Filter;
use crate::domain::track::twilio_time::before;
use crate::domain::words::call::Call;
use crate::metrics::exposition::as_float;
use crate::poller::Account;
use crate::twilio::{Answer, Error};

use super::polling;

/// The period whose calls are counted.
const RECENT: Duration = Duration::from_secs(3_600);
/// The maximum number of pages per list: 10,000 calls are enough for an estimate.
const MAX_PAGES: usize = 10;
/// The number of list requests that an account needs per hour if its calls fit on one page.
const LISTS: u64 = 150;
/// The number of reads that a finished call needs, in hundredths: if its events appear after 15 minutes, and if they
/// appear live.
const READS: [u64; 2] = [110, 500];

/// The results of the checks.
#[derive(Debug)]
pub struct Report {
    /// The results as text.
    pub text: String,
    /// Whether all required resources can be read.
    pub is_ok: bool,
    /// The duration of a request for Call Events of the current account.
    read_time: Option<Duration>,
}

/// Checks all accounts.
///
/// # Errors
/// Fails if a client can't be created, for example because a certificate can't be used.
pub async fn check(config: &Config) -> anyhow::Result<Report> {
    let mut report = Report { text: String::new(), is_ok: true, read_time: None };
    for (account, configured) in polling::accounts(config)?.iter().zip(&config.accounts) {
        report.say(&format!("account `{}` ({})\n", account.label, account.key.sid));
        let calls = report.calls(account).await;
        report.events(account, calls.as_deref()).await;
        if config.lists.error_log_interval.is_some() {
            report.error_log(account).await;
        }
        if configured.discovers {
            report.subaccounts(account).await;
        }
        if let Some(calls) = calls {
            let every = config.lists.error_log_interval;
            report.plan(calls.len(), every, config.api.max_concurrency);
        }
    }
    Ok(report)
}

impl Report {
    /// Returns the calls of the last hour, or `None` if they can't be read.
    async fn calls(&mut self, account: &Account) -> Option<Vec<Call>> {
        let from = before(Clock::start().now(), RECENT);
        let mut calls: Vec<Call> = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let sid = account.key.sid;
            let list = async |size| {
                let filter = Filter::StartedFrom(from);
                let page = PageRequest { size, next: next.clone() };
                account.client.list_calls(sid, filter, &page).await
            };
            match self.in_pages("calls", list).await.result {
                Ok(page) => {
                    // Twilio may truncate the filter to the day.
                    let started = |call: &Call| call.start_time.is_some_and(|at| at >= from);
                    calls.extend(page.items.into_iter().filter(started));
                    let before = next.take();
                    match page.next {
                        NextPage::At { link, .. } if before.as_ref() != Some(&link) => {
                            next = Some(link);
                        }
                        NextPage::At { .. } | NextPage::End | NextPage::Foreign => break,
                    }
                }
                Err(error) => {
                    self.report_unreadable("calls", Resource::Calls, &error);
                    return None;
                }
            }
        }
        let more = if next.is_some() { "more than " } else { "" };
        self.line("calls", &format!("readable: {more}{} in the last hour", calls.len()));
        Some(calls)
    }

    /// Checks with one call whether individual calls and their events can be read.
    async fn events(&mut self, account: &Account, recent: Option<&[Call]>) {
        let sid = account.key.sid;
        let mut call = recent
            .unwrap_or_default()
            .iter()
            .find(|call| call.end_time.is_some())
            .map(|call| call.sid);
        if call.is_none() {
            let list = async |size| {
                let page = PageRequest { size, next: None };
                account.client.list_calls(sid, Filter::Everything, &page).await
            };
            match self.in_pages("calls", list).await.result {
                Ok(page) => call = page.items.first().map(|call| call.sid),
                // The reason was already reported with the lists.
                Err(_) if recent.is_none() => {
                    return self.line("Call Events", "not tested: calls can't be listed");
                }
                Err(error) => return self.report_unreadable("calls", Resource::Calls, &error),
            }
        }
        let Some(call) = call else {
            self.line("Call Events", "not tested: there are no calls yet");
            return;
        };
        match account.client.fetch_call(sid, call).await.result {
            Ok(_) => self.line("one call", "readable"),
            Err(error) => self.report_unreadable("one call", Resource::Call, &error),
        }
        let read = async |size| {
            let page = PageRequest { size, next: None };
            account.client.call_events(sid, call, &page, |_| ()).await
        };
        let read = self.in_pages("Call Events", read).await;
        self.read_time = read.attempt.map(|attempt| attempt.took);
        match read.result {
            Ok(_) => self.line("Call Events", "readable"),
            Err(error) => self.report_unreadable("Call Events", Resource::CallEvents, &error),
        }
    }

    /// Checks whether the error log can be read. It is optional.
    async fn error_log(&mut self, account: &Account) {
        let from = before(Clock::start().now(), RECENT);
        let page = PageRequest { size: PAGE_SIZES[0], next: None };
        match account.client.error_log(from, &page, |_| ()).await.result {
            Ok(page) => {
                let more = if page.next != NextPage::End { " or more" } else { "" };
                let found = page.items.len();
                self.line(
                    "error log",
                    &format!("readable: {found}{more} entries in the last hour"),
                );
            }
            Err(error) => {
                let why = error.explained(Resource::ErrorLog);
                self.line(
                    "error log",
                    &format!("NOT readable, so pages come up to 16 minutes late: {why}"),
                );
            }
        }
    }

    async fn subaccounts(&mut self, account: &Account) {
        let list =
            async |size| account.client.list_accounts(&PageRequest { size, next: None }).await;
        match self.in_pages("subaccounts", list).await.result {
            Ok(page) => {
                let own = account.key.sid;
                let found = page.items.iter().filter(|found| found.sid != own).count();
                let more = if page.next != NextPage::End { " or more" } else { "" };
                self.line("subaccounts", &format!("readable: {found}{more}"));
            }
            Err(error) => self.report_unreadable("subaccounts", Resource::Accounts, &error),
        }
    }

    /// Requests a page as the poll loops do: if the largest size can't be read, tries smaller ones.
    async fn in_pages<T>(&mut self, what: &str, ask: impl AsyncFn(u16) -> Answer<T>) -> Answer<T> {
        let first = ask(PAGE_SIZES[0]).await;
        let Err(error) = &first.result else { return first };
        if error.page_size_verdict() == PageSizeVerdict::Unrelated {
            return first;
        }
        for size in &PAGE_SIZES[1..] {
            let smaller = ask(*size).await;
            if smaller.result.is_ok() {
                let text = format!("in pages of {size} at most: in larger ones, {error}");
                self.line(what, &text);
                return smaller;
            }
        }
        first
    }

    /// Estimates the requests needed for an hour like the last one.
    fn plan(&mut self, calls: usize, error_log: Option<Duration>, max_concurrency: usize) {
        let calls = u64::try_from(calls).unwrap_or(u64::MAX);
        let [least, most] = READS.map(|reads| calls.saturating_mul(reads).div_ceil(100));
        let log_reads = error_log.map(|every| RECENT.as_secs() / every.as_secs().max(1));
        let log_reads =
            log_reads.map_or_else(String::new, |reads| format!(", {reads} error log reads"));
        let text = format!(
            "about {LISTS} lists{log_reads} and {least} to {most} Call Event reads an hour, at most {max_concurrency} at a time"
        );
        self.line("requests", &text);
        let Some(read_time) = self.read_time.take() else { return };
        let needed = [least, most].map(|reads| as_float(reads) / 3_600.0 * read_time.as_secs_f64());
        let [least, most] = needed.map(|requests| format!("{requests:.1}"));
        let is_enough = needed[1] <= as_float(u64::try_from(max_concurrency).unwrap_or(u64::MAX));
        let advice = if is_enough { "" } else { ": raise api.max_concurrency" };
        let text = format!(
            "{least} to {most} concurrent requests needed, at {} ms a request{advice}",
            read_time.as_millis()
        );
        self.line("concurrency", &text);
    }

    fn report_unreadable(&mut self, what: &str, resource: Resource, error: &Error) {
        self.is_ok = false;
        self.line(what, &format!("NOT readable: {}", error.explained(resource)));
    }

    fn line(&mut self, what: &str, text: &str) {
        self.say(&format!("  {what:<14}{text}\n"));
    }

    fn say(&mut self, text: &str) {
        // Writing to a string can't fail.
        let _written = self.text.write_str(text);
    }
}
