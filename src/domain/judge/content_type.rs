//! Classifies a response's content type into a small, closed set.

use crate::domain::words::label::label_enum;

label_enum! {
    /// The class of a response's content type. Only the first three are XML.
    pub enum ContentType {
        /// `text/xml`.
        TextXml = "text/xml",
        /// `application/xml`.
        ApplicationXml = "application/xml",
        /// Any other type that ends in `+xml`.
        OtherXml = "other_xml",
        /// `text/html`, which Twilio parses as TwiML if possible.
        TextHtml = "text/html",
        /// `text/plain`, which Twilio reads aloud unless it is TwiML.
        TextPlain = "text/plain",
        /// `application/json`, which Twilio rejects.
        ApplicationJson = "application/json",
        /// `audio/*`, which Twilio plays.
        Audio = "audio",
        /// Anything else, which Twilio rejects.
        Other = "other",
        /// No content type.
        None = "none",
    }
}

impl ContentType {
    /// Classifies a `Content-Type` header (RFC 9110, section 8.3), ignoring parameters and case.
    pub fn from_header(header: Option<&str>) -> Self {
        let essence = header.unwrap_or_default().split([';', ',']).next().unwrap_or_default();
        let essence = essence.trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        let ends_with = |name: &str| {
            let at = essence.len().checked_sub(name.len());
            at.and_then(|at| essence.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(name))
        };
        match essence {
            "" => Self::None,
            _ if is("text/xml") => Self::TextXml,
            _ if is("application/xml") => Self::ApplicationXml,
            _ if is("text/html") => Self::TextHtml,
            _ if is("text/plain") => Self::TextPlain,
            _ if is("application/json") => Self::ApplicationJson,
            _ if ends_with("+xml") => Self::OtherXml,
            _ if essence.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("audio/")) => {
                Self::Audio
            }
            _ => Self::Other,
        }
    }
}
