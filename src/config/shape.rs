//! Describes the shape of a value that an error must not quote.
//!
//! A token can be pasted anywhere. A value is shown only if its key can't hold a secret (a number, a
//! duration, a flag) and it has that form. For every other value, unknown key and nonexistent path, an error
//! only says what it is and how long it is.

use std::path::Path;

use figment::value::Value;

/// The maximum number of digits of a number or duration that is shown: local phone numbers have 7.
const MAX_DIGITS: usize = 6;
/// The units that are shown in a duration: valid ones and common mistakes.
const UNITS: [&str; 16] = [
    "", "ns", "us", "ms", "s", "sec", "secs", "second", "seconds", "m", "min", "mins", "h", "d",
    "w", "y",
];
/// Values that users write for a flag.
const FLAGS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "0", "1"];
/// The maximum edit distance between an unknown key and a known one for the unknown key to be shown.
const MAX_EDITS: usize = 2;

/// Whether a text looks like a number, a duration or a flag, and so can't be a secret.
fn is_plain(text: &str) -> bool {
    FLAGS.iter().any(|flag| text.eq_ignore_ascii_case(flag)) || is_quantity(text)
}

/// Whether a text is a short number, or short numbers with units of time.
fn is_quantity(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ' ');
    (1..=MAX_DIGITS).contains(&digits)
        && unsigned.starts_with(|c: char| c.is_ascii_digit())
        && unsigned.split(is_number).all(|unit| UNITS.contains(&unit))
}

/// Describes the value of a number, duration or flag key: quoted if it has that form.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(_, text) if is_plain(text) => format!("`{text}`"),
        Value::Bool(_, flag) => format!("`{flag}`"),
        Value::Num(..) => match number(value) {
            Some(text) if is_quantity(&text) => format!("`{text}`"),
            Some(_) | None => describe(value),
        },
        Value::String(..)
        | Value::Char(..)
        | Value::Empty(..)
        | Value::Dict(..)
        | Value::Array(..) => describe(value),
    }
}

/// Describes a value without quoting any part of it.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::String(_, text) => self::text(text),
        Value::Char(_, character) => self::text(&character.to_string()),
        Value::Bool(..) => "a boolean".to_owned(),
        Value::Num(..) => {
            let text = number(value).unwrap_or_default();
            match text.bytes().filter(u8::is_ascii_digit).count() {
                0 => "a number".to_owned(),
                1 => "a number with 1 digit".to_owned(),
                digits => format!("a number with {digits} digits"),
            }
        }
        Value::Empty(..) => "null".to_owned(),
        Value::Dict(..) => "a mapping".to_owned(),
        Value::Array(..) => "a list".to_owned(),
    }
}

fn number(value: &Value) -> Option<String> {
    let whole = value.to_u128().map(|n| n.to_string());
    let whole = whole.or_else(|| value.to_i128().map(|n| n.to_string()));
    whole.or_else(|| value.to_num().and_then(|n| n.to_f64()).map(|n| format!("{n:?}")))
}

/// Describes the length of a text.
pub fn text(text: &str) -> String {
    match text.chars().count() {
        0 => "an empty string".to_owned(),
        1 => "1 character".to_owned(),
        length => format!("{length} characters"),
    }
}

/// Shows the part of a path that exists: a path that doesn't exist may itself be a secret.
pub fn path(path: &Path) -> String {
    let length = text(&path.to_string_lossy());
    let found = path.ancestors().find(|part| part.symlink_metadata().is_ok());
    let shown = found.map(|part| part.display().to_string().escape_debug().to_string());
    match shown {
        Some(shown) if found == Some(path) => format!("`{shown}`"),
        Some(shown) => format!("`{}/…` ({length})", shown.trim_end_matches('/')),
        None => format!("a path of {length}"),
    }
}

/// Whether an unknown key, such as `poll.intervall`, consists only of these words or close misspellings of
/// them.
pub(super) fn is_misspelled<'a>(key: &str, words: impl Iterator<Item = &'a str> + Clone) -> bool {
    let is_known = |part: &str| {
        part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            && words.clone().any(|word| word.len() > MAX_EDITS && are_close(part, word))
    };
    key.split('.').all(is_known)
}

/// Whether at most [`MAX_EDITS`] insertions, deletions and substitutions turn one word into the other.
fn are_close(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len().abs_diff(right.len()) > MAX_EDITS {
        return false;
    }
    // The distances between the prefix of `left` read so far and each prefix of `right`.
    let mut distances: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut diagonal = distances[0];
        distances[0] = row + 1;
        for (column, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(!a.eq_ignore_ascii_case(b));
            diagonal = distances[column + 1];
            distances[column + 1] = replaced.min(diagonal + 1).min(distances[column] + 1);
        }
    }
    distances[right.len()] <= MAX_EDITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_numbers_durations_and_flags_but_nothing_that_could_be_a_secret() {
        for shown in
            ["30", "-5s", "1.5", "1.5h", "15 min", "500ms", "1h30m", "yes", "TRUE", "100000"]
        {
            assert_eq!(plain(&Value::from(shown)), format!("`{shown}`"));
        }
        for (hidden, shape) in [
            ("soon", "4 characters"),
            ("", "an empty string"),
            ("x", "1 character"),
            ("5550006", "7 characters"),
            ("+15005550006", "12 characters"),
            ("1a2b3c4d", "8 characters"),
            ("30s@host", "8 characters"),
            ("30s/30s", "7 characters"),
            ("s3", "2 characters"),
            ("٣٠s", "3 characters"),
        ] {
            assert_eq!(plain(&Value::from(hidden)), shape, "{hidden}");
        }
        assert_eq!(plain(&Value::from(99)), "`99`");
        assert_eq!(plain(&Value::from(1.5)), "`1.5`");
        assert_eq!(plain(&Value::from(15_005_550_006_u64)), "a number with 11 digits");
        assert_eq!(plain(&Value::from(-5_550_006)), "a number with 7 digits");
    }

    #[test]
    fn recognises_misspelled_keys() {
        let words = ["interval", "api", "auth_token_file"];
        for key in ["intervall", "intrval", "Interval", "api", "auth-token-file", "api.intervall"] {
            assert!(is_misspelled(key, words.into_iter()), "{key}");
        }
        for key in [
            "",
            "nonsense",
            "api.s3cret",
            "interval_s3cret",
            "interv/l",
            "auth_token_file:x",
            "íntervál",
        ] {
            assert!(!is_misspelled(key, words.into_iter()), "{key}");
        }
    }

    #[test]
    fn shows_the_existing_part_of_a_path() {
        assert_eq!(path(Path::new("/dev/null")), "`/dev/null`");
        assert_eq!(path(Path::new("/dev/marked/secret")), "`/dev/…` (18 characters)");
        assert_eq!(path(Path::new("/marked-secret")), "`/…` (14 characters)");
        assert_eq!(path(Path::new("https://user:secret@h/x")), "a path of 23 characters");
        assert_eq!(path(Path::new("a\0b")), "a path of 3 characters");
    }
}
