//! Which entries are read and counted, and how often the log is requested.

use super::*;
use crate::domain::words::error_log::{ErrorCode, Level, Product};

const MINUTE: i64 = 60;

#[test]
fn counts_an_entry_once_even_if_repeated_or_out_of_order() {
    let mut log = started();
    assert_eq!(read(&mut log, 15, &[entry(1, 10), entry(1, 10)]), [1]);
    assert_eq!(read(&mut log, 30, &[entry(2, 20), entry(1, 10)]), [2]);
    // An entry that appears late and is older than all known ones.
    assert_eq!(read(&mut log, 45, &[entry(2, 20), entry(3, 5), entry(1, 10)]), [3]);
    assert!(read(&mut log, 60, &[]).is_empty());
}

#[test]
fn counts_nothing_older_than_the_first_start_even_after_a_restart() {
    let mut log = started();
    assert_eq!(read(&mut log, 15, &[entry(1, -1), entry(2, 0)]), [2]);
    let known = log.seen.iter().map(|(sid, at)| (*sid, *at)).collect();
    let mut log = ErrorLog::new(account(), Some(INTERVAL), false, log.progress(), known);
    assert_eq!(from(&mut log, 100), at(0));
    assert_eq!(read(&mut log, 100, &[entry(3, -5), entry(2, 0), entry(4, 50)]), [4]);
}

#[test]
fn counts_entries_from_the_second_of_the_first_start() {
    let mut log = ErrorLog::new(account(), Some(INTERVAL), false, None, Vec::new());
    let halfway = after(at(0), Duration::from_millis(500));
    assert_eq!(log.start_request(halfway, halfway).0, at(0));
    let page = Page { items: vec![entry(1, 0), entry(2, -1)], rejected: 0, next: NextPage::End };
    let (page, _) = log.on_page(Ok(page), halfway, halfway, 0);
    assert_eq!(numbers(&page), [1]);
}

#[test]
fn a_pass_starts_ten_minutes_before_the_newest_known_entry() {
    let mut log = started();
    read(&mut log, 20 * MINUTE, &[entry(1, 19 * MINUTE)]);
    assert_eq!(from(&mut log, 20 * MINUTE + 15), at(9 * MINUTE));
    // An entry with a time in the future doesn't hide later ones.
    read(&mut log, 20 * MINUTE + 30, &[entry(2, 900 * MINUTE)]);
    assert_eq!(from(&mut log, 20 * MINUTE + 45), at(10 * MINUTE + 30));
}

#[test]
fn ignores_entries_of_other_accounts() {
    let mut log = started();
    let other = AccountSid::parse("AC00000000000000000000000000000002").expect("a SID");
    let foreign = Reported { account: Some(other), ..entry(1, 10) };
    let nameless = Reported { account: None, ..entry(2, 10) };
    request(&mut log, 15);
    let (read, _) = on_page(&mut log, 15, &[foreign, nameless], NextPage::End);
    assert_eq!((read.new.len(), read.ignored), (1, 1));
}

#[test]
fn a_failed_pass_restarts_without_counting_entries_twice() {
    let mut log = started();
    request(&mut log, 15);
    let (first, _) = on_page(&mut log, 15, &[entry(2, 12)], next_page(1));
    assert!(!first.is_complete && log.due_at() <= at(15), "the next page is due at once");
    assert_eq!(request(&mut log, 15).next.as_deref(), Some("/page/1"));
    let known_to = log.progress().expect("a started log").known_to;
    let (_, failure) =
        log.on_page(Err(failure(Verdict::Failed { retry_after: None })), at(16), at(16), 0);
    assert!(failure.is_some());
    assert_eq!(log.progress().expect("a started log").known_to, known_to);
    let again = log.due_at();
    assert!(after(at(16), INTERVAL) <= again && again <= after(at(16), INTERVAL * 2), "{again}");
    assert_eq!(request(&mut log, 40).next, None);
    let (pages, _) = on_page(&mut log, 40, &[entry(2, 12), entry(1, 11)], NextPage::End);
    assert_eq!(numbers(&pages), [1]);
}

#[test]
fn makes_at_most_one_request_an_interval_over_an_hour() {
    for pages in [1, 3, 10] {
        let (mut log, mut requests) = (started(), 0);
        for second in 0..3_600 {
            while log.due_at() <= at(second) {
                let page = request(&mut log, second);
                requests += 1;
                let number = page.next.map_or(0, |next| next[6..].parse().expect("a number"));
                let next = if number + 1 < pages { next_page(number + 1) } else { NextPage::End };
                on_page(&mut log, second, &[entry(second, second)], next);
            }
        }
        assert!((230..=250).contains(&requests), "{requests} requests for {pages} pages");
    }
}

#[test]
fn retries_a_refused_log_every_few_minutes_and_honours_retry_after() {
    let minutes = |log: &ErrorLog| log.due_at().duration_since(at(0)).as_secs() / MINUTE;
    let mut log = started();
    request(&mut log, 0);
    log.on_page(Err(failure(Verdict::Refused)), at(0), at(0), 0);
    assert!((1..=3).contains(&minutes(&log)), "{}", log.due_at());
    let mut log = started();
    request(&mut log, 0);
    let wait = Some(Duration::from_secs(300));
    log.on_page(Err(failure(Verdict::Failed { retry_after: wait })), at(0), at(0), 0);
    assert_eq!(minutes(&log), 5);
}

#[test]
fn a_circular_or_foreign_next_page_ends_the_pass() {
    for next in
        [NextPage::Foreign, NextPage::At { link: "/page/0".to_owned(), position: String::new() }]
    {
        let mut log = started();
        request(&mut log, 15);
        let (read, failure) = on_page(&mut log, 15, &[entry(1, 10)], next.clone());
        assert_eq!((numbers(&read).as_slice(), failure.is_some()), (&[1][..], true), "{next:?}");
    }
    let mut log = started();
    for _ in 0..2 {
        request(&mut log, 15);
        on_page(&mut log, 15, &[], next_page(1));
    }
    assert!(log.pass.is_none(), "the page was repeated");
}

#[test]
fn reads_the_newest_ten_thousand_entries_of_an_endless_log() {
    let mut log = started();
    let mut counted = 0;
    for number in 0.. {
        request(&mut log, 15);
        let entries: Vec<Reported> = (0..1_000).map(|n| entry(number * 1_000 + n, 10)).collect();
        let (read, failure) = on_page(&mut log, 15, &entries, next_page(number + 1));
        counted += read.new.len();
        assert!(failure.is_none());
        if read.is_complete {
            break;
        }
    }
    assert_eq!(counted, MAX_ENTRIES);
}

#[test]
fn memory_is_bounded_during_a_long_storm() {
    let mut log = started();
    for pass in 0..200 {
        let second = pass * 15;
        let entries: Vec<Reported> = (0..500).map(|n| entry(pass * 500 + n, second)).collect();
        read(&mut log, second + 1, &entries);
    }
    assert!(log.seen.len() <= 500 * 62, "{}", log.seen.len());
}

#[test]
fn counts_an_entry_once_if_pushed_and_read() {
    let mut log = started();
    assert_eq!(push(&mut log, 12, &[entry(1, 10), entry(1, 10)]), [1]);
    assert_eq!(read(&mut log, 15, &[entry(2, 11), entry(1, 10)]), [2]);
    assert!(push(&mut log, 20, &[entry(2, 11), entry(1, 10)]).is_empty(), "pushed again");
}

#[test]
fn a_push_does_not_advance_the_progress() {
    let mut log = started();
    let known_to = log.progress();
    request(&mut log, 40 * MINUTE);
    push(&mut log, 40 * MINUTE, &[entry(1, 39 * MINUTE)]);
    on_page(&mut log, 40 * MINUTE, &[], NextPage::End);
    assert_eq!(log.progress(), known_to);
    assert_eq!(from(&mut log, 41 * MINUTE), at(0));
}

#[test]
fn ignores_replayed_and_undated_pushes() {
    let mut log = started();
    let undated = Reported { generated_at: None, ..entry(1, 0) };
    let other = AccountSid::parse("AC00000000000000000000000000000002").expect("a SID");
    let foreign = Reported { account: Some(other), ..entry(2, 10) };
    let page = log.push(vec![undated, foreign, entry(3, -1), entry(4, 0)], at(20));
    let page = page.expect("a started log");
    assert_eq!((numbers(&page).as_slice(), page.ignored), (&[4][..], 3));
    let month = 30 * 24 * 60 * MINUTE;
    assert_eq!(push(&mut log, month + 60, &[entry(5, 59), entry(6, 60)]), [6]);
}

#[test]
fn a_log_that_is_only_pushed_starts_without_a_request() {
    let mut log = ErrorLog::new(account(), None, false, None, Vec::new());
    assert!(!log.start_push(at(0)) && log.push(vec![entry(1, 10)], at(10)).is_none());
    let mut log = ErrorLog::new(account(), None, true, None, Vec::new());
    assert!(log.push(vec![entry(1, 10)], at(10)).is_none(), "pushes aren't accepted yet");
    assert!(log.start_push(at(10)) && !log.start_push(at(11)));
    assert_eq!(log.progress().expect("a started log").since, at(10));
    assert_eq!(push(&mut log, 10, &[entry(1, 10), entry(2, 9)]), [1]);
    assert_eq!(log.due_at(), Timestamp::MAX);
}

#[test]
fn memory_is_bounded_during_long_pushes() {
    let mut log = ErrorLog::new(account(), None, true, None, Vec::new());
    log.start_push(at(0));
    for second in 0..5_000 {
        let entries: Vec<Reported> =
            (0..20).map(|number| entry(second * 20 + number, second)).collect();
        push(&mut log, second, &entries);
    }
    assert!(log.seen.len() <= MAX_SEEN + 20, "{}", log.seen.len());
}

const INTERVAL: Duration = Duration::from_secs(15);

/// A log that was first read at 0 s, when it was empty.
fn started() -> ErrorLog {
    let mut log = ErrorLog::new(account(), Some(INTERVAL), false, None, Vec::new());
    assert!(read(&mut log, 0, &[]).is_empty());
    log.due_at = Timestamp::MIN;
    log
}

/// Reads a pass of one page, and returns the numbers of the entries that it counts.
fn read(log: &mut ErrorLog, second: i64, entries: &[Reported]) -> Vec<i64> {
    request(log, second);
    let (read, failure) = on_page(log, second, entries, NextPage::End);
    assert!(failure.is_none() && read.is_complete);
    numbers(&read)
}

/// Pushes entries, and returns the numbers of those that it counts.
fn push(log: &mut ErrorLog, second: i64, entries: &[Reported]) -> Vec<i64> {
    numbers(&log.push(entries.to_vec(), at(second)).expect("a started log"))
}

fn from(log: &mut ErrorLog, second: i64) -> Timestamp {
    let (from, _) = log.start_request(at(second), at(second));
    log.abandon();
    from
}

fn request(log: &mut ErrorLog, second: i64) -> PageRequest {
    log.start_request(at(second), at(second)).1
}

fn on_page(
    log: &mut ErrorLog,
    second: i64,
    entries: &[Reported],
    next: NextPage,
) -> (LogPage, Option<Failure>) {
    let page = Page { items: entries.to_vec(), rejected: 0, next };
    log.on_page(Ok(page), at(second), at(second), 0)
}

fn numbers(page: &LogPage) -> Vec<i64> {
    let number = |(entry, _): &(Reported, Timestamp)| entry.sid.to_string()[2..].parse();
    page.new.iter().map(|entry| number(entry).expect("a number")).collect()
}

fn next_page(number: i64) -> NextPage {
    NextPage::At { link: format!("/page/{number}"), position: format!("Page={number}") }
}

fn entry(number: i64, second: i64) -> Reported {
    Reported {
        sid: ErrorLogSid::parse(&format!("NO{number:032}")).expect("a SID"),
        account: Some(account()),
        generated_at: Some(at(second)),
        product: Product::Voice,
        code: ErrorCode::Number(11_200),
        level: Level::Error,
        endpoint: None,
        is_configured: false,
        call_sid: None,
    }
}

fn failure(verdict: Verdict) -> Failure {
    Failure {
        reason: FailureReason::ServerError,
        text: "it failed".to_owned(),
        verdict,
        page_size: PageSizeVerdict::Unrelated,
    }
}

fn account() -> AccountSid {
    AccountSid::parse("AC00000000000000000000000000000001").expect("a SID")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}
