//! Twilio's identifiers: two letters and 32 hexadecimal digits.
//!
//! SIDs are used in request paths exactly as received, so upper-case digits are preserved.

use std::fmt;

/// The error for text that isn't a SID of the expected kind. Omits the text, which may be sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {noun} (`{prefix}` and 32 hex digits)")]
pub struct InvalidSid {
    noun: &'static str,
    prefix: &'static str,
}

/// 32 hexadecimal digits, packed two per byte: hundreds of thousands of SIDs are kept in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Digits {
    values: [u8; 16],
    /// A bit for each upper-case digit; the lowest bit is the first digit.
    capitals: u32,
}

impl Digits {
    fn parse(text: &str) -> Option<Self> {
        let text = <[u8; 32]>::try_from(text.as_bytes()).ok()?;
        let mut digits = Self { values: [0; 16], capitals: 0 };
        for (at, digit) in text.into_iter().enumerate() {
            let value =
                char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())?;
            digits.values[at / 2] = digits.values[at / 2] << 4 | value;
            digits.capitals |= u32::from(digit.is_ascii_uppercase()) << at;
        }
        Some(digits)
    }

    fn text(self) -> [u8; 32] {
        std::array::from_fn(|at| {
            let shift = if at % 2 == 0 { 4 } else { 0 };
            let digit = b"0123456789abcdef"[usize::from(self.values[at / 2] >> shift & 0xf)];
            if self.capitals >> at & 1 == 1 { digit.to_ascii_uppercase() } else { digit }
        })
    }
}

macro_rules! sid {
    ($(#[$meta:meta])* $name:ident, $noun:literal, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Digits);

        impl $name {
            /// The smallest SID.
            pub const FIRST: Self = Self(Digits { values: [0; 16], capitals: 0 });

            /// Returns the last 16 digits as a number: effectively random, and always the same.
            pub fn number(&self) -> u64 {
                let [.., a, b, c, d, e, f, g, h] = self.0.values;
                u64::from_be_bytes([a, b, c, d, e, f, g, h])
            }

            /// Parses the 34 characters of a SID.
            pub fn parse(text: &str) -> Result<Self, InvalidSid> {
                let digits = text.strip_prefix($prefix).and_then(Digits::parse);
                digits.map(Self).ok_or(InvalidSid { noun: $noun, prefix: $prefix })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(std::str::from_utf8(&self.0.text()).unwrap_or_default())
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

sid!(
    /// The SID of an error log entry (`NO…`).
    ErrorLogSid,
    "the SID of an error log entry",
    "NO"
);

/// Whether a text has the format of a SID: two letters and 32 hexadecimal digits.
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
    fn a_sid_round_trips_and_other_text_is_rejected() {
        let text = "CA0123456789abcdefABCDEF0123456789";
        assert_eq!(CallSid::parse(text).expect("valid SID").to_string(), text);
        for not in
            ["", "CA", "AC0123456789abcdefABCDEF0123456789", "CA0123456789abcdefABCDEF012345678g"]
        {
            assert!(CallSid::parse(not).is_err(), "{not}");
        }
    }
}
