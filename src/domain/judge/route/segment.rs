//! Decides whether a path segment is data rather than a name, based on its decoded plain form
//! ([`plain`](super::plain)), as a whole and in parts.

use std::borrow::Cow;

use super::plain::{OTHER_LETTER, decode, plain};
use super::token::{Count, has_prefix, is_token, parts};

/// The maximum number of times to decode a segment. No name is encoded more often, so the rest is data.
const MAX_DECODINGS: usize = 4;
/// The maximum number of bytes of a segment to examine: labels are shorter.
const MAX_JUDGED: usize = 1_024;
/// The minimum number of digits of a phone number or key: local phone numbers have 7 digits.
const MIN_NUMBER: usize = 7;
/// The maximum number of digits in a name with letters between them: full phone numbers have 10 or more.
const MAX_DIGITS_IN_NAME: usize = 9;
/// The maximum number of separators between two digits of a number, as in `1 (500) - 555`.
const MAX_SEPARATORS: usize = 3;
/// The minimum number of hexadecimal digits of a key.
const MIN_HEX: usize = 16;
/// The length of a SID.
const SID: usize = 34;
/// The length of a UUID (RFC 9562, section 4).
const UUID: usize = 36;
/// Schemes of the addresses of calls and messages.
const SCHEMES: [&str; 7] = ["tel", "sip", "sips", "client", "whatsapp", "mailto", "callto"];
/// Extensions of files that serve webhooks or that webhooks play. None is a top-level domain, so none can be the
/// end of an e-mail address.
const EXTENSIONS: [&str; 48] = [
    "xml", "twiml", "vxml", "ssml", "json", "jsonl", "txt", "html", "xhtml", "htm", "php", "asp",
    "aspx", "ashx", "jsp", "jspx", "cgi", "action", "cfm", "js", "mjs", "yaml", "yml", "csv",
    "pdf", "log", "mp3", "mp4", "wav", "wave", "ogg", "opus", "m4a", "aac", "amr", "aiff", "flac",
    "gsm", "ulaw", "alaw", "webm", "jpg", "jpeg", "png", "gif", "svg", "gz", "tar",
];
/// The maximum length of an extension.
const MAX_EXTENSION: usize = 5;

/// Whether a segment is data rather than a name.
pub(super) fn is_data(segment: &str) -> bool {
    let end = (0..=segment.len().min(MAX_JUDGED)).rev().find(|at| segment.is_char_boundary(*at));
    let segment = &segment[..end.unwrap_or(0)];
    let mut text = plain(segment);
    for _ in 0..MAX_DECODINGS {
        // Digits of percent-encoding aren't digits of the segment, so only decoded text is judged.
        let Some(decoded) = decode(&text) else { return is_data_in_plain(&text) };
        text = Cow::Owned(plain(&decoded).into_owned());
        if contains_query(&text) {
            return true;
        }
    }
    decode(&text).is_some() || is_data_in_plain(&text)
}

/// Returns the extensions of a file name, with their dots, or an empty string.
pub(super) fn extension(segment: &str) -> &str {
    segment.get(without_extension(segment.as_bytes()).len()..).unwrap_or_default()
}

/// Returns a file name without its extensions; `1234.tar.gz` has two.
fn without_extension(mut segment: &[u8]) -> &[u8] {
    while let Some(dot) = segment.iter().rposition(|byte| *byte == b'.')
        && is_extension(&segment[dot + 1..])
    {
        segment = &segment[..dot];
    }
    segment
}

fn is_extension(text: &[u8]) -> bool {
    EXTENSIONS.iter().any(|known| text.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether a decoded segment contains a query, a fragment or a path parameter, which must not appear in labels.
fn contains_query(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'?' | b'#' | b';'))
}

/// Whether a host's label is a key, an id or an address. Other generated names stay, as they are common in
/// cloud hosts.
pub(super) fn is_key(label: &[u8]) -> bool {
    parts(label).any(|part| is_hex(part) || is_sid(part))
        || has_uuid(label)
        || has_address(label)
        || has_prefix(label)
}

fn is_data_in_plain(text: &[u8]) -> bool {
    let name = without_extension(text);
    let count = Count::new(name);
    // Most segments consist only of lower-case letters.
    if count.lower == name.len() {
        return false;
    }
    let is_long = name.len() >= MIN_HEX;
    (count.digits > 0 && is_number(name, count.digits))
        || (count.digits > 0 && is_long && parts(name).any(is_hex))
        || (name.len() >= SID && (parts(name).any(is_sid) || has_uuid(name)))
        || is_assignment(name)
        || has_address(name)
        || is_token(name, &count)
}

fn is_number(name: &[u8], digits: usize) -> bool {
    is_plain_number(name)
        || digits > MAX_DIGITS_IN_NAME
        || (digits >= MIN_NUMBER && longest_number(name) >= MIN_NUMBER)
}

/// Whether a name is only digits, as in `42`, `{42}` and, with any extension, `42.do`.
fn is_plain_number(name: &[u8]) -> bool {
    let is_edge = |byte: &u8| *byte == b'%' || !(byte.is_ascii_punctuation() || *byte == b' ');
    let start = name.iter().position(is_edge).unwrap_or(0);
    let end = name.iter().rposition(is_edge).map_or(0, |last| last + 1);
    let mut pieces = name[start..end].split(|byte| *byte == b'.');
    let is_extension =
        |piece: &[u8]| (2..=MAX_EXTENSION).contains(&piece.len()) && piece[0].is_ascii_alphabetic();
    pieces.next().is_some_and(|number| number.iter().all(u8::is_ascii_digit))
        && pieces.all(is_extension)
}

/// Returns the largest number of digits with only separators between them. The digits of a version, as in
/// `v2-2023-01`, aren't part of the number after it.
fn longest_number(name: &[u8]) -> usize {
    let (mut longest, mut digits, mut separators) = (0, 0, MAX_SEPARATORS + 1);
    for (at, byte) in name.iter().enumerate() {
        if byte.is_ascii_digit() {
            digits = if separators > MAX_SEPARATORS { 1 } else { digits + 1 };
            separators = 0;
            longest = longest.max(digits);
        } else if ends_version(&name[..at]) {
            separators = MAX_SEPARATORS + 1;
        } else {
            let is_letter = byte.is_ascii_alphabetic() || *byte == OTHER_LETTER;
            separators += if is_letter { MAX_SEPARATORS + 1 } else { 1 };
        }
    }
    longest
}

/// Whether a text ends with a version: up to four digits after a `v` at the start of a word.
fn ends_version(text: &[u8]) -> bool {
    let start = text.iter().rposition(|byte| !byte.is_ascii_digit());
    start.is_some_and(|v| {
        let is_word = v.checked_sub(1).is_none_or(|before| !text[before].is_ascii_alphanumeric());
        text[v].eq_ignore_ascii_case(&b'v') && is_word && (1..=4).contains(&(text.len() - v - 1))
    })
}

/// Whether a part is a hexadecimal number, optionally with `0x`, that contains a decimal digit.
fn is_hex(part: &[u8]) -> bool {
    let part = part.strip_prefix(b"0x").unwrap_or(part);
    part.len() >= MIN_HEX
        && part.iter().all(u8::is_ascii_hexdigit)
        && part.iter().any(u8::is_ascii_digit)
}

fn is_sid(part: &[u8]) -> bool {
    part.len() == SID
        && part[..2].iter().all(u8::is_ascii_alphabetic)
        && part[2..].iter().all(u8::is_ascii_hexdigit)
}

fn has_uuid(name: &[u8]) -> bool {
    name.windows(UUID).any(|window| {
        window.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => !byte.is_ascii_alphanumeric(),
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

/// Whether a text is a parameter with a value.
fn is_assignment(name: &[u8]) -> bool {
    let equals = name.iter().position(|byte| *byte == b'=');
    equals.is_some_and(|at| at > 0 && name[at + 1..].iter().any(|byte| *byte != b'='))
}

/// Whether there is text on both sides of an `@`, or after the scheme of an address.
fn has_address(name: &[u8]) -> bool {
    let split = |separator| {
        let at = name.iter().position(|byte| *byte == separator)?;
        (at > 0 && at + 1 < name.len()).then(|| &name[..at])
    };
    let is_scheme =
        |before: &[u8]| SCHEMES.iter().any(|known| before.eq_ignore_ascii_case(known.as_bytes()));
    split(b'@').is_some() || split(b':').is_some_and(is_scheme)
}
