//! A reading: all items that one read of a call's Call Events showed, already judged.
//!
//! Pages are judged as they come, so that no body outlives its page.

use jiff::Timestamp;

use super::call_event::CallEvent;
use super::digest::{Digests, Identity};
use super::observe::{self, Observation, Rejection};
use super::route::Routes;

/// One item of a page, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What makes it the same item in another read.
    pub identity: Identity,
    /// When Twilio recorded its answer.
    pub created_at: Option<Timestamp>,
    /// What it says, or why it says nothing.
    pub observed: Result<Observation, Rejection>,
}

impl Item {
    /// Judges a Call Event.
    pub fn of(event: &CallEvent, digests: Digests, routes: &Routes) -> Self {
        Self {
            identity: digests.identify(event),
            created_at: event.response.as_ref().and_then(|response| response.created_at),
            observed: observe::observe(event, routes),
        }
    }

    /// Notes an item that could not be read as a Call Event.
    pub fn rejected(bytes: &[u8], digests: Digests, rejection: Rejection) -> Self {
        Self { identity: digests.identify_bytes(bytes), created_at: None, observed: Err(rejection) }
    }
}

/// What a read showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// All items, in the list's order.
    pub items: Vec<Item>,
    /// Twilio's time at the first page.
    pub read_at: Timestamp,
    /// Whether the list was read to its end. If not, what it shows is true, but not all.
    pub is_complete: bool,
}
