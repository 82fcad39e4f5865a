//! A reading: all items that one read of a call's Call Events showed, already judged.
//!
//! Pages are judged as they come, so that no body outlives its page.

use jiff::Timestamp;

use crate::domain::judge::kind::Expected;
use crate::domain::judge::observe::{self, Observation, Rejection};
use crate::domain::judge::route::Routes;
use crate::domain::track::digest::{Digests, Identity};
use crate::domain::words::call_event::CallEvent;
use crate::domain::words::parameters::Parameter;
use crate::domain::words::sid::CallSid;

/// One item of a page, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What makes it the same item in another read.
    pub identity: Identity,
    /// When Twilio recorded its answer.
    pub created_at: Option<Timestamp>,
    /// What it says, or why it says nothing.
    pub observed: Result<Observation, Rejection>,
    /// Whether the caller hears the answer, or hears of its failure.
    pub is_heard: bool,
}

impl Item {
    /// Judges a Call Event of a call.
    pub fn judge(event: &CallEvent, call: CallSid, digests: Digests, routes: &Routes) -> Self {
        let observed = observe::observe(event, routes);
        let is_heard =
            observed.as_ref().is_ok_and(|observed| match observe::expected(observed.kind, event) {
                Expected::Twiml => !is_of_a_child(event, call),
                Expected::Sound => true,
                Expected::IdleTwiml | Expected::Status | Expected::Nothing => false,
            });
        let created_at = event.response.as_ref().and_then(|response| response.created_at);
        Self { identity: digests.identify(event), created_at, observed, is_heard }
    }

    /// Notes an item that could not be read as a Call Event.
    pub fn rejected(bytes: &[u8], digests: Digests, rejection: Rejection) -> Self {
        Self {
            identity: digests.identify_bytes(bytes),
            created_at: None,
            observed: Err(rejection),
            is_heard: false,
        }
    }
}

/// Whether a request is about a leg that this call has dialled, such as a whisper: only that leg hears
/// the answer.
fn is_of_a_child(event: &CallEvent, call: CallSid) -> bool {
    let parameters = &event.request.parameters;
    parameters.has(Parameter::ParentCallSid) && parameters.call_sid != Some(call)
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
