//! Converts text to plain characters: from percent-encoding, full-width characters, digits of other scripts,
//! and with invisible characters removed.
//!
//! Only used to recognise data; never shown in a label.

use std::borrow::Cow;

use crate::domain::words::label;

/// Stands for a non-ASCII letter, which id generators don't use.
pub(super) const OTHER_LETTER: u8 = 0x80;

/// Returns one byte per visible character. Of non-ASCII characters, digits become `0`, letters
/// [`OTHER_LETTER`], full-width forms their ASCII character, and the rest `-`.
pub(super) fn plain(text: &str) -> Cow<'_, [u8]> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Cow::Borrowed(text.as_bytes());
    }
    Cow::Owned(text.chars().filter_map(character).collect())
}

fn character(c: char) -> Option<u8> {
    if let Ok(ascii) = u8::try_from(c)
        && ascii.is_ascii()
    {
        return (!ascii.is_ascii_control()).then_some(ascii);
    }
    match c {
        // Full-width forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => {
            let offset = u32::from(c) - 0xff01;
            u8::try_from(offset).ok().map(|offset| b'!' + offset)
        }
        // SMALL COMMERCIAL AT.
        '\u{fe6b}' => Some(b'@'),
        c if label::is_unsafe(c) || is_combining(c) => None,
        c if c.is_numeric() => Some(b'0'),
        c if c.is_alphabetic() => Some(OTHER_LETTER),
        _ => Some(b'-'),
    }
}

/// Whether a character modifies the look of the previous one, such as the frame of a key cap.
fn is_combining(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}')
}

/// Decodes percent-encoded bytes once, including JavaScript's `escape` form `%u0031`; returns `None` if there
/// are none.
pub(super) fn decode(text: &[u8]) -> Option<String> {
    if !text.contains(&b'%') {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut is_encoded = false;
    while let [byte, tail @ ..] = rest {
        let (number, after) = match tail {
            [b'u' | b'U', a, b, c, d, after @ ..] if *byte == b'%' => {
                (hexadecimal(&[*a, *b, *c, *d]), after)
            }
            [a, b, after @ ..] if *byte == b'%' => (hexadecimal(&[*a, *b]), after),
            _ => (None, tail),
        };
        match number {
            // The `%u` form is a code point.
            Some(number) if tail.len() - after.len() > 2 => {
                let c = char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
                decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Some(number) => decoded.extend(u8::try_from(number)),
            None => decoded.push(*byte),
        }
        is_encoded |= number.is_some();
        rest = if number.is_some() { after } else { tail };
    }
    is_encoded.then(|| String::from_utf8_lossy(&decoded).into_owned())
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_one_byte_per_visible_character() {
        for (text, expected) in [
            ("voice-2.xml", "voice-2.xml"),
            ("１５００-５５５@ａ", "1500-555@a"),
            ("١٢٣۴५६", "000000"),
            ("①²½", "000"),
            ("über電", "\u{fffd}ber\u{fffd}"),
            ("a\u{200b}b\u{202e}c\u{7}d\u{ad}e\u{feff}", "abcde"),
            ("5\u{fe0f}\u{20e3}0\u{fe0f}\u{20e3}", "50"),
            ("500\u{2013}555\u{a0}0006", "500-555-0006"),
        ] {
            assert_eq!(String::from_utf8_lossy(&plain(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn percent_encoding_is_decoded_once() {
        for (text, expected) in [
            ("voice", None),
            ("100%", None),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%u12", None),
            ("%31%3", Some("1%3")),
            ("%2B1%2b", Some("+1+")),
            ("%252B", Some("%2B")),
            ("%C3%BC", Some("ü")),
            ("%FF", Some("\u{fffd}")),
            ("%u0031%U00fc%ud800", Some("1ü\u{fffd}")),
        ] {
            assert_eq!(decode(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }
}
