//! One complete read of a call's events: all pages, judged as they come.
//!
//! Invariant: several pages make a reading only if no two of them are at the same position in the list,
//! and if the first is unchanged at the end and still has a next page. Otherwise a page that was read
//! twice, or that shifted in between, would show one event twice, and so count it twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::domain::engine::page_size::PAGE_SIZES;
use crate::domain::judge::observe::Rejection;
use crate::domain::judge::route::Routes;
use crate::domain::track::digest::{Digests, Identity};
use crate::domain::track::reading::{Item, Reading};
use crate::domain::words::sid::{AccountSid, CallSid};
use crate::twilio::client::{MAX_BODY_BYTES, Position};
use crate::twilio::wire::{Page, RawItem, decode_call_event};
use crate::twilio::{Client, Error};

use super::attempt::Attempts;
use super::gate::Pass;

/// Most pages of one read: a hundred thousand events.
const MAX_PAGES: usize = 100;
/// The same for pages of one item, which are read only around an item that is too large.
const MAX_PAGES_OF_ONE: usize = 2_000;
/// Most items of one read that are too large alone: each costs a request and 16 MiB.
const MAX_TOO_LARGE: usize = 10;
/// Most time for one read: long enough for thousands of pages, and not for as many slow ones.
const MAX_TIME: Duration = Duration::from_secs(10 * 60);
/// How often a list that shifts under us is read again at once.
const MAX_TRIES: usize = 3;

/// What a read needs.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) pass: Pass,
    pub(super) account: AccountSid,
    pub(super) call: CallSid,
    pub(super) digests: Digests,
    pub(super) routes: Arc<Routes>,
    /// Twilio's time, should an answer not tell it.
    pub(super) fallback_now: Timestamp,
    /// Items of a page; fewer than were asked for where their bodies are too large together.
    pub(super) page_size: u16,
}

/// What a page shows, by which it is recognised when it comes again.
fn identities(page: &JudgedPage) -> Vec<Identity> {
    page.items.iter().map(|item| item.identity).collect()
}

/// Whether a page is one item that is too large.
fn is_too_large(page: &JudgedPage) -> bool {
    page.items.first().is_some_and(|item| item.observed == Err(Rejection::TooLarge))
}

/// One page, judged.
struct JudgedPage {
    items: Vec<Item>,
    next_page: Option<String>,
}

impl Reader {
    /// Reads until a reading is complete, or can't be.
    pub(super) async fn read(&mut self) -> (Attempts, Result<Reading, Error>) {
        let mut attempts = Attempts::default();
        let mut result;
        let first = self.page_size;
        let mut sizes = PAGE_SIZES.into_iter().filter(|size| *size < first);
        let mut tries = 0;
        let until = Instant::now() + MAX_TIME;
        loop {
            result = self.read_pages(self.page_size, until, &mut attempts).await;
            match &result {
                Err(Error::TooLarge { .. }) => match sizes.next() {
                    Some(smaller) => self.page_size = smaller,
                    None => break,
                },
                Err(Error::Shifted) if tries + 1 < MAX_TRIES => tries += 1,
                Ok(_) | Err(_) => break,
            }
        }
        (attempts, result)
    }

    async fn read_pages(
        &mut self,
        size: u16,
        until: Instant,
        attempts: &mut Attempts,
    ) -> Result<Reading, Error> {
        let first = self.read_page_or_reject(size, 0, None, attempts).await?;
        let date = attempts.date();
        let mut shown = vec![identities(&first)];
        let mut items = first.items;
        let mut next_page = first.next_page;
        let mut seen = BTreeSet::from([Position::default()]);
        let (mut pages, mut too_large) = (1, 0);
        // Only a page without a next page ends the list.
        let mut is_complete = true;
        while let Some(next) = next_page.take() {
            let most = if size == 1 { MAX_PAGES_OF_ONE } else { MAX_PAGES };
            if pages >= most || until <= Instant::now() {
                return Err(Error::Endless);
            }
            if !self.client.position(&next).is_ok_and(|position| seen.insert(position)) {
                is_complete = false;
                break;
            }
            let page = match self.read_page_or_reject(size, pages, Some(&next), attempts).await {
                // What follows isn't Twilio's.
                Err(Error::ForeignNextPage) => {
                    is_complete = false;
                    break;
                }
                page => page?,
            };
            pages += 1;
            too_large += usize::from(is_too_large(&page));
            if too_large > MAX_TOO_LARGE {
                return Err(Error::TooLarge { limit: MAX_BODY_BYTES });
            }
            let shows = identities(&page);
            // Two full pages of equal events may be different pages. A short page is the last of
            // its list, so one that comes twice is the same page.
            let is_full = shows.len() >= usize::from(size);
            let may_recur = shows.is_empty() || is_full && shows.iter().all(|one| *one == shows[0]);
            let is_repeated = !may_recur && shown.contains(&shows);
            if is_repeated || (shows.is_empty() && page.next_page.is_some()) {
                is_complete = false;
                break;
            }
            if !may_recur {
                shown.push(shows);
            }
            items.extend(page.items);
            next_page = page.next_page;
        }
        if pages > 1 {
            let again = self.read_page_or_reject(size, 0, None, attempts).await?;
            if identities(&again) != shown[0] || again.next_page.is_none() {
                return Err(Error::Shifted);
            }
        }
        if !is_complete {
            // What follows the first page may be that page again, and would be counted twice.
            items.truncate(shown[0].len());
        }
        Ok(Reading { items, read_at: date.unwrap_or(self.fallback_now), is_complete })
    }

    async fn read_page(
        &mut self,
        size: u16,
        next_page: Option<&str>,
        attempts: &mut Attempts,
    ) -> Result<JudgedPage, Error> {
        let Self { client, pass, account, call, digests, routes, .. } = self;
        let judged = |page: Page<'_>| JudgedPage {
            items: page.items.iter().map(|item| judge(item, *call, *digests, routes)).collect(),
            next_page: page.next_page,
        };
        let request = client.call_events(*account, *call, size, next_page, judged);
        let answer = pass.ask(request).await;
        attempts.0.extend(answer.attempt);
        answer.result
    }

    /// Reads a page; an item that alone is too large is rejected, and the list goes on behind it.
    async fn read_page_or_reject(
        &mut self,
        size: u16,
        number: usize,
        next_page: Option<&str>,
        attempts: &mut Attempts,
    ) -> Result<JudgedPage, Error> {
        let page = self.read_page(size, next_page, attempts).await;
        match page {
            Err(Error::TooLarge { .. }) if size == 1 => {
                // Only the page itself could tell where the next one is, so its number has to do.
                let (account, call) = (self.account, self.call);
                let next = format!(
                    "/2010-04-01/Accounts/{account}/Calls/{call}/Events.json?PageSize=1&Page={}",
                    number + 1
                );
                let place = format!("{call} {number}");
                let item = Item::rejected(place.as_bytes(), self.digests, Rejection::TooLarge);
                Ok(JudgedPage { items: vec![item], next_page: Some(next) })
            }
            page => page,
        }
    }
}

fn judge(item: &RawItem<'_>, call: CallSid, digests: Digests, routes: &Routes) -> Item {
    match decode_call_event(item) {
        Ok(event) => Item::of(&event, call, digests, routes),
        Err(rejection) => Item::rejected(item.json().as_bytes(), digests, rejection),
    }
}
