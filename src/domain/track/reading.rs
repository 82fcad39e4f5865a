//! A reading: all items returned by one read of a call's Call Events, already judged.
//!
//! Pages are judged as they arrive, so no response body outlives its page.

use jiff::Timestamp;

use crate::domain::judge::kind::Expected;
use crate::domain::judge::observe::{self, Observation, Rejection};
use crate::domain::judge::route::Routes;
use crate::domain::track::digest::{Digests, Identity};
use crate::domain::words::call_event::CallEvent;
use crate::domain::words::parameters::Parameter;
use crate::domain::words::sid::CallSid;

/// A judged item of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Identifies the item across reads.
    pub identity: Identity,
    /// When Twilio recorded the response.
    pub created_at: Option<Timestamp>,
    /// The observation, or why there is none.
    pub observed: Result<Observation, Rejection>,
    /// Whether the caller hears the response, or the effect of its failure.
    pub is_caller_facing: bool,
}

impl Item {
    /// Judges a Call Event of a call.
    pub fn judge(event: &CallEvent, call: CallSid, digests: Digests, routes: &Routes) -> Self {
        let observed = observe::observe(event, routes);
        let is_caller_facing =
            observed.as_ref().is_ok_and(|observed| match observe::expected(observed.kind, event) {
                Expected::Twiml => !is_of_a_child(event, call),
                Expected::Audio => true,
                Expected::IdleTwiml | Expected::Status | Expected::Nothing => false,
            });
        let created_at = event.response.as_ref().and_then(|response| response.created_at);
        Self { identity: digests.identify(event), created_at, observed, is_caller_facing }
    }

    /// Creates an item for JSON that isn't a valid Call Event.
    pub fn rejected(bytes: &[u8], digests: Digests, rejection: Rejection) -> Self {
        Self {
            identity: digests.identify_bytes(bytes),
            created_at: None,
            observed: Err(rejection),
            is_caller_facing: false,
        }
    }
}

/// Whether a request belongs to a leg dialled by this call, such as a whisper: only that leg hears the
/// response.
fn is_of_a_child(event: &CallEvent, call: CallSid) -> bool {
    let parameters = &event.request.parameters;
    parameters.has(Parameter::ParentCallSid) && parameters.call_sid != Some(call)
}

/// The result of one read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// All items, in list order.
    pub items: Vec<Item>,
    /// Twilio's time when the first page arrived.
    pub read_at: Timestamp,
    /// Whether the list was read to the end. If not, the items are valid but some are missing.
    pub is_complete: bool,
}
