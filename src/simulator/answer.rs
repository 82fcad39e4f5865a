//! The responses of a simulated application, each with what an observer must find in it. The findings are
//! written by hand; nothing in the simulator judges a body.

use std::borrow::Cow;

const TWIML: &str =
    r#"<?xml version="1.0" encoding="UTF-8"?><Response><Say>Hello</Say><Pause/></Response>"#;

/// A response to a request from Twilio, and its truth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// The response code; `None` makes the whole response null.
    pub(crate) code: Option<u16>,
    /// The duration of the request in milliseconds; `None` omits it.
    pub(crate) duration_ms: Option<u64>,
    /// The content type as the application wrote it.
    pub(crate) content_type: Option<&'static str>,
    /// The class of the content type.
    pub(crate) class: &'static str,
    pub(crate) body: Body,
    /// The failure reason if this response is a failure for any request.
    pub(crate) failure: Option<&'static str>,
    /// The failure reason if this response is a failure only where TwiML is expected.
    pub(crate) twiml_failure: Option<&'static str>,
    /// The warning for this response where TwiML is expected.
    pub(crate) warning: Option<&'static str>,
}

/// The value of `response_body`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    /// The key is missing.
    Absent,
    /// The value is null.
    Null,
    /// This text.
    Text(&'static str),
    /// TwiML of exactly this many bytes.
    Padded(usize),
    /// The text of Twilio's proxy with this `Error:` line: the application sent no response.
    Unreachable(&'static str),
}

impl Answer {
    /// Whether the application itself responded.
    pub(crate) fn is_genuine(&self) -> bool {
        !matches!(self.body, Body::Unreachable(_)) && !matches!(self.code, None | Some(0))
    }

    /// Whether the application itself responded with a 2xx.
    pub(crate) fn is_genuine_success(&self) -> bool {
        self.is_genuine() && self.code.is_some_and(|code| (200..300).contains(&code))
    }

    pub(crate) fn has_no_body(&self) -> bool {
        matches!(self.body, Body::Absent | Body::Null)
    }

    /// The value of the label `code`.
    pub(crate) fn code_label(&self) -> String {
        match self.code {
            Some(code) if self.is_genuine() => code.to_string(),
            Some(_) | None => "none".to_owned(),
        }
    }

    /// The same response with this duration.
    pub(crate) fn after_ms(self, duration_ms: u64) -> Answer {
        Answer { duration_ms: Some(duration_ms), ..self }
    }
}

impl Body {
    /// Returns the text; `None` for a body that is null or absent.
    pub(crate) fn text(
        self,
        url: &str,
        account_sid: &str,
        call_sid: &str,
    ) -> Option<Cow<'static, str>> {
        match self {
            Body::Absent | Body::Null => None,
            Body::Text(text) => Some(Cow::Borrowed(text)),
            Body::Padded(bytes) => {
                let (head, tail) = ("<Response><Say>", "</Say></Response>");
                let room = bytes.saturating_sub(head.len() + tail.len());
                Some(Cow::Owned(format!("{head}{}{tail}", "a".repeat(room))))
            }
            Body::Unreachable(error) => Some(Cow::Owned(format!(
                "Twilio was unable to fetch content from: {url}\nError: {error}\n\
                 Account SID: {account_sid}\nSID: {call_sid}\n\
                 Request ID: 00000000-0000-0000-0000-000000000001\nRemote Host: 192.0.2.10\n\
                 Request Method: POST\nRequest URI: {url}\nURL Fragment: true"
            ))),
        }
    }
}

/// Valid TwiML.
pub(crate) const TWIML_OK: Answer = Answer {
    code: Some(200),
    duration_ms: Some(85),
    content_type: Some("text/xml; charset=utf-8"),
    class: "text/xml",
    body: Body::Text(TWIML),
    failure: None,
    twiml_failure: None,
    warning: None,
};

/// The usual response to a callback.
pub(crate) const NO_CONTENT: Answer = Answer {
    code: Some(204),
    duration_ms: Some(12),
    content_type: None,
    class: "none",
    body: Body::Text(""),
    twiml_failure: Some("empty_body"),
    ..TWIML_OK
};

/// A redirect, which Twilio follows with another request.
pub(crate) const REDIRECT: Answer = Answer {
    code: Some(302),
    content_type: Some("text/html"),
    class: "text/html",
    body: Body::Text("<a href=\"/moved\">Found</a>"),
    warning: Some("redirect"),
    ..TWIML_OK
};

/// Twilio's cached copy is still valid.
pub(crate) const NOT_MODIFIED: Answer =
    Answer { code: Some(304), content_type: None, class: "none", body: Body::Null, ..TWIML_OK };

/// A media file.
pub(crate) const AUDIO: Answer = Answer {
    content_type: Some("audio/mpeg"),
    class: "audio",
    body: Body::Text("ID3 made-up sound"),
    ..TWIML_OK
};

/// No response at all.
pub(crate) const NULL: Answer =
    Answer { code: None, duration_ms: None, failure: Some("no_response"), ..TWIML_OK };

/// A server error of the application itself.
pub(crate) const SERVER_ERROR: Answer = Answer {
    code: Some(500),
    content_type: Some("text/html"),
    class: "text/html",
    body: Body::Text("<h1>Internal Server Error</h1>"),
    failure: Some("http_5xx"),
    ..TWIML_OK
};

/// A client error of the application itself.
pub(crate) const NOT_FOUND: Answer =
    Answer { code: Some(404), failure: Some("http_4xx"), ..SERVER_ERROR };

/// JSON where TwiML is expected.
pub(crate) const JSON: Answer = Answer {
    content_type: Some("application/json"),
    class: "application/json",
    body: Body::Text(r#"{"ok":true}"#),
    twiml_failure: Some("unsupported_content_type"),
    ..TWIML_OK
};

/// The response of a handler that has nothing to say.
pub(crate) const PLAIN_OK: Answer = Answer {
    content_type: Some("text/plain"),
    class: "text/plain",
    body: Body::Text("OK"),
    twiml_failure: Some("not_twiml"),
    ..TWIML_OK
};

/// A file from a storage bucket that doesn't know content types.
pub(crate) const BINARY: Answer =
    Answer { content_type: Some("binary/octet-stream"), class: "other", ..AUDIO };

/// Twilio's timeout of 15 s.
pub(crate) const TIMEOUT: Answer = unreachable(
    "Total timeout is triggered. Configured tt is 15000ms and we attempted 1 time(s)",
    "timeout",
    15_002,
);

/// Responses that are valid TwiML, or count as such.
pub(crate) const SUCCESSES: &[Answer] = &[
    Answer { content_type: Some("application/xml"), class: "application/xml", ..TWIML_OK },
    Answer { content_type: Some("application/voice+xml"), class: "other_xml", ..TWIML_OK },
    Answer { content_type: Some("TEXT/HTML; Charset=UTF-8"), class: "text/html", ..TWIML_OK },
    Answer { content_type: Some("text/plain"), class: "text/plain", ..TWIML_OK },
    Answer { content_type: None, class: "none", ..TWIML_OK },
    Answer { code: Some(201), body: Body::Text("<Response/>"), ..TWIML_OK },
    Answer { body: Body::Padded(65_536), ..TWIML_OK },
    Answer { body: Body::Null, ..TWIML_OK },
    Answer {
        body: Body::Absent,
        content_type: Some("application/xml"),
        class: "application/xml",
        ..TWIML_OK
    },
    Answer {
        body: Body::Text("<Response><Say>Hi</Say><Speak/><Shout/></Response>"),
        warning: Some("unknown_verb"),
        ..TWIML_OK
    },
    AUDIO,
    Answer { content_type: Some("audio/x-wav"), ..AUDIO },
];

/// Responses of the application that are failures where TwiML is expected.
pub(crate) const FAILURES: &[Answer] = &[
    SERVER_ERROR,
    NOT_FOUND,
    Answer { code: Some(502), body: Body::Text("<h1>Bad Gateway</h1>"), ..SERVER_ERROR },
    Answer {
        code: Some(503),
        content_type: None,
        class: "none",
        body: Body::Text(""),
        ..SERVER_ERROR
    },
    Answer { code: Some(403), ..NOT_FOUND },
    Answer { body: Body::Padded(65_537), twiml_failure: Some("too_large"), ..TWIML_OK },
    JSON,
    Answer { content_type: Some("application/octet-stream"), class: "other", ..JSON },
    Answer { body: Body::Text(""), twiml_failure: Some("empty_body"), ..TWIML_OK },
    Answer { body: Body::Text(" \n\t"), twiml_failure: Some("empty_body"), ..TWIML_OK },
    NO_CONTENT,
    Answer {
        content_type: Some("text/html; charset=utf-8"),
        class: "text/html",
        body: Body::Text("<!DOCTYPE html><html><body><p>Login<br></body></html>"),
        twiml_failure: Some("not_twiml"),
        ..TWIML_OK
    },
    Answer {
        content_type: Some("text/plain"),
        class: "text/plain",
        body: Body::Text("Hello"),
        twiml_failure: Some("not_twiml"),
        ..TWIML_OK
    },
    Answer {
        body: Body::Text("<Response><Say>Hello</Response>"),
        twiml_failure: Some("malformed_xml"),
        ..TWIML_OK
    },
    Answer {
        content_type: Some("application/xml"),
        class: "application/xml",
        body: Body::Text(
            "<!DOCTYPE Response [<!ENTITY a \"b\">]><Response><Say>&a;</Say></Response>",
        ),
        twiml_failure: Some("malformed_xml"),
        ..TWIML_OK
    },
    Answer {
        content_type: Some("application/xml"),
        class: "application/xml",
        body: Body::Text("<response><Say>Hello</Say></response>"),
        twiml_failure: Some("wrong_root"),
        ..TWIML_OK
    },
];

/// No response from the application, with each cause that Twilio's proxy names. The lines are recorded ones
/// and, from "HTTP bad host name" on, titles of Twilio's error pages 11210, 11236, 11215 and 11206.
pub(crate) const UNREACHABLE: &[Answer] = &[
    TIMEOUT,
    unreachable(
        "Error reading response: Response does not contain content type",
        "missing_content_type",
        140,
    ),
    unreachable("HTTP Connection Failure - Read timed out", "timeout", 10_004),
    unreachable("Handshake failure", "tls", 60),
    unreachable("Blacklisted IP 10.0.0.5", "connection", 2),
    unreachable(
        "Failed to connect to ip 192.0.2.6: connection timed out: /192.0.2.6:80",
        "connection",
        10_002,
    ),
    unreachable("Failed to connect to ip 192.0.2.6: No route to host", "connection", 5),
    unreachable("HTTP bad host name", "dns", 20),
    unreachable("Certificate Invalid - Certificate Expired", "tls", 61),
    unreachable("HTTP too many redirects", "redirects", 700),
    unreachable("HTTP protocol violation", "no_response", 33),
    Answer {
        code: Some(0),
        duration_ms: Some(5_004),
        content_type: None,
        class: "none",
        body: Body::Null,
        failure: Some("no_response"),
        ..TWIML_OK
    },
];

const fn unreachable(error: &'static str, reason: &'static str, duration_ms: u64) -> Answer {
    Answer {
        code: Some(502),
        duration_ms: Some(duration_ms),
        content_type: Some("text/html"),
        class: "text/html",
        body: Body::Unreachable(error),
        failure: Some(reason),
        ..TWIML_OK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_responses_of_the_application_are_genuine() {
        assert!(TWIML_OK.is_genuine_success());
        assert!(SERVER_ERROR.is_genuine() && !SERVER_ERROR.is_genuine_success());
        assert!(UNREACHABLE.iter().all(|answer| !answer.is_genuine()));
        assert_eq!(TIMEOUT.code_label(), "none");
        assert_eq!(NULL.code_label(), "none");
    }

    #[test]
    fn a_padded_body_has_the_exact_size() {
        let body = Body::Padded(65_537).text("", "", "").expect("padded is text");
        assert_eq!(body.len(), 65_537);
    }

    #[test]
    fn the_proxys_text_matches_a_recorded_one() {
        const RECORDED: &str =
            include_str!("../../tests/fixtures/twilio/real-debugger-webhook-sms-timeout-2023.json");
        let recorded: serde_json::Value = serde_json::from_str(RECORDED).expect("JSON");
        let recorded = recorded["webhook"]["response"]["body"].as_str().expect("text");
        let url = "http://app.example.com/sms";
        let body = TIMEOUT.body.text(url, "AC", "SM").expect("text");
        let keys = |text: &str| -> Vec<String> {
            text.lines()
                .filter_map(|line| line.split_once(": "))
                .map(|(key, _)| key.to_owned())
                .collect()
        };
        assert_eq!(keys(&body), keys(recorded));
        let two_lines = |text: &str| text.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(two_lines(&body), two_lines(recorded));
    }
}
