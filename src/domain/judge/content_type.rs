//! The class of an answer's content type: a small closed set for a header that may say anything.

use crate::domain::words::label::label_enum;

label_enum! {
    /// The class of an answer's content type. All but the first three are non-XML.
    pub enum ContentType {
        /// `text/xml`.
        TextXml = "text/xml",
        /// `application/xml`.
        ApplicationXml = "application/xml",
        /// Any other type that ends in `+xml`.
        OtherXml = "other_xml",
        /// `text/html`, which Twilio reads as TwiML if it can.
        TextHtml = "text/html",
        /// `text/plain`, which Twilio reads aloud if it is no TwiML.
        TextPlain = "text/plain",
        /// `application/json`, which Twilio refuses.
        ApplicationJson = "application/json",
        /// A sound, which Twilio plays.
        Audio = "audio",
        /// Anything else, which Twilio refuses.
        Other = "other",
        /// No content type.
        None = "none",
    }
}

impl ContentType {
    /// The class of a `Content-Type` header (RFC 9110, section 8.3), parameters and case ignored.
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
