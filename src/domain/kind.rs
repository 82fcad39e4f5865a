//! The kind of a request: who asked for what, and whether TwiML was expected.
//!
//! A pure function of one Call Event. The first rule that matches decides; the parameters are those
//! of Twilio's documentation (<https://www.twilio.com/docs/voice/twiml#request-parameters> and the
//! pages of the verbs).

use super::call_event::CallEvent;
use super::content_type::ContentType;
use super::label::label_enum;
use super::parameters::{Parameter, Parameters};
use super::webhook_url::WebhookUrl;

label_enum! {
    /// What a request was for.
    pub enum RequestKind {
        /// The customer's own call of Twilio's REST API: no webhook.
        ApiRequest = "api_request",
        /// Twilio asks the fallback URL after a failure.
        FallbackUrl = "fallback_url",
        /// Progress of the call, to whoever wants to know.
        StatusCallback = "status_callback",
        /// Progress of a recording.
        RecordingCallback = "recording_callback",
        /// The result of asynchronous answering machine detection.
        AmdCallback = "amd_callback",
        /// Progress of a media stream.
        StreamCallback = "stream_callback",
        /// Progress of a transcription.
        TranscriptionCallback = "transcription_callback",
        /// The download of a sound.
        Media = "media",
        /// What to do after `<Dial>`.
        DialAction = "dial_action",
        /// What to do after `<Record>`.
        RecordAction = "record_action",
        /// What to do with what a caller entered or said.
        GatherAction = "gather_action",
        /// What to do after `<Enqueue>`.
        EnqueueAction = "enqueue_action",
        /// What a caller hears while waiting in a queue.
        WaitUrl = "wait_url",
        /// What to do with a call that begins.
        VoiceUrl = "voice_url",
        /// Any other question about a live call: redirects, whispers.
        TwimlRequest = "twiml_request",
        /// Everything else.
        OtherCallback = "other_callback",
    }
}

impl RequestKind {
    /// Whether Twilio executes the answer as TwiML.
    pub const fn expects_twiml(self) -> bool {
        match self {
            Self::FallbackUrl
            | Self::DialAction
            | Self::RecordAction
            | Self::GatherAction
            | Self::EnqueueAction
            | Self::WaitUrl
            | Self::VoiceUrl
            | Self::TwimlRequest => true,
            Self::ApiRequest
            | Self::StatusCallback
            | Self::RecordingCallback
            | Self::AmdCallback
            | Self::StreamCallback
            | Self::TranscriptionCallback
            | Self::Media
            | Self::OtherCallback => false,
        }
    }

    /// The kind of a Call Event's request.
    pub fn of(event: &CallEvent, url: &WebhookUrl<'_>) -> Self {
        let parameters = &event.request.parameters;
        let has = |parameter| parameters.has(parameter);
        let has_call_status = has(Parameter::CallStatus);
        if is_rest_api(url) {
            Self::ApiRequest
        } else if has(Parameter::ErrorCode) && has(Parameter::ErrorUrl) {
            Self::FallbackUrl
        } else if parameters.callback_source.as_deref() == Some("call-progress-events") {
            Self::StatusCallback
        } else if has(Parameter::RecordingStatus) {
            Self::RecordingCallback
        } else if has(Parameter::MachineDetectionDuration) && !has_call_status {
            Self::AmdCallback
        } else if has(Parameter::StreamSid) {
            Self::StreamCallback
        } else if has(Parameter::TranscriptionSid) {
            Self::TranscriptionCallback
        } else if !has_call_status && !has(Parameter::CallSid) && answers_audio(event) {
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
        } else if parameters.call_status.as_deref().is_some_and(is_final) {
            // Older callbacks carry no callback_source, and a finished call obeys no TwiML.
            Self::StatusCallback
        } else if begins_a_call(parameters) {
            Self::VoiceUrl
        } else if has(Parameter::CallSid) && has_call_status {
            Self::TwimlRequest
        } else {
            Self::OtherCallback
        }
    }
}

/// Twilio's REST API: `api.twilio.com`, with or without a region, or an edge and a region. A base
/// URL of ours plays no part: a proxy in front of the API is no application.
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

fn answers_audio(event: &CallEvent) -> bool {
    event.response.as_ref().is_some_and(|response| {
        ContentType::of(response.content_type.as_deref()) == ContentType::Audio
    })
}

fn is_final(status: &str) -> bool {
    matches!(status, "completed" | "busy" | "failed" | "no-answer" | "canceled")
}

fn begins_a_call(parameters: &Parameters) -> bool {
    matches!(
        (parameters.direction.as_deref(), parameters.call_status.as_deref()),
        (Some("inbound"), Some("ringing")) | (Some("outbound-api"), Some("in-progress"))
    )
}

#[cfg(test)]
mod tests {
    use super::super::call_event::{Body, Request, Response};
    use super::*;

    const HOOK: &str = "https://app.example.com/x";

    #[test]
    fn the_first_rule_that_matches_decides() {
        use RequestKind::*;
        const CALL: [&str; 2] = ["call_sid=CA", "call_status=in-progress"];
        for (parameters, expected) in [
            (&["error_code=11200", "error_url=x", "digits=1"][..], FallbackUrl),
            (&["callback_source=call-progress-events", "call_status=completed"], StatusCallback),
            (&["CallbackSource=call-progress-events", "CallStatus=ringing"], StatusCallback),
            (&["recording_status=completed", "recording_url=x"], RecordingCallback),
            (&["machine_detection_duration=1", "answered_by=human"], AmdCallback),
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
            (&[CALL[0]], OtherCallback),
            (&[], OtherCallback),
        ] {
            check(HOOK, parameters, None, expected);
        }
    }

    #[test]
    fn the_rest_api_is_known_by_host_and_path() {
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
            check(url, &[], None, expected);
        }
    }

    #[test]
    fn a_sound_is_media_only_without_a_call() {
        check(HOOK, &[], Some("audio/mpeg"), RequestKind::Media);
        check(
            HOOK,
            &["call_sid=CA", "call_status=in-progress"],
            Some("audio/mpeg"),
            RequestKind::TwimlRequest,
        );
    }

    fn check(url: &str, parameters: &[&str], content_type: Option<&str>, expected: RequestKind) {
        let pairs = parameters.iter().filter_map(|pair| pair.split_once('='));
        let event = CallEvent {
            request: Request {
                method: "POST".to_owned(),
                url: url.to_owned(),
                parameters: Parameters::collect(
                    pairs.map(|(key, value)| (key.to_owned(), value)),
                    |value| Some(value.to_owned()),
                ),
            },
            response: Some(Response {
                code: Some(200),
                duration_ms: None,
                content_type: content_type.map(str::to_owned),
                body: Body::Absent,
                created_at: None,
            }),
        };
        let parsed = WebhookUrl::parse(url).expect("a URL");
        assert_eq!(RequestKind::of(&event, &parsed), expected, "{url} {parameters:?}");
    }
}
