//! What is wrong with a configuration: all of it at once, each as *where: key: found, wanted*.

use std::fmt;

/// Most characters of a value in a message: it is to be recognised, not to be read.
const MAX_SHOWN: usize = 80;
/// Longest word with digits that is no secret: a date. Auth tokens and secrets have 32.
const MAX_WORD_WITH_DIGITS: usize = 8;
/// Longest word that is no secret.
const MAX_WORD: usize = 24;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file or the environment variable.
    pub place: String,
    /// The key, such as `poll.interval`; empty where none is meant.
    pub key: String,
    /// What was found, and what is wanted.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// All problems of a configuration, sorted by place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Whether a text may be a token or secret in the wrong place: those are long words with digits in
/// them, which neither names nor values of keys are. Paths are shown all the same.
pub(super) fn looks_secret(text: &str) -> bool {
    let is_long = |word: &str| {
        let has_digits = word.contains(|c: char| c.is_ascii_digit());
        word.len() > if has_digits { MAX_WORD_WITH_DIGITS } else { MAX_WORD }
    };
    !text.contains('/') && text.split(|c: char| !c.is_alphanumeric()).any(is_long)
}

/// A name for a message, without what may be a secret. What follows a `:` is a value that was meant
/// to be one, as in `{auth_token:…}`.
pub(super) fn name(text: &str) -> String {
    let (head, more) = match text.split_once(':') {
        Some((head, _)) => (head, ":…"),
        None => (text, ""),
    };
    if looks_secret(head) {
        return "…".to_owned();
    }
    format!("{}{more}", escape(head))
}

/// A found value for a message: short, and without control characters.
pub(super) fn quote(value: &str) -> String {
    format!("`{}`", escape(value))
}

fn escape(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
