//! The class of an answer's content type: a small closed set for a header that may say anything.

use super::label::label_enum;

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
    pub fn of(header: Option<&str>) -> Self {
        let essence = header.unwrap_or_default().split([';', ',']).next().unwrap_or_default();
        let essence = essence.trim().to_ascii_lowercase();
        match essence.as_str() {
            "" => Self::None,
            "text/xml" => Self::TextXml,
            "application/xml" => Self::ApplicationXml,
            "text/html" => Self::TextHtml,
            "text/plain" => Self::TextPlain,
            "application/json" => Self::ApplicationJson,
            other if other.ends_with("+xml") => Self::OtherXml,
            other if other.starts_with("audio/") => Self::Audio,
            _ => Self::Other,
        }
    }
}
