//! The verdict on a response: its code, failure and content type.
//!
//! Where Twilio's behaviour is uncertain, the response isn't counted as a failure.

mod no_answer;

use std::fmt;
use std::num::NonZeroU16;

use crate::domain::judge::content_type::ContentType;
use crate::domain::judge::kind::{Expected, RequestKind};
use crate::domain::judge::twiml::{self, Document, Malformation};
use crate::domain::words::call_event::{Body, Response};
use crate::domain::words::label::label_enum;

/// Twilio's limit on a TwiML document in bytes (error 11750).
const MAX_TWIML_BYTES: usize = 65_536;
/// The status of a response without content (RFC 9110, section 15.3.5).
const NO_CONTENT: u16 = 204;

/// The HTTP status of the application's response; `none` if there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(Option<NonZeroU16>);

impl Code {
    /// No response from the application.
    pub const NONE: Self = Self(None);

    /// Returns the code for an HTTP status; `None` outside 100–599.
    pub fn from_status(status: u16) -> Option<Self> {
        (100..=599).contains(&status).then(|| Self(NonZeroU16::new(status)))
    }

    /// Returns the code with this label, if there is one.
    pub fn from_label(label: &str) -> Option<Self> {
        if label == "none" {
            Some(Self::NONE)
        } else {
            label.parse().ok().and_then(Self::from_status)
        }
    }

    fn status(self) -> u16 {
        self.0.map_or(0, NonZeroU16::get)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => status.fmt(f),
            None => f.write_str("none"),
        }
    }
}

label_enum! {
    /// Why a request failed.
    pub enum Reason {
        /// No response: the application's response had no content type.
        MissingContentType = "missing_content_type",
        /// No response in time (Twilio gives up after at most 15 s).
        Timeout = "timeout",
        /// No response: too many redirects (Twilio's error 11215).
        Redirects = "redirects",
        /// No response: the TLS handshake failed, or the certificate is invalid.
        Tls = "tls",
        /// No response: the host name couldn't be resolved.
        Dns = "dns",
        /// No response: the connection failed, timed out or was lost.
        Connection = "connection",
        /// No response, for a reason that Twilio doesn't report.
        NoResponse = "no_response",
        /// The application responded with a 4xx status.
        Http4xx = "http_4xx",
        /// The application itself responded with a 5xx status.
        Http5xx = "http_5xx",
        /// TwiML of more than 64 kB (Twilio's error 11750).
        TooLarge = "too_large",
        /// A content type that Twilio can't use: JSON instead of TwiML, or anything but `audio/*` for audio to play
        /// (Twilio's error 12300).
        UnsupportedContentType = "unsupported_content_type",
        /// An empty or blank body where TwiML was expected.
        EmptyBody = "empty_body",
        /// HTML or plain text that isn't a TwiML document.
        NotTwiml = "not_twiml",
        /// XML that isn't well-formed, or has a DTD (Twilio's error 12100).
        MalformedXml = "malformed_xml",
        /// Well-formed XML whose root isn't `<Response>`.
        WrongRoot = "wrong_root",
    }
}

impl Reason {
    /// Returns the reasons for which a request of this kind can fail.
    pub fn possible_for(kind: RequestKind) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |reason| match reason {
            Self::MissingContentType
            | Self::Timeout
            | Self::Redirects
            | Self::Tls
            | Self::Dns
            | Self::Connection
            | Self::NoResponse
            | Self::Http4xx
            | Self::Http5xx => kind.expected() != Expected::Nothing,
            Self::UnsupportedContentType => {
                matches!(kind.expected(), Expected::Twiml | Expected::Audio)
            }
            Self::TooLarge
            | Self::EmptyBody
            | Self::NotTwiml
            | Self::MalformedXml
            | Self::WrongRoot => kind.expects_twiml(),
        })
    }
}

label_enum! {
    /// A problem with a response that isn't a failure.
    pub enum Warning {
        /// The response was a redirect (3xx other than 304).
        Redirect = "redirect",
        /// The TwiML contains a verb unknown to Twilio (warning 12200).
        UnknownVerb = "unknown_verb",
    }
}

/// The verdict on a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The status code.
    pub code: Code,
    /// Why the request failed, if it did.
    pub failure: Option<Reason>,
    /// The XML rule that was violated, if that is why the request failed.
    pub malformation: Option<Malformation>,
    /// The content type, for kinds that expect TwiML and got a genuine 2xx response.
    pub content_type: Option<ContentType>,
    /// A problem that isn't a failure.
    pub warning: Option<Warning>,
    /// Whether there was a 2xx response that couldn't be judged.
    pub is_unjudged: bool,
}

/// The error for a code that is neither 0 nor from 100 to 599; the event is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCode;

/// Judges a response. A missing response, or one without a code, counts as no response.
///
/// # Errors
/// Returns [`InvalidCode`] if the code isn't a valid HTTP status.
pub fn judge(expected: Expected, response: Option<&Response>) -> Result<Verdict, InvalidCode> {
    let no_answer = |reason| Verdict { failure: Some(reason), ..Verdict::success(Code::NONE) };
    let Some(response) = response else { return Ok(no_answer(Reason::NoResponse)) };
    let status = match response.code {
        None | Some(0) => return Ok(no_answer(Reason::NoResponse)),
        Some(status) => u16::try_from(status).map_err(|_| InvalidCode)?,
    };
    let code = Code::from_status(status).ok_or(InvalidCode)?;
    let answer = Verdict::success(code);
    if expected == Expected::Nothing {
        return Ok(answer);
    }
    if let Some(reason) = no_answer::reason(code, &response.body) {
        return Ok(no_answer(reason));
    }
    Ok(match code.status() {
        200..=299 => match expected {
            Expected::Twiml => judge_twiml(answer, response),
            Expected::IdleTwiml => Verdict { content_type: Some(content_type(response)), ..answer },
            Expected::Audio => judge_sound(answer, response),
            Expected::Status | Expected::Nothing => answer,
        },
        304 => answer,
        300..=399 => Verdict { warning: Some(Warning::Redirect), ..answer },
        400..=499 => Verdict { failure: Some(Reason::Http4xx), ..answer },
        500..=599 => Verdict { failure: Some(Reason::Http5xx), ..answer },
        _ => answer,
    })
}

impl Verdict {
    const fn success(code: Code) -> Self {
        Self {
            code,
            failure: None,
            malformation: None,
            content_type: None,
            warning: None,
            is_unjudged: false,
        }
    }
}

/// Judges a response to an audio download by its content type alone: Twilio plays `audio/*`, and an application
/// error message for anything else (<https://www.twilio.com/docs/api/errors/12300>).
fn judge_sound(answer: Verdict, response: &Response) -> Verdict {
    match content_type(response) {
        ContentType::Audio => answer,
        // Twilio replaces responses without a content type with a 502, so here it is just not shown.
        ContentType::None if answer.code.status() != NO_CONTENT => {
            Verdict { is_unjudged: true, ..answer }
        }
        ContentType::None
        | ContentType::TextXml
        | ContentType::ApplicationXml
        | ContentType::OtherXml
        | ContentType::TextHtml
        | ContentType::TextPlain
        | ContentType::ApplicationJson
        | ContentType::Other => Verdict { failure: Some(Reason::UnsupportedContentType), ..answer },
    }
}

fn content_type(response: &Response) -> ContentType {
    ContentType::from_header(response.content_type.as_deref())
}

fn judge_twiml(answer: Verdict, response: &Response) -> Verdict {
    use ContentType as Type;
    let content_type = content_type(response);
    let answer = Verdict { content_type: Some(content_type), ..answer };
    let failed = |reason| Verdict { failure: Some(reason), ..answer };
    let body = match &response.body {
        Body::Text(text) => Some(text.as_str()),
        Body::Structured | Body::Absent => None,
    };
    if body.is_some_and(|text| text.len() > MAX_TWIML_BYTES) && content_type != Type::Audio {
        return failed(Reason::TooLarge);
    }
    match content_type {
        Type::ApplicationJson | Type::Other => return failed(Reason::UnsupportedContentType),
        Type::Audio => return answer,
        Type::TextXml
        | Type::ApplicationXml
        | Type::OtherXml
        | Type::TextHtml
        | Type::TextPlain
        | Type::None => {}
    }
    let unjudged = Verdict { is_unjudged: true, ..answer };
    // A redacted body can't be judged.
    let Some(text) = body.map(twiml::without_byte_order_mark) else { return unjudged };
    if text.trim().is_empty() {
        return failed(Reason::EmptyBody);
    }
    let is_xml_expected = match content_type {
        Type::TextHtml | Type::TextPlain => false,
        Type::None => text.trim_start().starts_with('<'),
        Type::TextXml | Type::ApplicationXml | Type::OtherXml => true,
        Type::ApplicationJson | Type::Other | Type::Audio => true,
    };
    match twiml::read(text) {
        Document::Twiml { has_unknown_verb: true } => {
            Verdict { warning: Some(Warning::UnknownVerb), ..answer }
        }
        Document::Twiml { has_unknown_verb: false } => answer,
        Document::Malformed(_) | Document::WrongRoot if !is_xml_expected => {
            failed(Reason::NotTwiml)
        }
        Document::Malformed(malformation) => {
            Verdict { malformation: Some(malformation), ..failed(Reason::MalformedXml) }
        }
        Document::WrongRoot => failed(Reason::WrongRoot),
        Document::Unreadable => unjudged,
    }
}

#[cfg(test)]
mod tests;
