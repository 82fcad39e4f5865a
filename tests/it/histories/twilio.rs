//! The simulated Twilio of a history: its answers, its failures and its rate limits.

use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use twilio_call_exporter::domain::engine::failure::{
    Failure, FailureReason, PageSizeVerdict, Verdict,
};
use twilio_call_exporter::domain::engine::request::{
    Answer, AnswerContent, NextPage, Page, PageRequest, Request, RequestId, Target,
};
use twilio_call_exporter::domain::judge::reported::Reported;
use twilio_call_exporter::domain::judge::route::Routes;
use twilio_call_exporter::domain::track::digest::Digests;
use twilio_call_exporter::domain::track::reading::Item;
use twilio_call_exporter::domain::words::account::ListedAccount;
use twilio_call_exporter::domain::words::sid::{AccountSid, CallSid};

use super::Totals;
use super::world::World;

/// An answer that hasn't arrived yet.
pub(super) struct PendingAnswer {
    pub(super) arrives_at: i64,
    pub(super) id: RequestId,
    requested_at: i64,
    date: Timestamp,
    result: Result<AnswerContent, Failure>,
}

impl PendingAnswer {
    /// Returns the answer as the engine receives it at a local time.
    pub(super) fn answer(self, local: Timestamp) -> Answer {
        Answer {
            answered_at: Some(local),
            date: Some(self.date),
            took: Duration::from_secs((self.arrives_at - self.requested_at).unsigned_abs()),
            result: self.result,
        }
    }
}

/// The rate limits that Twilio's answers have imposed on the running program.
#[derive(Default)]
pub(super) struct RequestRules {
    last_id: Option<RequestId>,
    /// The time before which no request may be made.
    wait_until: i64,
    /// The last request made before the latest 429, if there was one. Until a later request succeeds, only one
    /// request at a time may be made.
    throttled_after: Option<Option<RequestId>>,
}

impl RequestRules {
    /// Records a request. An error names the violated limit.
    pub(super) fn check_request(
        &mut self,
        id: RequestId,
        others: usize,
        now: i64,
    ) -> Result<(), String> {
        self.last_id = Some(id);
        if now < self.wait_until {
            return Err(format!(
                "request at {now}, before the Retry-After ended at {}",
                self.wait_until
            ));
        }
        if self.throttled_after.is_some() && others > 0 {
            return Err(format!("after a 429, {} requests in flight at {now}", others + 1));
        }
        Ok(())
    }

    /// Records an answer that has arrived.
    pub(super) fn record_answer(&mut self, answer: &PendingAnswer, now: i64) {
        match &answer.result {
            Ok(_) if self.throttled_after.is_some_and(|last| Some(answer.id) > last) => {
                self.throttled_after = None;
            }
            Err(Failure { verdict: Verdict::Throttled { retry_after }, .. }) => {
                let wait = retry_after.map_or(0, |wait| i64::try_from(wait.as_secs()).unwrap_or(0));
                self.wait_until = self.wait_until.max(now + wait);
                self.throttled_after = Some(self.last_id);
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Answers a request made while `others` more are in flight.
pub(super) fn answer(
    world: &World,
    request: Request,
    others: usize,
    now: i64,
    (random, totals): (&mut Rng, &mut Totals),
) -> PendingAnswer {
    let Request { id, target } = request;
    let is_reliable = now >= world.reliable_from();
    let fails = !is_reliable && (world.is_outage(now) || random.f64() < world.failure_rate);
    let throttles =
        others >= world.concurrency || (!is_reliable && random.f64() < world.throttle_rate);
    let result = if throttles {
        totals.throttled += 1;
        Err(throttled(random))
    } else if fails {
        totals.failures += 1;
        Err(random_failure(&target, world.is_outage(now), random))
    } else {
        content(world, &target, is_reliable, now, (random, &mut *totals))
    };
    let slowest = match &target {
        Target::CallEvents { page, .. } if page.size == 1 => 3,
        Target::CallEvents { .. } => 15,
        Target::Calls { .. } | Target::Call(_) | Target::Accounts(_) | Target::ErrorLog { .. } => 3,
    };
    let (arrives_at, date) = (now + random.i64(0..slowest), world.date(now, random));
    PendingAnswer { arrives_at, id, requested_at: now, date, result }
}

fn content(
    world: &World,
    target: &Target,
    is_reliable: bool,
    now: i64,
    (random, totals): (&mut Rng, &mut Totals),
) -> Result<AnswerContent, Failure> {
    let is_broken = !is_reliable && random.u8(..20) == 0;
    let size = match target {
        Target::Calls { page, .. }
        | Target::CallEvents { page, .. }
        | Target::Accounts(page)
        | Target::ErrorLog { page, .. } => page.size,
        Target::Call(_) => 0,
    };
    if size > world.fails_above {
        totals.failures += 1;
        return Err(failure(FailureReason::Timeout, Verdict::Failed { retry_after: None }));
    }
    match target {
        Target::Calls { filter, page } => {
            let calls = world.list(*filter, now);
            let size = world.page_size.min(usize::from(page.size));
            let shown = paginate(calls, page, size);
            let broken = is_broken.then(|| break_page(page, &shown, random));
            totals.failures += u64::from(broken.is_some());
            Ok(AnswerContent::Calls(broken.unwrap_or(shown)))
        }
        Target::Call(sid) => {
            let unknown = || failure(FailureReason::NotFound, Verdict::NotFound);
            world.call(*sid, now).map(AnswerContent::Call).ok_or_else(unknown)
        }
        Target::CallEvents { call, .. } if world.refuses(*call, now) => {
            Err(failure(FailureReason::Unauthorized, Verdict::Refused))
        }
        Target::CallEvents { call, digests, page } => {
            let shown = events(world, *call, *digests, page, now, random)?;
            totals.pages += u64::from(shown.next != NextPage::End);
            let broken = is_broken.then(|| break_page(page, &shown, random));
            totals.failures += u64::from(broken.is_some());
            Ok(AnswerContent::CallEvents(broken.unwrap_or(shown)))
        }
        Target::ErrorLog { from, page } => {
            let judge = |entry| Reported::judge(&entry, &Routes::default());
            let entries = world.error_log(*from, now).into_iter().map(judge).collect();
            let size = world.log_page_size.min(usize::from(page.size));
            let mut shown = paginate(entries, page, size);
            random.shuffle(&mut shown.items);
            let broken = is_broken.then(|| break_page(page, &shown, random));
            totals.failures += u64::from(broken.is_some());
            Ok(AnswerContent::ErrorLog(broken.unwrap_or(shown)))
        }
        Target::Accounts(page) => {
            let account = |number| ListedAccount::new(subaccount(number), "active");
            Ok(AnswerContent::Accounts(paginate((1..4).map(account).collect(), page, 2)))
        }
    }
}

/// Returns a page of a call's events, or a failure if the page is too large to read.
fn events(
    world: &World,
    call: CallSid,
    digests: Digests,
    page: &PageRequest,
    now: i64,
    random: &mut Rng,
) -> Result<Page<Item>, Failure> {
    let shown = world.call_events(call, now, random);
    let is_whole = shown.len() <= usize::from(page.size);
    let shown = paginate(shown, page, usize::from(page.size));
    let is_too_large = shown.items.iter().any(|(_, is_large)| *is_large);
    if is_too_large || shown.items.len() > world.too_large_above {
        return Err(Failure {
            page_size: PageSizeVerdict::TooLarge,
            ..failure(FailureReason::TooLarge, Verdict::Unreadable)
        });
    }
    let judge = |(event, _)| Item::judge(&event, call, digests, &Routes::default());
    let mut items: Vec<Item> = shown.items.into_iter().map(judge).collect();
    if is_whole {
        random.shuffle(&mut items);
    }
    Ok(Page { items, rejected: 0, next: shown.next })
}

/// Returns the requested page of a list that is split into pages of `size` items.
fn paginate<T>(mut items: Vec<T>, page: &PageRequest, size: usize) -> Page<T> {
    let number = page.next.as_deref().map_or(0, page_number);
    let rest = items.split_off(items.len().min(number * size));
    let next = if rest.len() > size { page_link(number + 1) } else { NextPage::End };
    Page { items: rest.into_iter().take(size).collect(), rejected: 0, next }
}

fn page_link(number: usize) -> NextPage {
    let position = if number == 0 { String::new() } else { format!("Page={number}") };
    NextPage::At { link: format!("?PageSize=0&Page={number}"), position }
}

fn page_number(link: &str) -> usize {
    link.rsplit_once("Page=").and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Returns a page that doesn't lead to the end of the list: it is empty, or it links to itself or to another host.
fn break_page<T: Clone>(page: &PageRequest, shown: &Page<T>, random: &mut Rng) -> Page<T> {
    let own = page_link(page.next.as_deref().map_or(0, page_number));
    let (items, next) = match random.u8(..4) {
        0 => (Vec::new(), page_link(0)),
        1 => (shown.items.clone(), own),
        2 => (shown.items.clone(), NextPage::Foreign),
        _ => (Vec::new(), page_link(1)),
    };
    Page { items, rejected: 0, next }
}

fn throttled(random: &mut Rng) -> Failure {
    let wait = random.bool().then(|| Duration::from_secs(random.u64(1..200)));
    failure(FailureReason::Throttled, Verdict::Throttled { retry_after: wait })
}

fn random_failure(target: &Target, is_outage: bool, random: &mut Rng) -> Failure {
    let wait = (random.u8(..4) == 0).then(|| Duration::from_secs(random.u64(1..60)));
    let failed = failure(FailureReason::ServerError, Verdict::Failed { retry_after: wait });
    match random.u8(..4) {
        // Outside an outage, a call that is fetched exists.
        0 if is_outage || !matches!(target, Target::Call(_)) => {
            failure(FailureReason::NotFound, Verdict::NotFound)
        }
        1 => failure(FailureReason::Unauthorized, Verdict::Refused),
        2 => Failure { page_size: PageSizeVerdict::PossiblySize, ..failed },
        _ => failed,
    }
}

fn failure(reason: FailureReason, verdict: Verdict) -> Failure {
    let is_for_size = reason == FailureReason::Timeout;
    let page_size =
        if is_for_size { PageSizeVerdict::PossiblySize } else { PageSizeVerdict::Unrelated };
    Failure { reason, text: reason.as_str().to_owned(), verdict, page_size }
}

fn subaccount(number: u32) -> AccountSid {
    AccountSid::parse(&format!("AC{number:032x}")).expect("a valid SID")
}
