//! The purposes of Twilio's requests, with the parameters that each carries. Names and values follow Twilio's
//! documentation of webhooks; every value is made up.

/// The purpose of a request, and its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    pub(crate) kind: &'static str,
    pub(crate) expects: ExpectedAnswer,
    pub(crate) call: CallParameters,
    pub(crate) extra: &'static [(&'static str, &'static str)],
}

/// How Twilio uses the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedAnswer {
    /// It executes TwiML, or plays audio.
    Twiml,
    /// It requests TwiML but ignores it, because the call has ended.
    IgnoredTwiml,
    /// It plays audio.
    Media,
    /// It ignores the body.
    Status,
}

/// Which of the standard parameters are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CallParameters {
    /// All, with this `call_status`.
    All(&'static str),
    /// Only the SIDs, as in many callbacks.
    Sids,
    /// None: Twilio downloads a file.
    None,
}

const fn twiml(
    kind: &'static str,
    status: &'static str,
    extra: &'static [(&'static str, &'static str)],
) -> Purpose {
    Purpose { kind, expects: ExpectedAnswer::Twiml, call: CallParameters::All(status), extra }
}

/// An action of a call that has ended: Twilio ignores the response.
const fn ignored_twiml(
    kind: &'static str,
    status: &'static str,
    extra: &'static [(&'static str, &'static str)],
) -> Purpose {
    Purpose { expects: ExpectedAnswer::IgnoredTwiml, ..twiml(kind, status, extra) }
}

const fn callback(kind: &'static str, extra: &'static [(&'static str, &'static str)]) -> Purpose {
    Purpose { kind, expects: ExpectedAnswer::Status, call: CallParameters::Sids, extra }
}

pub(crate) const VOICE_URL_INBOUND: Purpose = twiml("voice_url", "ringing", &[]);
pub(crate) const VOICE_URL_OUTBOUND: Purpose = twiml("voice_url", "in-progress", &[]);
pub(crate) const TWIML_REQUEST: Purpose = twiml("twiml_request", "in-progress", &[]);
pub(crate) const GATHERED_DIGITS: Purpose =
    twiml("gather_action", "in-progress", &[("digits", "1"), ("finished_on_key", "#")]);
pub(crate) const GATHERED_SPEECH: Purpose = twiml(
    "gather_action",
    "in-progress",
    &[("speech_result", "opening hours"), ("confidence", "0.93"), ("language", "en-US")],
);
/// A partial speech result: Twilio ignores the response.
pub(crate) const PARTIAL_RESULT: Purpose = Purpose {
    kind: "gather_callback",
    expects: ExpectedAnswer::Status,
    call: CallParameters::All("in-progress"),
    extra: &[("sequence_number", "0"), ("unstable_speech_result", "opening"), ("stability", "0.8")],
};
/// A `<Dial record>`: its action also carries a recording.
pub(crate) const DIALLED: Purpose = twiml(
    "dial_action",
    "in-progress",
    &[
        ("dial_call_status", "completed"),
        ("dial_call_duration", "4"),
        ("dial_bridged", "true"),
        ("recording_url", "https://api.twilio.com/2010-04-01/Recordings/RE0"),
    ],
);
/// The caller hung up during a recording: an action of a call that has ended.
pub(crate) const RECORDED: Purpose = ignored_twiml(
    "record_action",
    "completed",
    &[
        ("recording_url", "https://api.twilio.com/2010-04-01/Recordings/RE0"),
        ("recording_duration", "3"),
        ("digits", "hangup"),
    ],
);
/// The caller hung up during another verb.
pub(crate) const GATHERED_AFTER_END: Purpose =
    ignored_twiml("gather_action", "completed", &[("digits", "1")]);
pub(crate) const DIALLED_AFTER_END: Purpose =
    ignored_twiml("dial_action", "completed", &[("dial_call_status", "no-answer")]);
pub(crate) const ENQUEUED_AFTER_END: Purpose = ignored_twiml(
    "enqueue_action",
    "completed",
    &[("queue_result", "hangup"), ("queue_sid", "QU0")],
);
pub(crate) const ENQUEUED: Purpose = twiml(
    "enqueue_action",
    "in-progress",
    &[("queue_result", "bridged"), ("queue_sid", "QU0"), ("queue_time", "7")],
);
pub(crate) const WAITING: Purpose = twiml(
    "wait_url",
    "in-progress",
    &[("queue_position", "1"), ("avg_queue_time", "7"), ("current_queue_size", "1")],
);
pub(crate) const FALLBACK: Purpose = twiml(
    "fallback_url",
    "in-progress",
    &[("error_code", "11200"), ("error_url", "https://ivr.example.com/menu")],
);
pub(crate) const RECORDING_CALLBACK: Purpose = callback(
    "recording_callback",
    &[
        ("recording_status", "completed"),
        ("recording_source", "RecordVerb"),
        ("recording_url", "https://api.twilio.com/2010-04-01/Recordings/RE0"),
    ],
);
pub(crate) const AMD_CALLBACK: Purpose =
    callback("amd_callback", &[("machine_detection_duration", "2100"), ("answered_by", "human")]);
pub(crate) const STREAM_CALLBACK: Purpose = callback(
    "stream_callback",
    &[("stream_sid", "MZ00000000000000000000000000000001"), ("stream_event", "stream-started")],
);
pub(crate) const TRANSCRIPTION_CALLBACK: Purpose = callback(
    "transcription_callback",
    &[("transcription_sid", "GT00000000000000000000000000000001"), ("track", "inbound_track")],
);
pub(crate) const OTHER_CALLBACK: Purpose =
    callback("other_callback", &[("payment_card_type", "visa"), ("for", "payment-card-number")]);
pub(crate) const MEDIA: Purpose = Purpose {
    kind: "media",
    expects: ExpectedAnswer::Media,
    call: CallParameters::None,
    extra: &[],
};

/// A status callback with a `CallbackSource` parameter.
pub(crate) const fn status_callback(status: &'static str) -> Purpose {
    Purpose {
        kind: "status_callback",
        expects: ExpectedAnswer::Status,
        call: CallParameters::All(status),
        extra: &[
            ("callback_source", "call-progress-events"),
            ("sequence_number", "0"),
            ("call_duration", "9"),
        ],
    }
}

/// An older status callback, recognised only by its final status.
pub(crate) const fn legacy_status_callback(status: &'static str) -> Purpose {
    Purpose { extra: &[("call_duration", "9"), ("duration", "1")], ..status_callback(status) }
}
