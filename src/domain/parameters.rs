//! The parameters of a request: which there are, and the four values that decide anything.
//!
//! Twilio documents them as `CallSid` and Call Events show them as `call_sid`: case and underscores
//! don't matter here. No other value is kept, and `Debug` shows none.

use std::fmt;
use std::ops::Range;

/// Parameters whose presence decides the kind of a request. Sources: the request parameters at
/// <https://www.twilio.com/docs/voice/twiml#request-parameters> and on the pages of the verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// The call that a request belongs to: every TwiML request has one.
    CallSid,
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
    /// How waiting in a queue ended.
    QueueResult,
    /// Where in a queue the caller waits.
    QueuePosition,
    /// How long callers wait in a queue.
    AvgQueueTime,
    /// How many callers wait in a queue.
    CurrentQueueSize,
}

impl Parameter {
    fn of(normalised: &str) -> Option<Self> {
        Some(match normalised {
            "callsid" => Self::CallSid,
            "callstatus" => Self::CallStatus,
            "errorcode" => Self::ErrorCode,
            "errorurl" => Self::ErrorUrl,
            "recordingstatus" => Self::RecordingStatus,
            "recordingurl" => Self::RecordingUrl,
            "machinedetectionduration" => Self::MachineDetectionDuration,
            "streamsid" => Self::StreamSid,
            "transcriptionsid" => Self::TranscriptionSid,
            "dialcallstatus" => Self::DialCallStatus,
            "digits" => Self::Digits,
            "speechresult" => Self::SpeechResult,
            "queueresult" => Self::QueueResult,
            "queueposition" => Self::QueuePosition,
            "avgqueuetime" => Self::AvgQueueTime,
            "currentqueuesize" => Self::CurrentQueueSize,
            _ => return None,
        })
    }

    const fn bit(self) -> u16 {
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
    /// All names in one text: there are some twenty in each request.
    text: String,
    names: Vec<Range<usize>>,
    known: u16,
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
            text: String::with_capacity(USUAL_BYTES),
            names: Vec::with_capacity(USUAL_COUNT),
            ..Self::default()
        };
        for (key, raw) in pairs {
            let from = parameters.text.len();
            normalise(key.as_ref(), &mut parameters.text);
            let name = &parameters.text[from..];
            parameters.known |= Parameter::of(name).map_or(0, Parameter::bit);
            match name {
                "callstatus" => parameters.call_status = value(raw),
                "sequencenumber" => parameters.sequence_number = value(raw),
                "direction" => parameters.direction = value(raw),
                "callbacksource" => parameters.callback_source = value(raw),
                _ => {}
            }
            parameters.names.push(from..parameters.text.len());
        }
        // The order of bytes is the order of text.
        let text = parameters.text.as_bytes();
        parameters.names.sort_unstable_by(|a, b| text[a.clone()].cmp(&text[b.clone()]));
        parameters
    }

    /// Whether a parameter is there.
    pub const fn has(&self, parameter: Parameter) -> bool {
        self.known & parameter.bit() != 0
    }

    /// All names, normalised and sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|name| &self.text[name.clone()])
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").field("count", &self.names.len()).finish_non_exhaustive()
    }
}

/// Writes the name of a parameter without case and underscores: `CallSid` and `call_sid` are one.
fn normalise(key: &str, text: &mut String) {
    if !key.is_ascii() {
        text.extend(key.chars().filter(|&c| c != '_').flat_map(char::to_lowercase));
        return;
    }
    let from = text.len();
    for part in key.split('_') {
        text.push_str(part);
    }
    text[from..].make_ascii_lowercase();
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
            assert!(parameters.names().eq(["callsid"]), "{name}");
        }
        let other = Parameters::collect([("parent_call_sid".to_owned(), ())], |()| None);
        assert!(!other.has(Parameter::CallSid));
    }

    #[test]
    fn four_values_are_kept_and_no_other_is_asked_for() {
        let names =
            ["CallStatus", "sequence_number", "direction", "callbackSource", "From", "digits"];
        let pairs = names.map(|name| (name.to_owned(), name));
        let mut asked = Vec::new();
        let parameters = Parameters::collect(pairs, |name| {
            asked.push(name);
            Some(name.to_owned())
        });
        assert_eq!(asked, &names[..4]);
        assert_eq!(parameters.callback_source.as_deref(), Some("callbackSource"));
        assert_eq!(format!("{parameters:?}"), "Parameters { count: 6, .. }");
    }
}
