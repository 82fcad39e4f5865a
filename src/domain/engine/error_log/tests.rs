//! What is read of the log, what is counted of it, and how often it is asked for.

use super::*;
use crate::domain::words::error_log::{ErrorCode, Level, Product};

const MINUTE: i64 = 60;

#[test]
fn an_entry_is_counted_once_however_often_and_out_of_order_the_log_shows_it() {
    let mut log = begun();
    assert_eq!(read(&mut log, 15, &[entry(1, 10), entry(1, 10)]), [1]);
    assert_eq!(read(&mut log, 30, &[entry(2, 20), entry(1, 10)]), [2]);
    // One that appears late, and older than all that are known.
    assert_eq!(read(&mut log, 45, &[entry(2, 20), entry(3, 5), entry(1, 10)]), [3]);
    assert!(read(&mut log, 60, &[]).is_empty());
}

#[test]
fn a_first_start_counts_nothing_older_than_itself_and_neither_does_a_restart() {
    let mut log = begun();
    assert_eq!(read(&mut log, 15, &[entry(1, -1), entry(2, 0)]), [2]);
    let known = log.known.iter().map(|(sid, at)| (*sid, *at)).collect();
    let mut log = ErrorLog::new(account(), Some(EVERY), false, log.progress(), known);
    assert_eq!(from(&mut log, 100), at(0));
    assert_eq!(read(&mut log, 100, &[entry(3, -5), entry(2, 0), entry(4, 50)]), [4]);
}

#[test]
fn what_happened_in_the_second_of_the_first_start_is_asked_for_and_counted() {
    let mut log = ErrorLog::new(account(), Some(EVERY), false, None, Vec::new());
    let halfway = after(at(0), Duration::from_millis(500));
    assert_eq!(log.ask(halfway, halfway).0, at(0));
    let page = Page { items: vec![entry(1, 0), entry(2, -1)], rejected: 0, next: NextPage::End };
    let (page, _) = log.turn(Ok(page), halfway, halfway, 0);
    assert_eq!(numbers(&page), [1]);
}

#[test]
fn a_pass_begins_ten_minutes_before_the_newest_entry_that_is_known() {
    let mut log = begun();
    read(&mut log, 20 * MINUTE, &[entry(1, 19 * MINUTE)]);
    assert_eq!(from(&mut log, 20 * MINUTE + 15), at(9 * MINUTE));
    // An entry from the future, or a clock that was corrected, hides nothing.
    read(&mut log, 20 * MINUTE + 30, &[entry(2, 900 * MINUTE)]);
    assert_eq!(from(&mut log, 20 * MINUTE + 45), at(10 * MINUTE + 30));
}

#[test]
fn entries_of_other_accounts_are_not_ours_to_count() {
    let mut log = begun();
    let other = AccountSid::parse("AC00000000000000000000000000000002").expect("a SID");
    let foreign = Reported { account: Some(other), ..entry(1, 10) };
    let nameless = Reported { account: None, ..entry(2, 10) };
    ask(&mut log, 15);
    let (read, _) = turn(&mut log, 15, &[foreign, nameless], NextPage::End);
    assert_eq!((read.new.len(), read.ignored), (1, 1));
}

#[test]
fn a_pass_that_fails_begins_again_where_it_began_and_counts_nothing_twice() {
    let mut log = begun();
    ask(&mut log, 15);
    let (first, _) = turn(&mut log, 15, &[entry(2, 12)], next_page(1));
    assert!(!first.is_complete && log.due_at() <= at(15), "the next page waits for nothing");
    assert_eq!(ask(&mut log, 15).next.as_deref(), Some("/page/1"));
    let known_to = log.progress().expect("begun").known_to;
    let (_, failure) =
        log.turn(Err(failure(Verdict::Failed { retry_after: None })), at(16), at(16), 0);
    assert!(failure.is_some());
    assert_eq!(log.progress().expect("begun").known_to, known_to);
    let again = log.due_at();
    assert!(after(at(16), EVERY) <= again && again <= after(at(16), EVERY * 2), "{again}");
    assert_eq!(ask(&mut log, 40).next, None);
    let (pages, _) = turn(&mut log, 40, &[entry(2, 12), entry(1, 11)], NextPage::End);
    assert_eq!(numbers(&pages), [1]);
}

#[test]
fn an_hour_has_at_most_as_many_requests_as_it_has_intervals() {
    for pages in [1, 3, 10] {
        let (mut log, mut requests) = (begun(), 0);
        for second in 0..3_600 {
            while log.due_at() <= at(second) {
                let page = ask(&mut log, second);
                requests += 1;
                let number = page.next.map_or(0, |next| next[6..].parse().expect("a number"));
                let next = if number + 1 < pages { next_page(number + 1) } else { NextPage::End };
                turn(&mut log, second, &[entry(second, second)], next);
            }
        }
        assert!((230..=250).contains(&requests), "{requests} requests for {pages} pages");
    }
}

#[test]
fn what_may_not_be_read_is_asked_for_every_few_minutes_and_a_retry_after_is_heeded() {
    let minutes = |log: &ErrorLog| log.due_at().duration_since(at(0)).as_secs() / MINUTE;
    let mut log = begun();
    ask(&mut log, 0);
    log.turn(Err(failure(Verdict::Refused)), at(0), at(0), 0);
    assert!((1..=3).contains(&minutes(&log)), "{}", log.due_at());
    let mut log = begun();
    ask(&mut log, 0);
    let wait = Some(Duration::from_secs(300));
    log.turn(Err(failure(Verdict::Failed { retry_after: wait })), at(0), at(0), 0);
    assert_eq!(minutes(&log), 5);
}

#[test]
fn a_list_that_leads_in_circles_or_elsewhere_ends_the_pass() {
    for next in
        [NextPage::Foreign, NextPage::At { link: "/page/0".to_owned(), position: String::new() }]
    {
        let mut log = begun();
        ask(&mut log, 15);
        let (read, failure) = turn(&mut log, 15, &[entry(1, 10)], next.clone());
        assert_eq!((numbers(&read).as_slice(), failure.is_some()), (&[1][..], true), "{next:?}");
    }
    let mut log = begun();
    for _ in 0..2 {
        ask(&mut log, 15);
        turn(&mut log, 15, &[], next_page(1));
    }
    assert!(log.pass.is_none(), "the same page twice");
}

#[test]
fn of_a_log_without_end_the_newest_ten_thousand_are_read() {
    let mut log = begun();
    let mut counted = 0;
    for number in 0.. {
        ask(&mut log, 15);
        let entries: Vec<Reported> = (0..1_000).map(|n| entry(number * 1_000 + n, 10)).collect();
        let (read, failure) = turn(&mut log, 15, &entries, next_page(number + 1));
        counted += read.new.len();
        assert!(failure.is_none());
        if read.is_complete {
            break;
        }
    }
    assert_eq!(counted, MAX_ENTRIES);
}

#[test]
fn what_is_remembered_of_a_long_storm_is_bounded() {
    let mut log = begun();
    for pass in 0..200 {
        let second = pass * 15;
        let entries: Vec<Reported> = (0..500).map(|n| entry(pass * 500 + n, second)).collect();
        read(&mut log, second + 1, &entries);
    }
    assert!(log.known.len() <= 500 * 62, "{}", log.known.len());
}

#[test]
fn what_is_pushed_is_counted_once_beside_what_is_read() {
    let mut log = begun();
    assert_eq!(push(&mut log, 12, &[entry(1, 10), entry(1, 10)]), [1]);
    assert_eq!(read(&mut log, 15, &[entry(2, 11), entry(1, 10)]), [2]);
    assert!(push(&mut log, 20, &[entry(2, 11), entry(1, 10)]).is_empty(), "pushed again");
}

#[test]
fn what_is_pushed_leaves_what_was_not_pushed_to_be_read() {
    let mut log = begun();
    let known_to = log.progress();
    ask(&mut log, 40 * MINUTE);
    push(&mut log, 40 * MINUTE, &[entry(1, 39 * MINUTE)]);
    turn(&mut log, 40 * MINUTE, &[], NextPage::End);
    assert_eq!(log.progress(), known_to);
    assert_eq!(from(&mut log, 41 * MINUTE), at(0));
}

#[test]
fn copies_of_old_requests_and_what_tells_no_date_are_not_counted() {
    let mut log = begun();
    let undated = Reported { generated_at: None, ..entry(1, 0) };
    let other = AccountSid::parse("AC00000000000000000000000000000002").expect("a SID");
    let foreign = Reported { account: Some(other), ..entry(2, 10) };
    let page = log.push(vec![undated, foreign, entry(3, -1), entry(4, 0)], at(20));
    let page = page.expect("begun");
    assert_eq!((numbers(&page).as_slice(), page.ignored), (&[4][..], 3));
    let month = 30 * 24 * 60 * MINUTE;
    assert_eq!(push(&mut log, month + 60, &[entry(5, 59), entry(6, 60)]), [6]);
}

#[test]
fn only_what_is_pushed_is_known_from_the_start_and_is_not_asked_for() {
    let mut log = ErrorLog::new(account(), None, false, None, Vec::new());
    assert!(!log.begin_pushed(at(0)) && log.push(vec![entry(1, 10)], at(10)).is_none());
    let mut log = ErrorLog::new(account(), None, true, None, Vec::new());
    assert!(log.push(vec![entry(1, 10)], at(10)).is_none(), "before it has begun");
    assert!(log.begin_pushed(at(10)) && !log.begin_pushed(at(11)));
    assert_eq!(log.progress().expect("begun").since, at(10));
    assert_eq!(push(&mut log, 10, &[entry(1, 10), entry(2, 9)]), [1]);
    assert_eq!(log.due_at(), Timestamp::MAX);
}

#[test]
fn what_is_remembered_of_what_is_pushed_for_long_is_bounded() {
    let mut log = ErrorLog::new(account(), None, true, None, Vec::new());
    log.begin_pushed(at(0));
    for second in 0..5_000 {
        let entries: Vec<Reported> =
            (0..20).map(|number| entry(second * 20 + number, second)).collect();
        push(&mut log, second, &entries);
    }
    assert!(log.known.len() <= MAX_KNOWN + 20, "{}", log.known.len());
}

const EVERY: Duration = Duration::from_secs(15);

/// Asked for the first time at 0 s, when it was empty.
fn begun() -> ErrorLog {
    let mut log = ErrorLog::new(account(), Some(EVERY), false, None, Vec::new());
    assert!(read(&mut log, 0, &[]).is_empty());
    log.due_at = Timestamp::MIN;
    log
}

/// The numbers of the entries that a pass of one page counts.
fn read(log: &mut ErrorLog, second: i64, entries: &[Reported]) -> Vec<i64> {
    ask(log, second);
    let (read, failure) = turn(log, second, entries, NextPage::End);
    assert!(failure.is_none() && read.is_complete);
    numbers(&read)
}

/// The numbers of the entries that a push counts.
fn push(log: &mut ErrorLog, second: i64, entries: &[Reported]) -> Vec<i64> {
    numbers(&log.push(entries.to_vec(), at(second)).expect("begun"))
}

fn from(log: &mut ErrorLog, second: i64) -> Timestamp {
    let (from, _) = log.ask(at(second), at(second));
    log.abandon();
    from
}

fn ask(log: &mut ErrorLog, second: i64) -> PageRequest {
    log.ask(at(second), at(second)).1
}

fn turn(
    log: &mut ErrorLog,
    second: i64,
    entries: &[Reported],
    next: NextPage,
) -> (LogPage, Option<Failure>) {
    let page = Page { items: entries.to_vec(), rejected: 0, next };
    log.turn(Ok(page), at(second), at(second), 0)
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
