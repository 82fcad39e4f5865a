//! Whether a text is a TwiML document.
//!
//! Reads once from start to end, in linear time, with one allocation in all; builds no tree, expands
//! no entity and processes no DTD. Does not judge whether the verbs make sense together: that is the
//! application's business.

mod reader;

pub use reader::Malformation;
use reader::{Markup, Reader};

/// Deepest nesting that is still read. TwiML needs five levels, and parsers have such a bound
/// themselves (libxml2's is 256): beyond it, nobody can tell what Twilio makes of the document.
const MAX_DEPTH: usize = 256;

/// How a text begins whose UTF-16 was taken for bytes: the mark of the byte order, or a `<` with
/// half a character beside it.
const MISREAD_UTF_16: [&str; 5] =
    ["\u{ff}\u{fe}", "\u{fe}\u{ff}", "\u{fffd}\u{fffd}", "<\0", "\0<"];

/// UTF-8's mark of the byte order, as it is and as Latin-1.
const BYTE_ORDER_MARKS: [&str; 2] = ["\u{feff}", "\u{ef}\u{bb}\u{bf}"];

/// The verbs that may stand directly in `<Response>`. Source: the element names generated in
/// twilio-node's `VoiceResponse`, documented at <https://www.twilio.com/docs/voice/twiml>; and
/// `<Annotate>`, for which there are errors (<https://www.twilio.com/docs/api/errors/13112>).
const VERBS: [&str; 21] = [
    "Annotate", "Connect", "Dial", "Echo", "Enqueue", "Gather", "Hangup", "Leave", "Pause", "Pay",
    "Play", "Prompt", "Queue", "Record", "Redirect", "Refer", "Reject", "Say", "Sms", "Start",
    "Stop",
];

/// What a text is, as TwiML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// A well-formed `<Response>`.
    Twiml {
        /// Whether a first-level element is no verb that Twilio knows (its warning 12200).
        has_unknown_verb: bool,
    },
    /// Not well-formed, or with a DTD (Twilio's error 12100).
    Malformed(Malformation),
    /// Well-formed, but the root isn't `<Response>`.
    WrongRoot,
    /// Nobody can tell: the text was decoded wrongly on its way to us, or is nested too deeply.
    Unreadable,
}

impl Document {
    fn is_twiml(self) -> bool {
        matches!(self, Self::Twiml { .. })
    }
}

/// The text behind a mark of the byte order, which is no part of it.
pub fn without_byte_order_mark(text: &str) -> &str {
    BYTE_ORDER_MARKS.iter().find_map(|mark| text.strip_prefix(mark)).unwrap_or(text)
}

/// Reads a text, without a mark of the byte order, as a TwiML document.
pub fn read(text: &str) -> Document {
    if MISREAD_UTF_16.iter().any(|start| text.starts_with(start)) {
        return Document::Unreadable;
    }
    let mut document = None;
    match scan(text, &mut document) {
        Ok(document) => document,
        Err(malformation) if document.is_none_or(|document| !document.is_twiml()) => {
            Document::Malformed(malformation.in_front_of(text))
        }
        Err(malformation) => Document::Malformed(malformation),
    }
}

fn scan(text: &str, document: &mut Option<Document>) -> Result<Document, Malformation> {
    let mut reader = Reader::new(text)?;
    while let Some(markup) = reader.next()? {
        let Markup::Element { name, depth } = markup else { continue };
        // Behind a prefix, if there is one.
        let local_name = || name.rsplit(':').next().unwrap_or(name);
        match depth {
            0 if local_name() == "Response" => {
                *document = Some(Document::Twiml { has_unknown_verb: false })
            }
            0 => *document = Some(Document::WrongRoot),
            1 if document.is_some_and(Document::is_twiml) && !VERBS.contains(&local_name()) => {
                *document = Some(Document::Twiml { has_unknown_verb: true });
            }
            MAX_DEPTH.. => return Ok(Document::Unreadable),
            _ => {}
        }
    }
    document.ok_or(Malformation::Truncated)
}

#[cfg(test)]
mod tests;
