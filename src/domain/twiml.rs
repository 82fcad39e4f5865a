//! Whether a text is a TwiML document, judged by a streaming XML reader.
//!
//! Reads once from start to end, builds no tree, expands no entity and processes no DTD.
//! Does not judge whether the verbs make sense together: that is the application's business.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// Deepest nesting that is still read: TwiML needs four levels, a hostile document has no bound.
const MAX_DEPTH: usize = 64;

/// The verbs that may stand directly in `<Response>`. Source: the element names generated in
/// twilio-node's `VoiceResponse`, documented at <https://www.twilio.com/docs/voice/twiml>.
const VERBS: [&str; 20] = [
    "Connect", "Dial", "Echo", "Enqueue", "Gather", "Hangup", "Leave", "Pause", "Pay", "Play",
    "Prompt", "Queue", "Record", "Redirect", "Refer", "Reject", "Say", "Sms", "Start", "Stop",
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
    Malformed,
    /// Well-formed, but the root isn't `<Response>`.
    WrongRoot,
}

/// Reads a text as a TwiML document.
pub fn read(text: &str) -> Document {
    match scan(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        Ok(document) => document,
        Err(NotWellFormed) => Document::Malformed,
    }
}

struct NotWellFormed;

fn scan(text: &str) -> Result<Document, NotWellFormed> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut depth = 0_usize;
    let mut root_is_response = None;
    let mut has_unknown_verb = false;
    let mut is_first = true;
    loop {
        let event = reader.read_event().map_err(|_| NotWellFormed)?;
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                check_attributes(element)?;
                match depth {
                    0 if root_is_response.is_some() => return Err(NotWellFormed),
                    0 => root_is_response = Some(element.name().as_ref() == "Response"),
                    1 => has_unknown_verb |= !is_verb(element),
                    _ => {}
                }
                if matches!(event, Event::Start(_)) {
                    depth += 1;
                }
                if depth > MAX_DEPTH {
                    return Err(NotWellFormed);
                }
            }
            Event::End(_) => depth = depth.checked_sub(1).ok_or(NotWellFormed)?,
            Event::Text(text) if depth == 0 => {
                if !text.trim_ascii().is_empty() {
                    return Err(NotWellFormed);
                }
            }
            Event::Text(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::CData(_) if depth > 0 => {}
            Event::GeneralRef(reference) if depth > 0 => check_reference(reference)?,
            Event::Decl(_) if is_first => {}
            Event::CData(_) | Event::GeneralRef(_) | Event::Decl(_) | Event::DocType(_) => {
                return Err(NotWellFormed);
            }
            Event::Eof => break,
        }
        is_first = false;
    }
    match root_is_response {
        Some(_) if depth > 0 => Err(NotWellFormed),
        None => Err(NotWellFormed),
        Some(true) => Ok(Document::Twiml { has_unknown_verb }),
        Some(false) => Ok(Document::WrongRoot),
    }
}

fn is_verb(element: &BytesStart<'_>) -> bool {
    VERBS.contains(&element.name().as_ref())
}

fn check_attributes(element: &BytesStart<'_>) -> Result<(), NotWellFormed> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|_| NotWellFormed)?;
        if attribute.value.contains('<') {
            return Err(NotWellFormed);
        }
    }
    Ok(())
}

/// A character reference, or one of the five entities that need no DTD (XML 1.0, section 4.6).
fn check_reference(reference: &BytesRef<'_>) -> Result<(), NotWellFormed> {
    let is_known = match reference.resolve_char_ref() {
        Ok(Some(_)) => true,
        Ok(None) => matches!(reference.as_ref(), "amp" | "lt" | "gt" | "apos" | "quot"),
        Err(_) => false,
    };
    if is_known { Ok(()) } else { Err(NotWellFormed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWIML: Document = Document::Twiml { has_unknown_verb: false };
    const UNKNOWN_VERB: Document = Document::Twiml { has_unknown_verb: true };

    #[test]
    fn a_document_is_judged_by_form_root_and_verbs() {
        use Document::{Malformed, WrongRoot};
        for (text, expected) in [
            ("<Response/>", TWIML),
            (
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Say>Hi &amp; bye &#33;</Say></Response>\n",
                TWIML,
            ),
            ("\u{feff}<Response><Gather><Say>x</Say><Odd/></Gather></Response>", TWIML),
            ("<!-- note --><Response><![CDATA[x]]><Hangup/></Response>", TWIML),
            ("<Response><Speak>x</Speak></Response>", UNKNOWN_VERB),
            ("<Response><say>x</say></Response>", UNKNOWN_VERB),
            ("<response/>", WrongRoot),
            ("<html><body>Oops</body></html>", WrongRoot),
            ("", Malformed),
            ("hello", Malformed),
            ("{\"a\":1}", Malformed),
            ("<Response><Say>x</Response>", Malformed),
            ("<Response><Say>x</Say>", Malformed),
            ("<Response/><Response/>", Malformed),
            ("<Response/>trailing", Malformed),
            ("Warning: x in y.php <Response/>", Malformed),
            (" <?xml version=\"1.0\"?><Response/>", Malformed),
            ("<!DOCTYPE Response><Response/>", Malformed),
            ("<Response><Say>&undefined;</Say></Response>", Malformed),
            ("<Response><Say>a & b</Say></Response>", Malformed),
            ("<Response><Say a=\"1\" a=\"2\"/></Response>", Malformed),
            ("<Response><Say a=b/></Response>", Malformed),
            ("<Response></Respons>", Malformed),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("<Response>{}", "<a>".repeat(1_000_000));
        assert_eq!(read(&deep), Document::Malformed);
    }
}
