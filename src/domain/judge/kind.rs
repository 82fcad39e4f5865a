//! The kind of a request: its purpose, and what Twilio expects in response.
//!
//! The kind is a pure function of one Call Event, and the first matching rule decides. The parameters are
//! documented at <https://www.twilio.com/docs/voice/twiml#request-parameters> and on the pages of the verbs.

use crate::domain::words::call_event::CallEvent;
use crate::domain::words::label::label_enum;
use crate::domain::words::parameters::{Parameter, Parameters};
use crate::domain::words::webhook_url::WebhookUrl;

label_enum! {
    /// The purpose of a request.
    pub enum RequestKind {
        /// The customer's own request to Twilio's REST API, not a webhook.
        ApiRequest = "api_request",
        /// The fallback URL, requested after a failure.
        FallbackUrl = "fallback_url",
        /// The progress of the call.
        StatusCallback = "status_callback",
        /// Partial speech results of `<Gather>`.
        GatherCallback = "gather_callback",
        /// The progress of a recording.
        RecordingCallback = "recording_callback",
        /// The result of asynchronous answering machine detection.
        AmdCallback = "amd_callback",
        /// The progress of a media stream.
        StreamCallback = "stream_callback",
        /// The progress of a transcription.
        TranscriptionCallback = "transcription_callback",
        /// The download of an audio file.
        Media = "media",
        /// The `action` URL of `<Dial>`.
        DialAction = "dial_action",
        /// The `action` URL of `<Record>`.
        RecordAction = "record_action",
        /// The `action` URL of `<Gather>`, with the caller's input.
        GatherAction = "gather_action",
        /// The `action` URL of `<Enqueue>`.
        EnqueueAction = "enqueue_action",
        /// The wait URL: TwiML or audio for a caller in a queue.
        WaitUrl = "wait_url",
        /// The URL that handles a new call.
        VoiceUrl = "voice_url",
        /// Any other request for TwiML during a call: redirects, whispers.
        TwimlRequest = "twiml_request",
        /// Everything else.
        OtherCallback = "other_callback",
    }
}

/// What Twilio expects in response to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// TwiML, which it executes, or audio, which it plays.
    Twiml,
    /// TwiML, which it ignores because the call is over.
    IdleTwiml,
    /// Audio, which it plays.
    Audio,
    /// Only a status; it ignores the body.
    Status,
    /// Nothing: the response comes from Twilio itself.
    Nothing,
}

impl RequestKind {
    /// Returns what Twilio expects in response while the call is active.
    pub const fn expected(self) -> Expected {
        match self {
            Self::FallbackUrl
            | Self::DialAction
            | Self::RecordAction
            | Self::GatherAction
            | Self::EnqueueAction
            | Self::WaitUrl
            | Self::VoiceUrl
            | Self::TwimlRequest => Expected::Twiml,
            Self::Media => Expected::Audio,
            Self::StatusCallback
            | Self::GatherCallback
            | Self::RecordingCallback
            | Self::AmdCallback
            | Self::StreamCallback
            | Self::TranscriptionCallback
            | Self::OtherCallback => Expected::Status,
            Self::ApiRequest => Expected::Nothing,
        }
    }

    /// Whether Twilio executes the response as TwiML.
    pub const fn expects_twiml(self) -> bool {
        matches!(self.expected(), Expected::Twiml)
    }

    /// Whether the caller of an active call hears the response: TwiML or audio.
    pub const fn is_caller_facing(self) -> bool {
        matches!(self.expected(), Expected::Twiml | Expected::Audio)
    }

    /// Returns the kind of a Call Event's request.
    pub fn classify(event: &CallEvent, url: &WebhookUrl<'_>) -> Self {
        let parameters = &event.request.parameters;
        let has = |parameter| parameters.has(parameter);
        let has_call_status = has(Parameter::CallStatus);
        if is_rest_api(url) {
            Self::ApiRequest
        } else if has(Parameter::ErrorCode) && has(Parameter::ErrorUrl) {
            Self::FallbackUrl
        } else if parameters.callback_source.as_deref() == Some("call-progress-events") {
            Self::StatusCallback
        } else if is_partial_result(parameters) {
            Self::GatherCallback
        } else if has(Parameter::RecordingStatus) {
            Self::RecordingCallback
        } else if has(Parameter::MachineDetectionDuration) && !has_call_status {
            Self::AmdCallback
        } else if has(Parameter::StreamSid) {
            Self::StreamCallback
        } else if has(Parameter::TranscriptionSid) {
            Self::TranscriptionCallback
        } else if has(Parameter::StatusCallbackEvent) {
            // Events of conferences and participants; Twilio ignores the response.
            Self::OtherCallback
        } else if is_download(event) {
            Self::Media
        } else if has(Parameter::DialCallStatus) {
            Self::DialAction
        } else if has(Parameter::RecordingUrl) && has_call_status {
            Self::RecordAction
        } else if has(Parameter::Digits) || has(Parameter::SpeechResult) {
            Self::GatherAction
        } else if has(Parameter::QueueResult) {
            Self::EnqueueAction
        } else if has(Parameter::QueuePosition)
            || has(Parameter::AvgQueueTime)
            || has(Parameter::CurrentQueueSize)
        {
            Self::WaitUrl
        } else if parameters.is_call_over() {
            // Older callbacks have no callback_source, and Twilio executes no TwiML after a call.
            Self::StatusCallback
        } else if is_new_call(parameters) {
            Self::VoiceUrl
        } else if has(Parameter::CallSid) && has_call_status {
            Self::TwimlRequest
        } else {
            Self::OtherCallback
        }
    }
}

/// Whether a URL belongs to Twilio's REST API: `api.twilio.com`, optionally with a region, or an edge and a
/// region. The exporter's configured base URL is irrelevant: a proxy for the API isn't the application.
fn is_rest_api(url: &WebhookUrl<'_>) -> bool {
    let is_api_host = url.host == "api.twilio.com"
        || url
            .host
            .strip_prefix("api.")
            .and_then(|rest| rest.strip_suffix(".twilio.com"))
            .is_some_and(|labels| {
                labels.split('.').count() <= 2 && labels.split('.').all(|label| !label.is_empty())
            });
    is_api_host && url.path.starts_with("/2010-04-01/Accounts/")
}

/// Whether a request carries partial results of speech recognition, along with a call's usual parameters.
fn is_partial_result(parameters: &Parameters) -> bool {
    (parameters.has(Parameter::UnstableSpeechResult)
        || parameters.has(Parameter::StableSpeechResult))
        && !parameters.has(Parameter::SpeechResult)
        && !parameters.has(Parameter::Digits)
}

/// Whether a request downloads an audio file: Twilio sends no details of the call with it, while every webhook
/// names at least the account.
fn is_download(event: &CallEvent) -> bool {
    let of_webhook = [Parameter::AccountSid, Parameter::CallSid, Parameter::CallStatus];
    event.request.method.eq_ignore_ascii_case("GET")
        && !of_webhook.into_iter().any(|parameter| event.request.parameters.has(parameter))
}

fn is_new_call(parameters: &Parameters) -> bool {
    matches!(
        (parameters.direction.as_deref(), parameters.call_status.as_deref()),
        (Some("inbound"), Some("ringing")) | (Some("outbound-api"), Some("in-progress"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::words::call_event::Request;

    const HOOK: &str = "https://app.example.com/x";

    #[test]
    fn the_first_matching_rule_decides() {
        use RequestKind::*;
        const CALL: [&str; 2] = ["call_sid=CA", "call_status=in-progress"];
        for (parameters, expected) in [
            (&["error_code=11200", "error_url=x", "digits=1"][..], FallbackUrl),
            (&["callback_source=call-progress-events", "call_status=completed"], StatusCallback),
            (&["CallbackSource=call-progress-events", "CallStatus=ringing"], StatusCallback),
            (&["recording_status=completed", "recording_url=x"], RecordingCallback),
            (&["machine_detection_duration=1", "answered_by=human"], AmdCallback),
            (&["unstable_speech_result=x", "stability=0.8", CALL[0], CALL[1]], GatherCallback),
            (&["StableSpeechResult=x", "SequenceNumber=1", CALL[0], CALL[1]], GatherCallback),
            (&["unstable_speech_result=x", "speech_result=y", CALL[0], CALL[1]], GatherAction),
            (&["unstable_speech_result=", "digits=1", CALL[0], CALL[1]], GatherAction),
            (&["stream_sid=MZ"], StreamCallback),
            (&["transcription_sid=GT"], TranscriptionCallback),
            (&["dial_call_status=completed", CALL[0], CALL[1]], DialAction),
            (&["dial_call_status=completed", CALL[0], "call_status=completed"], DialAction),
            (&["recording_url=x", CALL[0], CALL[1]], RecordAction),
            (&["digits=1", CALL[0], CALL[1]], GatherAction),
            (&["SpeechResult=yes", CALL[0], CALL[1]], GatherAction),
            (&["queue_result=hangup", CALL[0], CALL[1]], EnqueueAction),
            (&["queue_position=1", CALL[0], CALL[1]], WaitUrl),
            (&["avg_queue_time=1", CALL[0], CALL[1]], WaitUrl),
            (&["current_queue_size=1", CALL[0], CALL[1]], WaitUrl),
            (&[CALL[0], "call_status=completed", "direction=inbound"], StatusCallback),
            (&[CALL[0], "call_status=ringing", "direction=inbound"], VoiceUrl),
            (&[CALL[0], CALL[1], "direction=outbound-api"], VoiceUrl),
            (&[CALL[0], CALL[1], "direction=inbound"], TwimlRequest),
            (&["status_callback_event=participant-join", CALL[0], CALL[1]], OtherCallback),
            (&[CALL[0]], OtherCallback),
            (&[], OtherCallback),
        ] {
            check("POST", HOOK, parameters, expected);
        }
    }

    #[test]
    fn the_rest_api_is_recognised_by_host_and_path() {
        use RequestKind::{ApiRequest, OtherCallback};
        for (url, expected) in [
            ("https://api.twilio.com/2010-04-01/Accounts/AC/Calls.json", ApiRequest),
            ("https://api.us1.twilio.com/2010-04-01/Accounts/AC/Calls.json", ApiRequest),
            ("https://api.dublin.ie1.twilio.com/2010-04-01/Accounts/AC/Calls.json", ApiRequest),
            ("https://api.a.b.c.twilio.com/2010-04-01/Accounts/AC/Calls.json", OtherCallback),
            ("https://api.evil.com/2010-04-01/Accounts/AC/Calls.json", OtherCallback),
            ("https://api.twilio.com/elsewhere", OtherCallback),
            ("https://api..twilio.com/2010-04-01/Accounts/AC/Calls.json", OtherCallback),
        ] {
            check("POST", url, &[], expected);
            check("GET", url, &["account_sid=AC"], expected);
        }
    }

    #[test]
    fn a_download_is_a_get_without_a_call_or_account() {
        use RequestKind::{Media, OtherCallback, TwimlRequest};
        for (method, parameters, expected) in [
            ("GET", &[][..], Media),
            ("get", &["token=x"], Media),
            ("POST", &[], OtherCallback),
            ("", &[], OtherCallback),
            ("GET", &["call_sid=CA", "call_status=in-progress"], TwimlRequest),
            ("GET", &["account_sid=AC", "status_callback_event=conference-end"], OtherCallback),
            ("GET", &["account_sid=AC", "result=success"], OtherCallback),
            ("GET", &["call_status=in-progress"], OtherCallback),
        ] {
            check(method, HOOK, parameters, expected);
        }
    }

    fn check(method: &str, url: &str, parameters: &[&str], expected: RequestKind) {
        let pairs = parameters.iter().filter_map(|pair| pair.split_once('='));
        let event = CallEvent {
            request: Request {
                method: method.to_owned(),
                url: url.to_owned(),
                parameters: Parameters::collect(
                    pairs.map(|(key, value)| (key.to_owned(), value)),
                    |value| Some(value.to_owned()),
                ),
            },
            response: None,
        };
        let parsed = WebhookUrl::parse(url).expect("valid URL");
        assert_eq!(
            RequestKind::classify(&event, &parsed),
            expected,
            "{method} {url} {parameters:?}"
        );
    }
}
