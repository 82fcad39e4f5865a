//! Closed label sets, and the bound on the open ones.
//!
//! An enum made here is the documentation, the label values and the test matrix at once.

/// Longest label value in bytes: long enough for any real host or route, short enough that a
/// hundred thousand series stay small.
pub const MAX_LABEL_BYTES: usize = 256;

/// Cuts a label value at [`MAX_LABEL_BYTES`], never inside a character.
pub fn cut(value: &str) -> &str {
    if value.len() <= MAX_LABEL_BYTES {
        return value;
    }
    let end = (0..=MAX_LABEL_BYTES).rev().find(|&at| value.is_char_boundary(at)).unwrap_or(0);
    &value[..end]
}

/// Defines an enum whose variants are label values.
macro_rules! label_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value with this label, if there is one.
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
    fn a_long_label_is_cut_at_a_character_boundary() {
        let long = "é".repeat(200);
        let cut = cut(&long);
        assert_eq!(cut.len(), MAX_LABEL_BYTES);
        assert!(long.starts_with(cut));
        assert_eq!(super::cut("short"), "short");
        let odd = format!("a{long}");
        assert_eq!(super::cut(&odd).len(), MAX_LABEL_BYTES - 1);
    }
}
