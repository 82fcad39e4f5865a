//! The parameters of a request: all names, and the five values that are needed.
//!
//! Twilio documents names such as `CallSid`, but Call Events show `call_sid`: case and underscores are
//! ignored. No other value is kept, and `Debug` omits them all.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use crate::domain::words::sid::CallSid;

/// Parameters whose presence determines the kind of a request. Sources: the request parameters at
/// <https://www.twilio.com/docs/voice/twiml#request-parameters>, and the pages of the verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// The account; present in every webhook.
    AccountSid,
    /// The call that a request belongs to; present in every TwiML request.
    CallSid,
    /// The call that dialled this one.
    ParentCallSid,
    /// The status of the request's call.
    CallStatus,
    /// Why the fallback URL is requested.
    ErrorCode,
    /// The URL that failed.
    ErrorUrl,
    /// The progress of a recording.
    RecordingStatus,
    /// The location of a recording.
    RecordingUrl,
    /// Asynchronous answering machine detection.
    MachineDetectionDuration,
    /// A media stream.
    StreamSid,
    /// A transcription.
    TranscriptionSid,
    /// The outcome of a dialled call.
    DialCallStatus,
    /// The keys that a caller pressed.
    Digits,
    /// The recognised speech of a caller.
    SpeechResult,
    /// A partial result of speech recognition: the part that may still change.
    UnstableSpeechResult,
    /// A partial result of speech recognition: the part that won't change.
    StableSpeechResult,
    /// How a caller left a queue.
    QueueResult,
    /// The caller's position in a queue.
    QueuePosition,
    /// The average waiting time in a queue.
    AvgQueueTime,
    /// The number of callers in a queue.
    CurrentQueueSize,
    /// The event of a conference.
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

/// The initial capacity for names; enough for most requests.
const USUAL_COUNT: usize = 32;
/// The initial capacity for the bytes of all names; enough for most requests.
const USUAL_BYTES: usize = 384;

/// The parameters of a request: all names, and the values that determine its kind and identity.
#[derive(Clone, Default)]
pub struct Parameters {
    /// All names, concatenated: a request has about twenty, and they are only compared and hashed.
    text: Vec<u8>,
    names: Vec<Name>,
    /// A bit for each [`Parameter`] that is present.
    present: u32,
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
    /// Collects parameters; `value` is called only for those whose value is kept.
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
            parameters.present |= Parameter::from_name(name).map_or(0, Parameter::bit);
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
            parameters.names.push(Name { first_bytes, range: from..parameters.text.len() });
        }
        let text = &parameters.text;
        parameters.names.sort_unstable_by(|a, b| a.cmp_in(text, b));
        parameters
    }

    /// Whether a parameter is present.
    pub const fn has(&self, parameter: Parameter) -> bool {
        self.present & parameter.bit() != 0
    }

    /// Whether the call was over when the request was made, so that Twilio no longer executes TwiML.
    pub fn is_call_over(&self) -> bool {
        self.call_status.as_deref().is_some_and(|status| {
            matches!(status, "completed" | "busy" | "failed" | "no-answer" | "canceled")
        })
    }

    /// Returns all names as UTF-8, normalised and sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.names.iter().map(|name| &self.text[name.range.clone()])
    }
}

/// A name in the text, and its first bytes, by which nearly all names differ: sorting by them takes
/// a third of the time.
#[derive(Clone)]
struct Name {
    first_bytes: u64,
    range: Range<usize>,
}

impl Name {
    /// Compares names bytewise, which is also the order of UTF-8 text.
    fn cmp_in(&self, text: &[u8], other: &Self) -> Ordering {
        let whole = || text[self.range.clone()].cmp(&text[other.range.clone()]);
        self.first_bytes.cmp(&other.first_bytes).then_with(whole)
    }
}

/// Returns the first eight bytes of a name as a number with the same order.
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

/// Appends a parameter name in lower case without underscores, so that `CallSid` equals `call_sid`.
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
    fn case_and_underscores_of_a_parameter_are_ignored() {
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
    fn only_five_values_are_read_and_kept() {
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
        let mut read = Vec::new();
        let parameters = Parameters::collect(pairs, |name| {
            read.push(name);
            Some(name.to_owned())
        });
        assert_eq!(read, &names[..5]);
        assert_eq!(parameters.callback_source.as_deref(), Some("callbackSource"));
        assert_eq!(format!("{parameters:?}"), "Parameters { count: 7, .. }");
    }
}
