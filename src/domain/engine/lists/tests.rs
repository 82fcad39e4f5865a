//! Lists that overlap, shift, loop or don't end.

use super::*;
use crate::domain::engine::request::{NextPage, Page};
use crate::domain::words::call::Direction;
use crate::domain::words::sid::CallSid;

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;

#[test]
fn a_first_start_looks_back_and_ignores_earlier_calls() {
    let mut lists = Lists::resume(plan(), ListProgress::default());
    assert_eq!(lists.start(at(0)), Duration::ZERO);
    assert!(lists.is_history(Some(at(-1))) && !lists.is_history(Some(at(0))));
    assert!(!lists.is_history(None) && !resumed(-60).is_history(Some(at(-1))));
    assert_eq!(next(&lists, 0).filter, Filter::StartedFrom(at(-HOUR)));
    assert!(!lists.admits(&ended(-HOUR)));
    assert!(lists.admits(&ended(-HOUR + 1)));
}

#[test]
fn a_stale_cursor_catches_up_to_the_limit_and_reports_the_gap() {
    let mut lists = known(-30 * HOUR, Some(-32 * HOUR));
    assert_eq!(lists.start(at(0)), Duration::from_secs(6 * 3600));
    assert_eq!(next(&lists, 0).filter, Filter::StartedFrom(at(-24 * HOUR - 5 * MINUTE)));
    let mut recent = known(-HOUR, None);
    assert_eq!(recent.start(at(0)), Duration::ZERO);
}

#[test]
fn the_cursor_moves_to_the_date_of_the_first_page_once_a_list_is_complete() {
    let mut lists = begun();
    let mut run = next(&lists, 0);
    assert_eq!(advance(&mut run, &[ended(-5)], Some("/2"), 1), AfterPage::Continue);
    assert_eq!(advance(&mut run, &[ended(-9)], None, 50), AfterPage::Complete);
    for stop in Stop::ALL {
        lists.finish(&run, AfterPage::Stopped(*stop), at(50), 0);
        assert_eq!(lists.cursor, None, "{stop}");
    }
    lists.finish(&run, AfterPage::Complete, at(50), 0);
    assert_eq!(lists.cursor, Some(at(1)));
}

#[test]
fn a_list_reaches_back_to_the_oldest_young_active_call() {
    let lists = resumed(-60);
    let active = ActiveCalls { oldest_young: Some(at(-14 * MINUTE)), has_old: true };
    let (run, _) = lists.next(active, at(0));
    assert_eq!(run.expect("a list is due").filter, Filter::StartedFrom(at(-14 * MINUTE)));
}

#[test]
fn only_a_page_without_a_next_page_completes_a_list() {
    use AfterPage::{Complete, Continue, Stopped};
    let calls = [ended(-5)];
    let yesterday = [started(-30 * HOUR)];
    for (calls, rejected, next_page, expected) in [
        (&calls[..], 0, None, Complete),
        (&[][..], 0, None, Complete),
        (&[][..], 5, None, Complete),
        (&[][..], 0, Some("/2"), Stopped(Stop::Empty)),
        (&[][..], 5, Some("/2"), Stopped(Stop::Undecodable)),
        (&calls[..], 5, Some("/2"), Continue),
        // A server that truncates the filter to the day returns earlier calls of that day.
        (&[started(-2 * HOUR)][..], 0, Some("/2"), Complete),
        (&[started(-2 * HOUR), unstarted()][..], 0, Some("/2"), Continue),
        (&yesterday[..], 0, Some("/2"), Continue),
    ] {
        let mut run = next(&begun(), 0);
        let page = Page { rejected, ..page(calls, next_page) };
        assert_eq!(run.advance(&page, at(0)), expected, "{page:?}");
    }
}

#[test]
fn a_repeated_page_link_or_a_page_with_the_same_calls_stops_a_list() {
    let call = |number| Call { sid: sid(number), ..ended(-5) };
    let (first, second) = ([call(1), call(2)], [call(3), call(4)]);
    let stopped = AfterPage::Stopped(Stop::Repeated);
    let mut run = next(&begun(), 0);
    assert_eq!(advance(&mut run, &first, Some("/2"), 0), AfterPage::Continue);
    assert_eq!(advance(&mut run, &second, Some("/2"), 0), stopped);
    let mut run = next(&begun(), 0);
    assert_eq!(advance(&mut run, &first, Some("/2"), 0), AfterPage::Continue);
    assert_eq!(advance(&mut run, &first, Some("/3"), 0), stopped);
}

#[test]
fn an_endless_list_stops_at_the_page_limit() {
    let mut run = next(&begun(), 0);
    let calls = [ended(-5)];
    let last =
        (1..=MAX_LIST_PAGES).map(|page| advance(&mut run, &calls, Some(&format!("/{page}")), 0));
    assert_eq!(last.last(), Some(AfterPage::Stopped(Stop::Capped)));
}

#[test]
fn a_list_with_untracked_calls_is_incomplete() {
    let mut run = next(&begun(), 0);
    run.mark_untracked();
    assert_eq!(advance(&mut run, &[ended(-5)], None, 0), AfterPage::Stopped(Stop::NoRoom));
}

#[test]
fn ended_and_deep_lists_resume_after_a_restart() {
    let known = ListProgress {
        cursor: Some(at(0)),
        forget_before: None,
        ended_to: Some(at(-3 * HOUR)),
        deep_to: Some(at(-2 * HOUR)),
        error_log: None,
    };
    let mut lists = Lists::resume(plan(), known);
    lists.start(at(60));
    assert_eq!(lists.progress(), known);
    let filter = |kind| lists.filter(kind, ActiveCalls::default(), at(60));
    assert_eq!(filter(ListKind::Ended), Filter::EndedFrom(at(-3 * HOUR - 5 * MINUTE)));
    assert_eq!(filter(ListKind::Deep), Filter::StartedFrom(at(-3 * HOUR)));
}

#[test]
fn the_horizon_waits_for_the_list_of_ended_calls() {
    let known = ListProgress { ended_to: Some(at(-3 * HOUR)), ..known(0, None).progress() };
    let mut lists = Lists::resume(plan(), known);
    lists.start(at(0));
    let mut deep = ListRun::new(ListKind::Deep, Filter::StartedFrom(at(-HOUR)), at(0));
    advance(&mut deep, &[], None, 0);
    lists.finish(&deep, AfterPage::Complete, at(0), 0);
    assert_eq!(lists.forget_before, Some(at(-3 * HOUR - 10 * MINUTE)));
}

#[test]
fn a_horizon_in_the_future_hides_no_calls() {
    let mut lists = known(40 * 24 * HOUR, Some(40 * 24 * HOUR));
    lists.start(at(0));
    assert_eq!((lists.cursor, lists.forget_before), (Some(at(0)), Some(at(0))));
}

#[test]
fn a_correction_of_the_clock_changes_no_wait() {
    let mut lists = resumed(-60);
    let mut run = next(&lists, 0);
    advance(&mut run, &[], None, 0);
    lists.finish(&run, AfterPage::Complete, at(0), 0);
    let wait = |lists: &Lists, now| {
        let Schedule { requested_at, .. } = lists.recent;
        requested_at.map(|asked| now - asked.duration_since(at(0)).as_secs())
    };
    let before = wait(&lists, 10);
    lists.shift(SignedDuration::from_hours(40 * 24));
    assert_eq!(wait(&lists, 40 * 24 * HOUR + 10), before);
    lists.shift(SignedDuration::from_hours(-40 * 24));
    assert_eq!(wait(&lists, 10), before);
}

#[test]
fn reads_at_most_150_lists_an_hour() {
    let mut lists = resumed(-60);
    let active = ActiveCalls { oldest_young: None, has_old: true };
    let mut kinds = std::collections::BTreeMap::<ListKind, u32>::new();
    for second in 0..HOUR {
        lists.found_new_call(at(second));
        while let (Some(mut run), _) = lists.next(active, at(second)) {
            *kinds.entry(run.kind).or_default() += 1;
            advance(&mut run, &[], None, second);
            lists.finish(&run, AfterPage::Complete, at(second), 0);
        }
    }
    assert_eq!(kinds.len(), ListKind::ALL.len(), "{kinds:?}");
    assert!(kinds.values().sum::<u32>() <= 150, "{kinds:?}");
}

#[test]
fn an_idle_account_is_listed_every_two_minutes() {
    // An account without any calls since a restart is also idle.
    let mut lists = resumed(-60);
    assert_eq!(lists.interval(at(HOUR)), Duration::from_secs(30));
    assert_eq!(lists.interval(at(HOUR + 1)), Duration::from_secs(120));
    lists.found_new_call(at(0));
    assert_eq!(lists.interval(at(HOUR)), Duration::from_secs(30));
    assert_eq!(lists.interval(at(HOUR + 1)), Duration::from_secs(120));
}

#[test]
fn the_horizon_follows_the_deep_list_and_never_moves_back() {
    let mut lists = known(0, Some(-3 * HOUR));
    lists.start(at(0));
    let deep = |from: i64| {
        let mut run = ListRun::new(ListKind::Deep, Filter::StartedFrom(at(from)), at(0));
        advance(&mut run, &[], None, from + HOUR);
        run
    };
    lists.ended.known_to = Some(at(0));
    lists.finish(&deep(-HOUR), AfterPage::Complete, at(0), 0);
    assert_eq!(lists.forget_before, Some(at(-HOUR - 5 * MINUTE)));
    lists.finish(&deep(-2 * HOUR), AfterPage::Complete, at(0), 0);
    assert_eq!(lists.forget_before, Some(at(-HOUR - 5 * MINUTE)));
}

#[test]
fn reads_only_the_unfiltered_list_until_twilios_time_is_known() {
    let lists = known(-60, None);
    assert_eq!(next(&lists, 0).kind, ListKind::Unfiltered);
    assert_eq!(next(&resumed(-60), 0).kind, ListKind::Recent);
}

#[test]
fn a_failed_list_is_retried_for_the_same_period_without_delaying_others() {
    let mut lists = resumed(-60);
    let (mut kinds, mut retried) = (Vec::new(), None);
    for second in 0..600 {
        while let (Some(mut run), _) = lists.next(ActiveCalls::default(), at(second)) {
            kinds.push(run.kind);
            if run.kind == ListKind::Ended && second < 60 {
                lists.fail(&run, at(second), u64::MAX);
                continue;
            }
            if run.kind == ListKind::Ended && retried.is_none() {
                retried = Some(run.filter);
            }
            advance(&mut run, &[], None, second);
            lists.finish(&run, AfterPage::Complete, at(second), 0);
        }
    }
    // It is retried after 1, 2, 4 … 32 s: six times within the minute during which it fails.
    let failed = kinds.iter().take_while(|kind| **kind != ListKind::Deep).count();
    assert!(failed <= 4, "Deep waits for Ended: {kinds:?}");
    assert!(kinds.iter().filter(|kind| **kind == ListKind::Ended).count() < 12, "{kinds:?}");
    assert_eq!(
        retried,
        Some(Filter::EndedFrom(at(-6 * MINUTE))),
        "from the start, minus the overlap"
    );
}

#[test]
fn a_failing_or_slow_recent_list_starves_no_other_list() {
    for fails in [true, false] {
        let mut lists = resumed(-60);
        let mut kinds = std::collections::BTreeMap::<ListKind, u32>::new();
        let mut second = 0;
        while second < 2 * HOUR {
            let Some(mut run) = lists.next(ActiveCalls::default(), at(second)).0 else {
                second += 1;
                continue;
            };
            *kinds.entry(run.kind).or_default() += 1;
            // Each pass takes longer than the list interval.
            second += 31;
            if fails && run.kind == ListKind::Recent {
                lists.fail(&run, at(second), u64::MAX);
            } else {
                advance(&mut run, &[], None, second);
                lists.finish(&run, AfterPage::Complete, at(second), 0);
            }
        }
        assert_eq!(kinds.len(), 4, "{kinds:?}");
        assert!(kinds[&ListKind::Deep] >= 2 && kinds[&ListKind::Ended] >= 10, "{kinds:?}");
    }
}

#[test]
fn a_cursor_in_the_future_hides_no_calls() {
    let mut lists = known(24 * HOUR, None);
    lists.start(at(0));
    assert_eq!(lists.cursor, Some(at(0)));
}

#[test]
fn a_failed_page_is_retried_five_times() {
    let mut run = next(&begun(), 0);
    assert!(!run.note_page_failure(), "the list restarts at its first page anyway");
    advance(&mut run, &[ended(-5)], Some("/2"), 0);
    assert_eq!((0..9).filter(|_| run.note_page_failure()).count(), 5);
}

/// Advances a list by a page whose items could all be decoded.
fn advance(run: &mut ListRun, calls: &[Call], next: Option<&str>, second: i64) -> AfterPage {
    run.advance(&page(calls, next), at(second))
}

fn page(calls: &[Call], next: Option<&str>) -> Page<Call> {
    let at = |link: &str| NextPage::At { link: link.to_owned(), position: link.to_owned() };
    Page { items: calls.to_vec(), rejected: 0, next: next.map_or(NextPage::End, at) }
}

fn known(cursor: i64, forget_before: Option<i64>) -> Lists {
    let known = ListProgress {
        cursor: Some(at(cursor)),
        forget_before: forget_before.map(at),
        ..ListProgress::default()
    };
    Lists::resume(plan(), known)
}

fn sid(number: u32) -> CallSid {
    CallSid::parse(&format!("CA{number:032}")).expect("a SID")
}

fn begun() -> Lists {
    let mut lists = Lists::resume(plan(), ListProgress::default());
    lists.start(at(0));
    lists
}

fn resumed(cursor: i64) -> Lists {
    let mut lists = known(cursor, None);
    lists.start(at(0));
    lists
}

fn next(lists: &Lists, second: i64) -> ListRun {
    lists.next(ActiveCalls::default(), at(second)).0.expect("a list is due")
}

fn plan() -> ListPlan {
    ListPlan {
        interval: Duration::from_secs(30),
        initial_lookback: Duration::from_secs(3_600),
        catch_up: Duration::from_secs(24 * 3_600),
        error_log_interval: None,
    }
}

fn ended(second: i64) -> Call {
    Call { start_time: Some(at(second)), end_time: Some(at(second)), ..unstarted() }
}

fn started(second: i64) -> Call {
    Call { start_time: Some(at(second)), ..unstarted() }
}

fn unstarted() -> Call {
    Call {
        sid: sid(1),
        status: CallStatus::Queued,
        direction: Direction::Inbound,
        start_time: None,
        end_time: None,
        date_created: None,
        date_updated: None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}
