//! Which pages form a reading.

use super::*;
use crate::domain::engine::failure::Verdict;
use crate::domain::engine::plan::Stage;
use crate::domain::track::digest::{DigestKey, DigestVersion};
use crate::domain::words::sid::CallSid;

#[test]
fn a_read_is_complete_only_after_a_page_without_a_next_page() {
    for (name, pages, expected) in [
        ("one page", vec![page(&[1, 2], None)], "2 items"),
        ("no events", vec![page(&[], None)], "0 items"),
        ("an empty first page with a next page", vec![page(&[], Some(1))], "truncated at 0"),
        (
            "an empty first page, then an empty last page",
            vec![page(&[], Some(1)), page(&[], None)],
            "truncated at 0",
        ),
        ("itself as the next page", vec![page(&[1], Some(0))], "truncated at 1"),
        ("a next page on another host", vec![foreign(&[1, 2])], "truncated at 2"),
        (
            "two pages, and the first unchanged",
            vec![page(&[1], Some(1)), page(&[2], None), page(&[1], Some(1))],
            "2 items",
        ),
        (
            "an empty page in between",
            vec![page(&[1], Some(1)), page(&[], Some(2)), page(&[1], Some(1))],
            "truncated at 1",
        ),
        (
            "a repeated short page",
            vec![page(&[1], Some(1)), page(&[1], Some(2)), page(&[1], Some(1))],
            "truncated at 1",
        ),
    ] {
        assert_eq!(read(50, pages.into_iter().map(Ok)), expected, "{name}");
    }
}

#[test]
fn gives_up_on_a_shifting_list_after_three_attempts() {
    let shifting = || [page(&[1], Some(1)), page(&[2], None), page(&[3], Some(1))];
    assert_eq!(read(50, (0..2).flat_map(|_| shifting()).map(Ok)), "continues");
    assert_eq!(read(50, (0..3).flat_map(|_| shifting()).map(Ok)), "failed: shifted");
}

#[test]
fn shrinks_oversized_pages_and_rejects_oversized_items() {
    let mut run = run(200);
    let sizes: Vec<u16> = (0..2)
        .map(|_| {
            assert!(matches!(run.on_page(Err(too_large()), at(0), at(0)), AfterEvents::Continue));
            run.page().size
        })
        .collect();
    assert_eq!(sizes, [50, 1]);
    run.on_page(Err(too_large()), at(0), at(0));
    let next = run.page().next.expect("a page after the item");
    assert!(next.ends_with("/Events.json?PageSize=1&Page=1"), "{next}");
    let last = run.on_page(Ok(page(&[2], None)), at(0), at(0));
    assert!(matches!(last, AfterEvents::Continue), "the first page is read once more");
    let AfterEvents::Read(reading) = run.on_page(Err(too_large()), at(0), at(0)) else {
        panic!("a reading")
    };
    assert_eq!(reading.items.len(), 2);
    assert_eq!(reading.items[0].observed, Err(Rejection::TooLarge));
    assert!(reading.is_complete);
}

#[test]
fn pages_oversized_items_and_time_are_limited() {
    let endless = || (1..).map(|number| Ok(page(&[u8::MAX], Some(number))));
    assert_eq!(read(1, endless().take(1_999)), "continues");
    assert_eq!(read(1, endless().take(2_000)), "failed: endless");
    let too_large = |count| (0..count).map(|_| Err(too_large()));
    assert_eq!(read(1, too_large(10)), "continues");
    assert_eq!(read(1, too_large(11)), "failed: too_large");
    let mut run = run(50);
    let late = after(at(0), MAX_TIME);
    let after = run.on_page(Ok(page(&[1], Some(1))), late, late);
    assert!(matches!(after, AfterEvents::Failed(_)), "{after:?}");
}

/// Returns the result of a read with these responses, in pages of `size`.
fn read(size: u16, answers: impl Iterator<Item = Result<Page<Item>, Failure>>) -> String {
    let mut run = run(size);
    for answer in answers {
        match run.on_page(answer, at(0), at(0)) {
            AfterEvents::Continue => {}
            AfterEvents::Read(reading) if reading.is_complete => {
                return format!("{} items", reading.items.len());
            }
            AfterEvents::Read(reading) => return format!("truncated at {}", reading.items.len()),
            AfterEvents::Failed(failure) => return format!("failed: {}", failure.reason.as_str()),
        }
    }
    "continues".to_owned()
}

fn run(size: u16) -> EventsRun {
    let sid = CallSid::parse("CA00000000000000000000000000000001").expect("a SID");
    let account = AccountSid::parse("AC00000000000000000000000000000001").expect("a SID");
    EventsRun::new(Read { sid, stage: Stage::Settling, skips: 0 }, digests(), account, size, at(0))
}

/// A page of items that are identified by numbers.
fn page(numbers: &[u8], next: Option<usize>) -> Page<Item> {
    let item = |number| Item::rejected(&[number], digests(), Rejection::InvalidUrl);
    let next = next.map_or(NextPage::End, |number| {
        let position = if number == 0 { String::new() } else { format!("Page={number}") };
        NextPage::At { link: format!("?{position}"), position }
    });
    Page { items: numbers.iter().copied().map(item).collect(), rejected: 0, next }
}

fn foreign(numbers: &[u8]) -> Page<Item> {
    Page { next: NextPage::Foreign, ..page(numbers, None) }
}

fn too_large() -> Failure {
    Failure {
        reason: FailureReason::TooLarge,
        text: "too large".to_owned(),
        verdict: Verdict::Unreadable,
        page_size: PageSizeVerdict::TooLarge,
    }
}

fn digests() -> Digests {
    Digests::new(DigestKey::new([1; 16]), DigestVersion::CURRENT)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("an instant")
}
