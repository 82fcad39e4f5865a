//! The XML 1.0 grammar within markup: characters, names, attributes, references and the declaration.

use std::collections::BTreeSet;

use memchr::memchr;

use super::{Malformation, references, require, unless_ended};

/// The number of attributes of an element that are compared pairwise; further ones are rare and go into a set.
const FEW_ATTRIBUTES: usize = 16;

/// The result of scanning all bytes of a document.
pub(super) struct Characters {
    /// Whether there is any `]`; if not, no text needs to be searched for `]]>`.
    pub(super) has_bracket: bool,
}

/// Checks that XML allows every character of a document (production 2, Char).
pub(super) fn characters(text: &str) -> Result<Characters, Malformation> {
    // Free of branches, so that the compiler vectorises this loop.
    let (mut has_control, mut has_lead_byte, mut has_bracket) = (false, false, false);
    for &byte in text.as_bytes() {
        has_control |= (byte < 0x20) & (byte != b'\t') & (byte != b'\n') & (byte != b'\r');
        has_lead_byte |= byte == 0xEF;
        has_bracket |= byte == b']';
    }
    require(!has_control)?;
    require(!has_lead_byte || !text.contains(['\u{fffe}', '\u{ffff}']))?;
    Ok(Characters { has_bracket })
}

/// Returns the text after the XML declaration, if any (production 23, XMLDecl). The declared encoding is
/// ignored, because the text is already decoded.
pub(super) fn declaration(text: &str) -> Result<&str, Malformation> {
    let Some(mut rest) = text.strip_prefix("<?xml").filter(|rest| rest.starts_with(is_space))
    else {
        return Ok(text);
    };
    let mut expected = ["version", "encoding", "standalone"].iter();
    let mut is_first = true;
    while let Some((name, value, after)) = attribute(rest)? {
        require(expected.any(|&known| known == name))?;
        require(is_first == (name == "version"))?;
        require(match name {
            "version" => value.strip_prefix("1.").is_some_and(|minor| {
                !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit())
            }),
            "encoding" => {
                value.starts_with(|first: char| first.is_ascii_alphabetic())
                    && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            }
            _ => matches!(value, "yes" | "no"),
        })?;
        is_first = false;
        rest = after;
    }
    if is_first {
        return Err(unless_ended(rest, Malformation::Other));
    }
    let rest = skip_space(rest);
    let otherwise = || unless_ended(rest.strip_prefix('?').unwrap_or(rest), Malformation::Other);
    rest.strip_prefix("?>").ok_or_else(otherwise)
}

/// Returns the length in bytes of the name at the start of a text; 0 if there is none.
pub(super) fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let length = bytes.iter().take_while(|byte| CLASSES[usize::from(**byte)] & PART != 0).count();
    let is_ascii_name = bytes.first().is_some_and(|byte| CLASSES[usize::from(*byte)] & START != 0);
    match bytes.get(length) {
        // Names beyond ASCII are checked one character at a time.
        Some(0x80..) => {
            let mut chars = text.char_indices();
            if !chars.next().is_some_and(|(_, first)| is_name_start(first)) {
                return 0;
            }
            chars.find(|(_, c)| !is_name_part(*c)).map_or(text.len(), |(at, _)| at)
        }
        Some(_) | None if is_ascii_name => length,
        Some(_) | None => 0,
    }
}

/// The bit of a byte that may start a name.
const START: u8 = 1;
/// The bit of a byte that may be part of a name.
const PART: u8 = 2;
/// The bits of each ASCII byte; other bytes have none.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        if byte.is_ascii_alphabetic() || byte == b'_' || byte == b':' {
            classes[byte as usize] = START | PART;
        } else if byte.is_ascii_digit() || byte == b'-' || byte == b'.' {
            classes[byte as usize] = PART;
        }
        byte += 1;
    }
    classes
};

/// Returns the text after the attributes of a start tag, which must be unique (productions 40 and 41).
pub(super) fn attributes(text: &str) -> Result<&str, Malformation> {
    let mut few = [""; FEW_ATTRIBUTES];
    let mut count = 0;
    let mut many = BTreeSet::new();
    let mut rest = text;
    while let Some((name, _, after)) = attribute(rest)? {
        let known = &few[..count.min(FEW_ATTRIBUTES)];
        require(!known.contains(&name))?;
        if let Some(slot) = few.get_mut(count) {
            *slot = name;
        } else {
            require(many.insert(name))?;
        }
        count += 1;
        rest = after;
    }
    Ok(skip_space(rest))
}

/// Returns the next attribute's name and value, and the text after it; `None` if no name follows. The value
/// contains no `<`, and every `&` in it begins a reference (production 10, AttValue).
fn attribute(text: &str) -> Result<Option<(&str, &str, &str)>, Malformation> {
    let trimmed = skip_space(text);
    let length = name_length(trimmed);
    if length == 0 {
        return Ok(None);
    }
    require(trimmed.len() < text.len())?;
    let (name, rest) = trimmed.split_at(length);
    let rest = skip_space(rest);
    let rest = rest.strip_prefix('=').ok_or_else(|| unless_ended(rest, Malformation::Other))?;
    let rest = skip_space(rest);
    let (quote, rest) = match rest.as_bytes().first() {
        Some(quote @ (b'"' | b'\'')) => (*quote, &rest[1..]),
        Some(_) => return Err(Malformation::Other),
        None => return Err(Malformation::Truncated),
    };
    let bytes = rest.as_bytes();
    // Values are so short that a plain loop is faster than starting a vectorised search.
    let is_special = |byte: &u8| *byte == quote || matches!(byte, b'<' | b'&');
    let special = bytes.iter().position(is_special).ok_or(Malformation::Truncated)?;
    let end = match bytes[special] {
        b'<' => return Err(Malformation::Other),
        b'&' => special + memchr(quote, &bytes[special..]).ok_or(Malformation::Truncated)?,
        _ => special,
    };
    let value = &rest[..end];
    if end > special {
        require(!value.contains('<'))?;
        references(value)?;
    }
    Ok(Some((name, value, &rest[end + 1..])))
}

/// Returns the text after a reference, given the text after its `&`. It must refer to a character that XML
/// allows, or to one of the five entities that need no DTD (productions 66 and 68).
pub(super) fn reference(text: &str) -> Result<&str, Malformation> {
    let (sign, name) = if text.starts_with('#') { text.split_at(1) } else { ("", text) };
    let length = name.bytes().take_while(|byte| CLASSES[usize::from(*byte)] & PART != 0).count();
    let length = if sign.is_empty() { name_length(name) } else { length };
    let (name, rest) = name.split_at(length);
    let rest = rest.strip_prefix(';').ok_or(Malformation::BareAmpersand)?;
    if name.is_empty() {
        return Err(Malformation::BareAmpersand);
    }
    let is_known = if sign.is_empty() {
        matches!(name, "amp" | "lt" | "gt" | "apos" | "quot")
    } else {
        is_character(name)
    };
    if is_known { Ok(rest) } else { Err(Malformation::Entity) }
}

/// Whether a character reference's number is a character that XML allows.
fn is_character(number: &str) -> bool {
    let code = match number.strip_prefix('x') {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16),
        None if number.bytes().all(|b| b.is_ascii_digit()) => number.parse(),
        _ => return false,
    };
    match code.ok().and_then(char::from_u32) {
        Some('\t' | '\n' | '\r') => true,
        Some('\0'..'\x20' | '\u{fffe}' | '\u{ffff}') | None => false,
        Some(_) => true,
    }
}

/// Whether a character is XML white space (production 3, S).
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Returns the text after leading white space.
pub(super) fn skip_space(text: &str) -> &str {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let length = text.as_bytes().iter().take_while(|byte| is_space(byte)).count();
    &text[length..]
}

/// Production 4, NameStartChar.
fn is_name_start(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '_' | ':')
        || matches!(c,
            '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
            | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
            | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
            | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

/// Production 4a, NameChar.
fn is_name_part(c: char) -> bool {
    is_name_start(c)
        || matches!(c, '0'..='9' | '-' | '.' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}
