//! Wrong dates, and corrections of Twilio's time.

use super::*;

#[test]
fn an_end_time_far_in_the_future_is_replaced_by_now() {
    let mut account = account();
    list(&mut account, &[ended(1, 40 * 86_400)], 5);
    assert_eq!(account.calls[&sid(1)].ended_at, Some(at(5)));
}

#[test]
fn an_answer_dated_far_ahead_neither_moves_the_cursor_nor_settles_a_call() {
    let mut account = account();
    let far = 40 * 86_400;
    let mut run = run(&account, 5);
    let calls = [ended(1, 0)];
    account.apply_page(&mut run, &page(&calls), usize::MAX, Some(at(far)), at(5));
    account.finish_list(&run, AfterPage::Complete, at(5), 0);
    assert_eq!(account.lists.cursor, Some(at(7)));
    account.apply_reading(read_of(1, Stage::Settling), &reading(far), at(900));
    assert_eq!(account.calls[&sid(1)].settled_at, None);
}

#[test]
fn an_answer_dated_far_back_does_not_backdate_a_calls_end() {
    let mut account = account();
    let calls = [Call { end_time: None, ..ended(1, 0) }];
    let mut run = run(&account, 5);
    account.apply_page(&mut run, &page(&calls), usize::MAX, Some(at(-40 * 86_400)), at(5));
    assert_eq!(account.calls[&sid(1)].ended_at, Some(at(5)));
}

#[test]
fn an_account_starts_once_several_answers_agree_on_the_time() {
    let mut account = fresh();
    let learn = |account: &mut AccountProgress, date| account.learn_time(Some(date), at(0));
    assert_eq!(learn(&mut account, at(40 * 86_400)), None);
    assert_eq!(learn(&mut account, at(0)), None);
    assert_eq!(learn(&mut account, at(0)), None);
    assert_eq!(account.lists.progress(), ListProgress::default());
    assert_eq!(learn(&mut account, at(0)), Some(Duration::ZERO));
    let half = jiff::SignedDuration::from_millis(500);
    assert_eq!(account.lists.forget_before, Some(at(-200_000) + half));
}

#[test]
fn a_correction_of_twilios_time_changes_no_wait() {
    let mut account = fresh();
    for _ in 0..3 {
        account.learn_time(Some(at(0)), at(0));
    }
    list(&mut account, &[active(1, 0)], 5);
    fail(&mut account, Stage::Live, ReadFailure::Failed, 70);
    let wait = |account: &mut AccountProgress, local| {
        let now = account.now(at(local));
        account.find_due_step(now);
        account.step_at().expect("a read will be due").duration_since(now)
    };
    let before = wait(&mut account, 70);
    // Twilio's time turns out to be 40 days ahead, as answers have shown for minutes.
    for step in 0..20 {
        account.learn_time(Some(at(40 * 86_400)), at(70) + step * Duration::from_millis(1));
    }
    assert_eq!(wait(&mut account, 70), before);
    for step in 1..20 {
        account.learn_time(Some(at(40 * 86_400 + 70 + 20 * step)), at(70 + 20 * step));
    }
    assert!(account.now(at(70)) > at(40 * 86_400), "the correction was applied");
    assert_eq!(wait(&mut account, 70), before);
}

#[test]
fn an_answer_dated_far_back_does_not_bring_the_next_live_read_forward() {
    let mut account = account();
    list(&mut account, &[active(1, 0)], 5);
    assert_eq!(steps(&mut account, 61), ["live"]);
    let misdated = reading(-40 * 86_400);
    account.apply_reading(read_of(1, Stage::Live), &misdated, at(61));
    assert_eq!(steps(&mut account, 62), [""; 0]);
    assert_eq!(steps(&mut account, 121), ["live"]);
}
