//! Groups count as shown only if a response contained them under their account's current label.

use super::*;

/// The time after which a group that no response has contained is released.
const UNSEEN: Duration = Duration::from_secs(300);

#[test]
fn a_hidden_account_is_neither_shown_nor_released() {
    let mut ledger = scraped();
    ledger.hide(ACCOUNT);
    ledger.publish(apply(&ledger, &[event("/b", None)]));
    let shown = ledger.shown();
    assert_eq!(shown.held, []);
    ledger.mark_shown(&shown, now());
    assert_eq!(due(&ledger, 1_000_000), [], "however long it is hidden");
    ledger.show(ACCOUNT, "prod".to_owned(), at(1_000_000));
    assert_eq!(due(&ledger, 1_000_299), []);
    assert_eq!(due(&ledger, 1_000_300).len(), 2, "five minutes after the account is shown");
    let shown = ledger.shown();
    ledger.mark_shown(&shown, at(1_000_010));
    assert_eq!(due(&ledger, 1_000_074), []);
    assert_eq!(due(&ledger, 1_000_075), shown.held, "65 seconds after it was shown");
}

#[test]
fn an_account_hidden_or_renamed_starts_at_zero_again() {
    for interrupt in [
        |ledger: &mut Ledger| {
            ledger.hide(ACCOUNT);
            ledger.show(ACCOUNT, "prod".to_owned(), at(60));
        },
        |ledger: &mut Ledger| ledger.show(ACCOUNT, "renamed".to_owned(), at(60)),
        |ledger: &mut Ledger| {
            ledger.relabel(BTreeMap::from([(ACCOUNT, Some("renamed".to_owned()))]), at(60));
        },
    ] {
        let mut ledger = scraped();
        ledger.publish(apply(&ledger, &[event("/b", None)]));
        ledger.mark_shown(&ledger.shown(), now());
        interrupt(&mut ledger);
        assert_eq!(due(&ledger, 65), [], "not shown yet under its current label");
        assert_eq!(due(&ledger, 359), []);
        assert_eq!(due(&ledger, 360).len(), 2);
        ledger.mark_shown(&ledger.shown(), at(70));
        assert_eq!(due(&ledger, 134), []);
        assert_eq!(due(&ledger, 135).len(), 2);
    }
}

#[test]
fn an_unchanged_account_stays_shown() {
    let mut ledger = scraped();
    ledger.publish(apply(&ledger, &[event("/b", None)]));
    let shown = ledger.shown();
    // The account is loaded again, and a reload keeps its label.
    ledger.show(ACCOUNT, "prod".to_owned(), at(60));
    ledger.relabel(BTreeMap::from([(ACCOUNT, Some("prod".to_owned()))]), at(60));
    ledger.mark_shown(&shown, now());
    assert_eq!(due(&ledger, 65), shown.held);
}

#[test]
fn a_response_from_before_a_rename_does_not_count_for_the_new_label() {
    let mut ledger = scraped();
    ledger.publish(apply(&ledger, &[event("/b", None)]));
    let before = ledger.shown();
    ledger.show(ACCOUNT, "renamed".to_owned(), at(1));
    ledger.mark_shown(&before, at(2));
    assert_eq!(due(&ledger, 67), []);
    ledger.mark_shown(&ledger.shown(), at(3));
    assert_eq!(due(&ledger, 68).len(), 2);
}

#[test]
fn a_response_shows_only_the_groups_it_contains() {
    let mut ledger = scraped();
    let before = ledger.shown();
    ledger.publish(apply(&ledger, &[event("/b", None)]));
    ledger.mark_shown(&before, now());
    assert_eq!(due(&ledger, 65), []);
}

#[test]
fn a_group_shown_late_is_still_held_back_in_full() {
    let mut ledger = scraped();
    ledger.publish(apply(&ledger, &[event("/b", None)]));
    ledger.mark_shown(&ledger.shown(), at(290));
    assert_eq!(due(&ledger, 354), [], "the five minutes apply only to unseen groups");
    assert_eq!(due(&ledger, 355).len(), 2);
}

#[test]
fn a_long_or_zero_hold_back_applies_to_unseen_groups_too() {
    let mut ledger = scraped();
    ledger.publish(apply(&ledger, &[event("/b", None)]));
    let long = Duration::from_secs(1_000);
    assert_eq!(ledger.due_releases(long, at(999)), []);
    assert_eq!(ledger.due_releases(long, at(1_000)).len(), 2);
    assert_eq!(ledger.due_releases(Duration::ZERO, now()).len(), 2);
}

#[test]
fn groups_committed_during_the_first_scrape_are_held() {
    let mut ledger = ledger();
    let facts = [event("/b", None)];
    let delta = apply(&ledger, &facts);
    ledger.was_scraped = true;
    let shown = ledger.shown();
    ledger.publish(delta);
    ledger.mark_shown(&shown, now());
    let line = "route=\"/b\",kind=\"voice_url\",code=\"200\"}";
    assert!(exposition(&ledger).contains(&format!("{line} 0\n")));
    ledger.release(&due(&ledger, UNSEEN.as_secs()));
    assert!(exposition(&ledger).contains(&format!("{line} 1\n")));
}

/// Returns a ledger that has been scraped.
fn scraped() -> Ledger {
    let mut ledger = ledger();
    ledger.mark_shown(&ledger.shown(), now());
    ledger
}

fn due(ledger: &Ledger, second: u64) -> Vec<Scope> {
    ledger.due_releases(limits().hold_back, at(second))
}

fn at(second: u64) -> Timestamp {
    after(now(), Duration::from_secs(second))
}
