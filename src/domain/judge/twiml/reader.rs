//! Reads an XML 1.0 document without a DTD, one markup at a time, and rejects malformed input.
//!
//! Source: <https://www.w3.org/TR/xml/>, whose productions are cited below. Every conforming parser, including
//! Twilio's (error 12100), rejects text that violates one of them, so leniency would hide failures.
//! Namespaces are ignored: Twilio documents `<amazon:effect>` without a declaration.

mod grammar;

use memchr::{memchr, memchr2};

use crate::domain::words::label::label_enum;
use grammar::{attributes, characters, declaration, name_length, reference, skip_space};

label_enum! {
    /// The XML rule that a text violates, distinguished where it helps to find the mistake.
    pub enum Malformation {
        /// Text before the XML declaration or the root element: a blank line, or a warning from the application's
        /// runtime.
        BeforeProlog = "before the prolog",
        /// The text ends before the document does.
        Truncated = "truncated",
        /// A reference to an entity or character that XML doesn't define or allow, such as `&nbsp;`.
        Entity = "entity",
        /// An `&` that should be `&amp;`, as in a URL.
        BareAmpersand = "bare ampersand",
        /// An end tag that doesn't match the open element.
        MismatchedTag = "mismatched tag",
        /// Any other rule.
        Other = "other",
    }
}

impl Malformation {
    /// Returns [`Self::BeforeProlog`] instead of [`Self::Other`] if the document only starts further into the
    /// text: applications write HTML warnings before it.
    pub(super) fn or_before_prolog(self, text: &str) -> Self {
        let begins = |start| text.find(start).is_some_and(|at| at > 0);
        if self == Self::Other && (begins("<?xml") || begins("<Response")) {
            Self::BeforeProlog
        } else {
            self
        }
    }
}

/// Returns an error unless a rule holds.
fn require(holds: bool) -> Result<(), Malformation> {
    if holds { Ok(()) } else { Err(Malformation::Other) }
}

/// Returns why a text doesn't start as expected: it is truncated if empty, else `otherwise`.
fn unless_ended(text: &str, otherwise: Malformation) -> Malformation {
    if skip_space(text).is_empty() { Malformation::Truncated } else { otherwise }
}

/// A piece of markup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Markup<'a> {
    /// An element begins.
    Element {
        /// The name with its prefix.
        name: &'a str,
        /// The number of enclosing elements.
        depth: usize,
    },
    /// An end tag, comment, CDATA section or processing instruction.
    Other,
}

/// Reads a document step by step.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a str,
    open: Vec<&'a str>,
    has_root: bool,
    has_bracket: bool,
}

impl<'a> Reader<'a> {
    /// Starts reading a document after its XML declaration.
    pub(super) fn new(text: &'a str) -> Result<Self, Malformation> {
        let characters = characters(text)?;
        let rest = declaration(text)?;
        // Enough for TwiML; deeper documents grow it.
        let open = Vec::with_capacity(8);
        Ok(Self { rest, open, has_root: false, has_bracket: characters.has_bracket })
    }

    /// Reads past the next markup; returns `None` at the end of the document.
    pub(super) fn next(&mut self) -> Result<Option<Markup<'a>>, Malformation> {
        self.text()?;
        let Some(rest) = self.rest.strip_prefix('<') else {
            let is_whole = self.open.is_empty() && self.has_root;
            return if is_whole { Ok(None) } else { Err(Malformation::Truncated) };
        };
        match rest.as_bytes().first() {
            Some(b'/') => self.end_tag(&rest[1..])?,
            Some(b'!') => self.comment_or_section(&rest[1..])?,
            Some(b'?') => self.instruction(&rest[1..])?,
            Some(_) | None => return self.start_tag(rest).map(Some),
        }
        Ok(Some(Markup::Other))
    }

    /// Reads text up to the next markup (production 14, CharData); only white space is allowed outside the root.
    fn text(&mut self) -> Result<(), Malformation> {
        let bytes = self.rest.as_bytes();
        let special = memchr2(b'<', b'&', bytes).unwrap_or(bytes.len());
        let has_ampersand = bytes.get(special) == Some(&b'&');
        let length = if has_ampersand {
            memchr(b'<', &bytes[special..]).map_or(bytes.len(), |more| special + more)
        } else {
            special
        };
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        if self.open.is_empty() {
            let is_blank = skip_space(text).is_empty();
            return if is_blank { Ok(()) } else { Err(self.outside_root()) };
        }
        if rest.is_empty() {
            return Err(Malformation::Truncated);
        }
        require(!self.has_bracket || !text.contains("]]>"))?;
        if has_ampersand { references(text) } else { Ok(()) }
    }

    /// Returns the error for content that isn't allowed outside the root.
    fn outside_root(&self) -> Malformation {
        if self.has_root { Malformation::Other } else { Malformation::BeforeProlog }
    }

    /// Reads a start tag or an empty element (productions 40 and 44), starting at its name.
    fn start_tag(&mut self, text: &'a str) -> Result<Markup<'a>, Malformation> {
        let depth = self.open.len();
        let (name, rest) = text.split_at(name_length(text));
        if name.is_empty() {
            return Err(unless_ended(text, Malformation::Other));
        }
        require(depth > 0 || !self.has_root)?;
        self.has_root = true;
        let rest = attributes(rest)?;
        if let Some(rest) = rest.strip_prefix('>') {
            self.open.push(name);
            self.rest = rest;
        } else {
            let otherwise =
                || unless_ended(rest.strip_prefix('/').unwrap_or(rest), Malformation::Other);
            self.rest = rest.strip_prefix("/>").ok_or_else(otherwise)?;
        }
        Ok(Markup::Element { name, depth })
    }

    /// Reads an end tag (production 42), starting at its name.
    fn end_tag(&mut self, text: &'a str) -> Result<(), Malformation> {
        let open = self.open.pop().ok_or(Malformation::MismatchedTag)?;
        let (name, rest) = text.split_at(name_length(text));
        let rest = skip_space(rest);
        if rest.is_empty() {
            return Err(Malformation::Truncated);
        }
        if name != open {
            return Err(Malformation::MismatchedTag);
        }
        self.rest = rest.strip_prefix('>').ok_or(Malformation::Other)?;
        Ok(())
    }

    /// Reads a comment (production 15), or a CDATA section (production 18) inside an element; rejects a DOCTYPE and
    /// anything else.
    fn comment_or_section(&mut self, text: &'a str) -> Result<(), Malformation> {
        const SECTION: &str = "[CDATA[";
        if let Some(comment) = text.strip_prefix("--") {
            let (_, rest) = comment.split_once("--").ok_or(Malformation::Truncated)?;
            let otherwise = || unless_ended(rest, Malformation::Other);
            self.rest = rest.strip_prefix('>').ok_or_else(otherwise)?;
        } else if "--".starts_with(text) || SECTION.starts_with(text) {
            return Err(Malformation::Truncated);
        } else {
            require(!self.open.is_empty())?;
            let section = text.strip_prefix(SECTION).ok_or(Malformation::Other)?;
            (_, self.rest) = section.split_once("]]>").ok_or(Malformation::Truncated)?;
        }
        Ok(())
    }

    /// Reads a processing instruction (production 16), starting at its target.
    fn instruction(&mut self, text: &'a str) -> Result<(), Malformation> {
        let (target, rest) = text.split_at(name_length(text));
        if rest.is_empty() {
            return Err(Malformation::Truncated);
        }
        if target.is_empty() {
            return Err(Malformation::Other);
        }
        if target.eq_ignore_ascii_case("xml") {
            return Err(if self.open.is_empty() {
                self.outside_root()
            } else {
                Malformation::Other
            });
        }
        let (content, after) = rest.split_once("?>").ok_or(Malformation::Truncated)?;
        require(content.is_empty() || skip_space(content).len() < content.len())?;
        self.rest = after;
        Ok(())
    }
}

/// Checks that every `&` begins a reference (production 67).
fn references(text: &str) -> Result<(), Malformation> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('&') {
        rest = reference(after)?;
    }
    Ok(())
}
