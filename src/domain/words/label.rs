//! Closed sets of label values, and the length limit for open ones.
//!
//! An enum defined with `label_enum!` is the single source for documentation, label values and tests.

use std::borrow::Cow;

/// The maximum length of a label value in bytes: long enough for any real host or route, and short enough
/// for a hundred thousand series.
pub const MAX_LABEL_BYTES: usize = 256;

/// Truncates a label value to [`MAX_LABEL_BYTES`], never inside a character.
pub fn cut(value: &str) -> &str {
    if value.len() <= MAX_LABEL_BYTES {
        return value;
    }
    let end = (0..=MAX_LABEL_BYTES).rev().find(|&at| value.is_char_boundary(at)).unwrap_or(0);
    &value[..end]
}

/// Makes a label value safe to print on terminals and web pages: truncates it, and percent-encodes
/// characters that are invisible or affect the surrounding text, as in a URL.
pub fn printable(value: Cow<'_, str>) -> String {
    if value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || !value.contains(is_unsafe) {
        return match value {
            Cow::Borrowed(value) => cut(value).to_owned(),
            Cow::Owned(mut value) => {
                value.truncate(cut(&value).len());
                value
            }
        };
    }
    let mut safe = String::with_capacity(value.len());
    for c in cut(&value).chars() {
        if is_unsafe(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                safe.push_str(&format!("%{byte:02X}"));
            }
        } else {
            safe.push(c);
        }
    }
    safe.truncate(cut(&safe).len());
    safe
}

/// Whether a character is invisible or affects the surrounding text: control characters, format characters
/// (zero width, text direction) and line separators.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Defines an enum whose variants are label values.
macro_rules! label_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// All values, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Returns the variant with this label value, if there is one.
            pub fn from_label(label: &str) -> Option<Self> {
                match label { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use label_enum;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_label_is_truncated_at_a_character_boundary() {
        let long = "é".repeat(200);
        let cut = cut(&long);
        assert_eq!(cut.len(), MAX_LABEL_BYTES);
        assert!(long.starts_with(cut));
        assert_eq!(super::cut("short"), "short");
        let odd = format!("a{long}");
        assert_eq!(super::cut(&odd).len(), MAX_LABEL_BYTES - 1);
    }

    #[test]
    fn invisible_characters_are_percent_encoded() {
        for (value, expected) in [
            ("/voice 2\"<é>電話", "/voice 2\"<é>電話"),
            ("/\u{1b}[31m\r\n\t\0\u{7f}", "/%1B[31m%0D%0A%09%00%7F"),
            ("/\u{85}\u{9b}", "/%C2%85%C2%9B"),
            ("/a\u{202e}b\u{2066}c\u{200b}\u{feff}", "/a%E2%80%AEb%E2%81%A6c%E2%80%8B%EF%BB%BF"),
            ("/\u{2028}\u{2029}\u{e0041}", "/%E2%80%A8%E2%80%A9%F3%A0%81%81"),
        ] {
            assert_eq!(printable(Cow::Borrowed(value)), expected);
            assert_eq!(printable(Cow::Owned(value.to_owned())), expected);
        }
        assert_eq!(printable(Cow::Owned("\u{1b}".repeat(200))).len(), MAX_LABEL_BYTES);
        assert_eq!(printable(Cow::Owned("é".repeat(200))).len(), MAX_LABEL_BYTES);
    }
}
