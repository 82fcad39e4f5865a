//! Reads an XML 1.0 document without a DTD, markup by markup, and refuses what isn't well-formed.
//!
//! Source: <https://www.w3.org/TR/xml/>, whose productions are named below. What breaks one of them
//! is refused by every conforming parser, Twilio's included (error 12100), so leniency would hide
//! failures. Namespaces are no matter: Twilio documents `<amazon:effect>` without a declaration.

mod grammar;

use memchr::{memchr, memchr2};

use crate::domain::words::label::label_enum;
use grammar::{attributes, characters, declaration, name_length, reference, skip_space};

label_enum! {
    /// Which rule of XML a text breaks, as far as that leads a person to the mistake.
    pub enum Malformation {
        /// Something stands before the XML declaration or the root: a warning of the application's
        /// language, a blank line.
        BeforeProlog = "before the prolog",
        /// The text ends in the middle.
        Truncated = "truncated",
        /// A reference to an entity or a character that XML doesn't know, such as `&nbsp;`.
        Entity = "entity",
        /// An `&` that should be `&amp;`, as in a URL.
        BareAmpersand = "bare ampersand",
        /// An end tag that doesn't belong to the element that is open.
        MismatchedTag = "mismatched tag",
        /// Any other rule.
        Other = "other",
    }
}

impl Malformation {
    /// The same, or what it comes down to where the document itself begins further on: applications
    /// write warnings in HTML in front of it.
    pub(super) fn in_front_of(self, text: &str) -> Self {
        let begins = |start| text.find(start).is_some_and(|at| at > 0);
        if self == Self::Other && (begins("<?xml") || begins("<Response")) {
            Self::BeforeProlog
        } else {
            self
        }
    }
}

/// Nothing, or an error where a rule doesn't hold.
fn require(holds: bool) -> Result<(), Malformation> {
    if holds { Ok(()) } else { Err(Malformation::Other) }
}

/// Why something expected doesn't stand at the beginning of a text: because it ends, or for another
/// reason.
fn unless_ended(text: &str, otherwise: Malformation) -> Malformation {
    if skip_space(text).is_empty() { Malformation::Truncated } else { otherwise }
}

/// A piece of markup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Markup<'a> {
    /// An element begins.
    Element {
        /// Its name with its prefix.
        name: &'a str,
        /// How many elements it stands in.
        depth: usize,
    },
    /// An element ends, or a comment, a CDATA section or a processing instruction was passed.
    Other,
}

/// A reader in the middle of a document.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a str,
    open: Vec<&'a str>,
    has_root: bool,
    has_bracket: bool,
}

impl<'a> Reader<'a> {
    /// Begins to read a document, past its declaration.
    pub(super) fn new(text: &'a str) -> Result<Self, Malformation> {
        let characters = characters(text)?;
        let rest = declaration(text)?;
        // Room for what TwiML needs: deeper documents grow it.
        let open = Vec::with_capacity(8);
        Ok(Self { rest, open, has_root: false, has_bracket: characters.has_bracket })
    }

    /// Reads to behind the next markup; `None` at the document's end.
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

    /// Text up to the next markup (production 14, CharData); outside the root only white space.
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

    /// What stands outside the root and may not.
    fn outside_root(&self) -> Malformation {
        if self.has_root { Malformation::Other } else { Malformation::BeforeProlog }
    }

    /// A start tag or an empty element (productions 40 and 44), from its name on.
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

    /// An end tag (production 42), from its name on.
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

    /// A comment (production 15), or a CDATA section (production 18) in an element; a DOCTYPE and
    /// anything else is refused.
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

    /// A processing instruction (production 16), from its target on.
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

/// Every `&` begins a reference (production 67).
fn references(text: &str) -> Result<(), Malformation> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('&') {
        rest = reference(after)?;
    }
    Ok(())
}
