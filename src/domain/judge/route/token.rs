//! Recognises tokens and generated ids by their prefix, by their runs of digits, or because they don't resemble
//! words.

use super::letters::contains_random;

/// The minimum number of characters after a prefix that no word has, such as `ghp_`.
const MIN_AFTER: usize = 4;
/// The minimum number of consecutive letters and digits after a prefix that a word may have, such as `npm_`.
const MIN_LONG_AFTER: usize = 16;
/// The minimum number of consecutive letters and digits after an authentication scheme, such as `Bearer`.
const MIN_AFTER_SCHEME: usize = 8;
/// The minimum length of a generated id with three runs of digits among letters.
const MIN_GENERATED: usize = 10;
/// The minimum number of runs of digits in such an id.
const MIN_RUNS: usize = 3;
/// The minimum length of a part with two runs of digits that isn't a word: longer than `24x7` and `b2b2c`.
const MIN_JUMBLED: usize = 6;

/// Whether a text contains a token or a generated id.
pub(super) fn is_token(text: &[u8], count: &Count) -> bool {
    let is_cased = count.lower > 0 && count.upper > 0;
    has_prefix(text)
        || (count.digits >= MIN_RUNS && is_generated(text))
        || (text.len() >= MIN_GENERATED && (count.digits > 0 || is_cased) && contains_random(text))
}

/// The number of characters of each class in a text.
#[derive(Default)]
pub(super) struct Count {
    pub(super) digits: usize,
    pub(super) lower: usize,
    pub(super) upper: usize,
}

impl Count {
    pub(super) fn new(text: &[u8]) -> Self {
        let mut count = Self::default();
        for byte in text {
            count.digits += usize::from(byte.is_ascii_digit());
            count.lower += usize::from(byte.is_ascii_lowercase());
            count.upper += usize::from(byte.is_ascii_uppercase());
        }
        count
    }
}

/// Splits a text into runs of letters and digits.
pub(super) fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !byte.is_ascii_alphanumeric()).filter(|part| !part.is_empty())
}

/// Whether a text contains a token with a known prefix.
pub(super) fn has_prefix(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(start) = rest.iter().position(u8::is_ascii_alphanumeric) {
        let length = run(&rest[start..]);
        let (word, after) = rest[start..].split_at(length);
        if is_token_prefix(word, after) {
            return true;
        }
        rest = after;
    }
    false
}

/// Returns the number of letters and digits at the start.
fn run(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

/// Whether a word is the prefix of a token, given the text after it.
fn is_token_prefix(word: &[u8], rest: &[u8]) -> bool {
    let token = |between: &str| {
        rest.strip_prefix(between.as_bytes()).is_some_and(|token| token.len() >= MIN_AFTER)
    };
    let long = |between: &str| {
        rest.strip_prefix(between.as_bytes()).is_some_and(|token| run(token) >= MIN_LONG_AFTER)
    };
    match word {
        // GitHub, Stripe, Shopify, Grafana, Docker.
        b"ghp" | b"gho" | b"ghu" | b"ghs" | b"ghr" | b"whsec" | b"shpat" | b"shpca" | b"shppa"
        | b"shpss" | b"glsa" => token("_"),
        b"github" | b"dckr" => token("_pat_"),
        b"pk" | b"rk" => token("_live_") || token("_test_"),
        b"sk" => token("_live_") || token("_test_") || long("-") || long("-ant-") || long("-proj-"),
        // GitLab, Slack, PyPI, Brevo.
        b"glpat" | b"gldt" | b"glrt" | b"xapp" | b"pypi" | b"xkeysib" => token("-"),
        [b'x', b'o', b'x', b'a'..=b'z'] => token("-") || token("."),
        // Google, DigitalOcean.
        b"ya29" => token("."),
        b"dop" => token("_v1_"),
        // npm, Hugging Face, Linear, SendGrid, and others.
        b"npm" | b"hf" => long("_"),
        b"lin" => long("_api_"),
        b"SG" => long("."),
        b"key" | b"pat" => long("-"),
        // AWS, Google, JSON Web Tokens.
        [b'A', b'S', b'I', b'A', token @ ..] => token.len() >= MIN_LONG_AFTER,
        [b'A', b'K', b'I', b'A', token @ ..]
        | [b'A', b'I', b'z', b'a', token @ ..]
        | [b'e', b'y', b'J', token @ ..] => token.len() >= MIN_AFTER,
        [_, _, _, _, _] | [_, _, _, _, _, _] => is_scheme(word, rest),
        _ => false,
    }
}

fn is_scheme(word: &[u8], rest: &[u8]) -> bool {
    let schemes: [&[u8]; 3] = [b"bearer", b"basic", b"token"];
    matches!(rest, [b' ' | b'+' | b':' | b'=', token @ ..] if run(token) >= MIN_AFTER_SCHEME)
        && schemes.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Whether runs of digits among letters indicate a generated id: ULID, cuid, KSUID, xid, nanoid, Meteor.
fn is_generated(text: &[u8]) -> bool {
    let (mut runs, mut characters, mut is_jumbled) = (0, 0, false);
    for part in parts(text) {
        let own = digit_runs(part);
        let has_letters = !part.iter().all(u8::is_ascii_digit);
        if has_letters && own >= MIN_RUNS && part.len() >= MIN_GENERATED {
            return true;
        }
        runs += own;
        characters += part.len();
        is_jumbled |= has_letters && own >= 2 && part.len() >= MIN_JUMBLED;
    }
    is_jumbled && runs >= MIN_RUNS && characters >= MIN_GENERATED
}

fn digit_runs(part: &[u8]) -> usize {
    let mut was_digit = false;
    let begins = part.iter().filter(|byte| {
        let begins = byte.is_ascii_digit() && !was_digit;
        was_digit = byte.is_ascii_digit();
        begins
    });
    begins.count()
}
