//! Twilio's identifiers: two letters and 32 hexadecimal digits.
//!
//! Kept as the digits that Twilio sent, since a SID goes back into request paths as it came.

use std::fmt;

/// A text that is no SID of the wanted kind. Carries no text: what came may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {noun} (`{prefix}` and 32 hex digits)")]
pub struct InvalidSid {
    noun: &'static str,
    prefix: &'static str,
}

macro_rules! sid {
    ($(#[$meta:meta])* $name:ident, $noun:literal, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The first of all in their order.
            pub const FIRST: Self = Self([0; 32]);

            /// Its last 16 digits as a number: as good as random, and the same for ever.
            pub fn number(&self) -> u64 {
                let digits = std::str::from_utf8(&self.0[16..]).unwrap_or_default();
                u64::from_str_radix(digits, 16).unwrap_or_default()
            }

            /// Parses the 34 characters of a SID.
            pub fn parse(text: &str) -> Result<Self, InvalidSid> {
                text.strip_prefix($prefix)
                    .and_then(|digits| <[u8; 32]>::try_from(digits.as_bytes()).ok())
                    .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
                    .map(Self)
                    .ok_or(InvalidSid { noun: $noun, prefix: $prefix })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

sid!(
    /// The SID of a Call (`CA…`).
    CallSid,
    "a Call SID",
    "CA"
);
sid!(
    /// The SID of an Account or subaccount (`AC…`).
    AccountSid,
    "an Account SID",
    "AC"
);
sid!(
    /// The SID of an API key (`SK…`).
    ApiKeySid,
    "an API key SID",
    "SK"
);

/// Whether a text has the shape of any SID: two letters and 32 hexadecimal digits.
pub fn looks_like_sid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 34
        && bytes[..2].iter().all(u8::is_ascii_alphabetic)
        && bytes[2..].iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_is_shown_as_it_came_and_nothing_else_is_a_sid() {
        let text = "CA0123456789abcdefABCDEF0123456789";
        assert_eq!(CallSid::parse(text).expect("a SID").to_string(), text);
        for not in
            ["", "CA", "AC0123456789abcdefABCDEF0123456789", "CA0123456789abcdefABCDEF012345678g"]
        {
            assert!(CallSid::parse(not).is_err(), "{not}");
        }
    }
}
