//! Reads an XML 1.0 document without a DTD, markup by markup, and refuses what isn't well-formed.
//!
//! Source: <https://www.w3.org/TR/xml/>, whose productions are named below. What breaks one of them
//! is refused by every conforming parser, Twilio's included (error 12100), so leniency would hide
//! failures. Namespaces are no matter: Twilio documents `<amazon:effect>` without a declaration.

mod grammar;

use memchr::{memchr, memchr2};

use grammar::{attributes, characters, declaration, name_length, reference, skip_space};

/// The text breaks a rule of XML. Which one doesn't matter: Twilio tells its customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotWellFormed;

/// Nothing, or an error where a rule doesn't hold.
fn require(holds: bool) -> Result<(), NotWellFormed> {
    if holds { Ok(()) } else { Err(NotWellFormed) }
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
    pub(super) fn new(text: &'a str) -> Result<Self, NotWellFormed> {
        let characters = characters(text)?;
        let rest = declaration(text)?;
        // Room for what TwiML needs: deeper documents grow it.
        let open = Vec::with_capacity(8);
        Ok(Self { rest, open, has_root: false, has_bracket: characters.has_bracket })
    }

    /// Reads to behind the next markup; `None` at the document's end.
    pub(super) fn next(&mut self) -> Result<Option<Markup<'a>>, NotWellFormed> {
        self.text()?;
        let Some(rest) = self.rest.strip_prefix('<') else {
            return require(self.open.is_empty() && self.has_root).map(|()| None);
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
    fn text(&mut self) -> Result<(), NotWellFormed> {
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
            return require(skip_space(text).is_empty());
        }
        require(!self.has_bracket || !text.contains("]]>"))?;
        if has_ampersand { references(text) } else { Ok(()) }
    }

    /// A start tag or an empty element (productions 40 and 44), from its name on.
    fn start_tag(&mut self, text: &'a str) -> Result<Markup<'a>, NotWellFormed> {
        let depth = self.open.len();
        require(depth > 0 || !self.has_root)?;
        self.has_root = true;
        let (name, rest) = text.split_at(name_length(text));
        require(!name.is_empty())?;
        let rest = attributes(rest)?;
        if let Some(rest) = rest.strip_prefix('>') {
            self.open.push(name);
            self.rest = rest;
        } else {
            self.rest = rest.strip_prefix("/>").ok_or(NotWellFormed)?;
        }
        Ok(Markup::Element { name, depth })
    }

    /// An end tag (production 42), from its name on.
    fn end_tag(&mut self, text: &'a str) -> Result<(), NotWellFormed> {
        let name = self.open.pop().ok_or(NotWellFormed)?;
        let rest = text.strip_prefix(name).ok_or(NotWellFormed)?;
        self.rest = skip_space(rest).strip_prefix('>').ok_or(NotWellFormed)?;
        Ok(())
    }

    /// A comment (production 15), or a CDATA section (production 18) in an element; a DOCTYPE and
    /// anything else is refused.
    fn comment_or_section(&mut self, text: &'a str) -> Result<(), NotWellFormed> {
        if let Some(comment) = text.strip_prefix("--") {
            let (_, rest) = comment.split_once("--").ok_or(NotWellFormed)?;
            self.rest = rest.strip_prefix('>').ok_or(NotWellFormed)?;
        } else {
            require(!self.open.is_empty())?;
            let section = text.strip_prefix("[CDATA[").ok_or(NotWellFormed)?;
            (_, self.rest) = section.split_once("]]>").ok_or(NotWellFormed)?;
        }
        Ok(())
    }

    /// A processing instruction (production 16), from its target on.
    fn instruction(&mut self, text: &'a str) -> Result<(), NotWellFormed> {
        let (target, rest) = text.split_at(name_length(text));
        require(!target.is_empty() && !target.eq_ignore_ascii_case("xml"))?;
        let (content, after) = rest.split_once("?>").ok_or(NotWellFormed)?;
        require(content.is_empty() || skip_space(content).len() < content.len())?;
        self.rest = after;
        Ok(())
    }
}

/// Every `&` begins a reference (production 67).
fn references(text: &str) -> Result<(), NotWellFormed> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('&') {
        let (name, after) = after.split_once(';').ok_or(NotWellFormed)?;
        reference(name)?;
        rest = after;
    }
    Ok(())
}
