//! The parameters of a request: which there are, and the five values that decide anything.
//!
//! Twilio documents them as `CallSid` and Call Events show them as `call_sid`: case and underscores
//! don't matter here. No other value is kept, and `Debug` shows none.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use crate::domain::words::sid::CallSid;

/// Parameters whose presence decides the kind of a request. Sources: the request parameters at
/// <https://www.twilio.com/docs/voice/twiml#request-parameters> and on the pages of the verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// The account: every webhook names it, whatever it is about.
    AccountSid,
    /// The call that a request belongs to: every TwiML request has one.
    CallSid,
    /// The call that dialled this one.
    ParentCallSid,
    /// The state of that call.
    CallStatus,
    /// Why the fallback URL is asked.
    ErrorCode,
    /// Which URL had failed.
    ErrorUrl,
    /// Progress of a recording.
    RecordingStatus,
    /// Where a recording lies.
    RecordingUrl,
    /// Asynchronous answering machine detection.
    MachineDetectionDuration,
    /// A media stream.
    StreamSid,
    /// A transcription.
    TranscriptionSid,
    /// How a dialled call went.
    DialCallStatus,
    /// What a caller pressed.
    Digits,
    /// What a caller said.
    SpeechResult,
    /// What a caller may have said so far: the part that may still change.
    UnstableSpeechResult,
    /// What a caller may have said so far: the part that will not change.
    StableSpeechResult,
    /// How waiting in a queue ended.
    QueueResult,
    /// Where in a queue the caller waits.
    QueuePosition,
    /// How long callers wait in a queue.
    AvgQueueTime,
    /// How many callers wait in a queue.
    CurrentQueueSize,
    /// What happened in a conference.
    StatusCallbackEvent,
}

impl Parameter {
    fn from_name(normalised: &[u8]) -> Option<Self> {
        Some(match normalised {
            b"accountsid" => Self::AccountSid,
            b"callsid" => Self::CallSid,
            b"parentcallsid" => Self::ParentCallSid,
            b"callstatus" => Self::CallStatus,
            b"errorcode" => Self::ErrorCode,
            b"errorurl" => Self::ErrorUrl,
            b"recordingstatus" => Self::RecordingStatus,
            b"recordingurl" => Self::RecordingUrl,
            b"machinedetectionduration" => Self::MachineDetectionDuration,
            b"streamsid" => Self::StreamSid,
            b"transcriptionsid" => Self::TranscriptionSid,
            b"dialcallstatus" => Self::DialCallStatus,
            b"digits" => Self::Digits,
            b"speechresult" => Self::SpeechResult,
            b"unstablespeechresult" => Self::UnstableSpeechResult,
            b"stablespeechresult" => Self::StableSpeechResult,
            b"queueresult" => Self::QueueResult,
            b"queueposition" => Self::QueuePosition,
            b"avgqueuetime" => Self::AvgQueueTime,
            b"currentqueuesize" => Self::CurrentQueueSize,
            b"statuscallbackevent" => Self::StatusCallbackEvent,
            _ => return None,
        })
    }

    const fn bit(self) -> u32 {
        1 << self as u16
    }
}

/// How many parameters a request usually has at most, and how long their names are together: room
/// that need not grow.
const USUAL_COUNT: usize = 32;
const USUAL_BYTES: usize = 384;

/// The parameters of a request: all names, and the values that decide the request's kind and
/// identity.
#[derive(Clone, Default)]
pub struct Parameters {
    /// All names in one text, as bytes: there are some twenty in each request, and they are only
    /// compared and hashed.
    text: Vec<u8>,
    names: Vec<Name>,
    known: u32,
    /// `call_sid`.
    pub call_sid: Option<CallSid>,
    /// `call_status`.
    pub call_status: Option<String>,
    /// `sequence_number`, which orders status callbacks.
    pub sequence_number: Option<String>,
    /// `direction`.
    pub direction: Option<String>,
    /// `callback_source`.
    pub callback_source: Option<String>,
}

impl Parameters {
    /// Collects parameters; `value` is asked only for those whose value matters.
    pub fn collect<K: AsRef<str>, V>(
        pairs: impl IntoIterator<Item = (K, V)>,
        mut value: impl FnMut(V) -> Option<String>,
    ) -> Self {
        let mut parameters = Self {
            text: Vec::with_capacity(USUAL_BYTES),
            names: Vec::with_capacity(USUAL_COUNT),
            ..Self::default()
        };
        for (key, raw) in pairs {
            let from = parameters.text.len();
            normalise(key.as_ref(), &mut parameters.text);
            let name = &parameters.text[from..];
            let first_bytes = first_bytes(name);
            parameters.known |= Parameter::from_name(name).map_or(0, Parameter::bit);
            match name {
                b"callsid" => {
                    parameters.call_sid = value(raw).and_then(|sid| CallSid::parse(&sid).ok());
                }
                b"callstatus" => parameters.call_status = value(raw),
                b"sequencenumber" => parameters.sequence_number = value(raw),
                b"direction" => parameters.direction = value(raw),
                b"callbacksource" => parameters.callback_source = value(raw),
                _ => {}
            }
            parameters.names.push(Name { first_bytes, place: from..parameters.text.len() });
        }
        let text = &parameters.text;
        parameters.names.sort_unstable_by(|a, b| a.cmp_in(text, b));
        parameters
    }

    /// Whether a parameter is there.
    pub const fn has(&self, parameter: Parameter) -> bool {
        self.known & parameter.bit() != 0
    }

    /// Whether the call was over when the request was made: Twilio obeys no TwiML any more.
    pub fn is_call_over(&self) -> bool {
        self.call_status.as_deref().is_some_and(|status| {
            matches!(status, "completed" | "busy" | "failed" | "no-answer" | "canceled")
        })
    }

    /// All names as UTF-8, normalised and sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.names.iter().map(|name| &self.text[name.place.clone()])
    }
}

/// A name in the text, and its first bytes, by which nearly all names differ: sorting by them takes
/// a third of the time.
#[derive(Clone)]
struct Name {
    first_bytes: u64,
    place: Range<usize>,
}

impl Name {
    /// The order of bytes, which is the order of text.
    fn cmp_in(&self, text: &[u8], other: &Self) -> Ordering {
        let whole = || text[self.place.clone()].cmp(&text[other.place.clone()]);
        self.first_bytes.cmp(&other.first_bytes).then_with(whole)
    }
}

/// The first eight bytes of a name, as a number of the same order.
fn first_bytes(name: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let count = name.len().min(bytes.len());
    bytes[..count].copy_from_slice(&name[..count]);
    u64::from_be_bytes(bytes)
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").field("count", &self.names.len()).finish_non_exhaustive()
    }
}

/// Writes the name of a parameter without case and underscores: `CallSid` and `call_sid` are one.
fn normalise(key: &str, text: &mut Vec<u8>) {
    if key.is_ascii() {
        let kept = key.bytes().filter(|&byte| byte != b'_');
        text.extend(kept.map(|byte| byte.to_ascii_lowercase()));
    } else {
        let kept = key.chars().filter(|&c| c != '_').flat_map(char::to_lowercase);
        text.extend(kept.collect::<String>().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_known_in_any_casing() {
        for name in ["call_sid", "CallSid", "callSid", "CALL_SID", "callsid", "Call_Sid"] {
            let parameters = Parameters::collect([(name.to_owned(), ())], |()| None);
            assert!(parameters.has(Parameter::CallSid), "{name}");
            assert!(!parameters.has(Parameter::CallStatus), "{name}");
            assert!(parameters.names().eq([b"callsid"]), "{name}");
        }
        let other = Parameters::collect([("parent_call_sid".to_owned(), ())], |()| None);
        assert!(!other.has(Parameter::CallSid));
    }

    #[test]
    fn five_values_are_kept_and_no_other_is_asked_for() {
        let names = [
            "CallSid",
            "CallStatus",
            "sequence_number",
            "direction",
            "callbackSource",
            "From",
            "digits",
        ];
        let pairs = names.map(|name| (name.to_owned(), name));
        let mut asked = Vec::new();
        let parameters = Parameters::collect(pairs, |name| {
            asked.push(name);
            Some(name.to_owned())
        });
        assert_eq!(asked, &names[..5]);
        assert_eq!(parameters.callback_source.as_deref(), Some("callbackSource"));
        assert_eq!(format!("{parameters:?}"), "Parameters { count: 7, .. }");
    }
}
