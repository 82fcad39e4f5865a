//! Fields that accept any JSON type: a value of an unexpected type doesn't fail the item.

use std::borrow::Cow;
use std::fmt;
use std::iter;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::text_of;
use crate::domain::words::call_event::Body;
use crate::domain::words::parameters::Parameters;

/// A string, with invalid Unicode replaced. Any other type counts as absent.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(Option<Cow<'a, str>>);

impl Text<'_> {
    pub(super) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }

    pub(super) fn into_string(self) -> Option<String> {
        self.0.map(Cow::into_owned)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawText::deserialize(deserializer).map(|raw| Self(raw.into_text()))
    }
}

/// Any JSON value, decoded on demand.
#[derive(Debug, Default)]
pub(super) enum RawText<'a> {
    /// Null or missing.
    #[default]
    Absent,
    /// The raw JSON.
    Raw(&'a RawValue),
}

impl<'a> RawText<'a> {
    /// Returns the text of a string, and `None` for anything else.
    pub(super) fn into_string(self) -> Option<String> {
        self.into_text().map(Cow::into_owned)
    }

    fn into_text(self) -> Option<Cow<'a, str>> {
        let Self::Raw(raw) = self else { return None };
        let json = raw.get();
        let inside = json.strip_prefix('"')?.strip_suffix('"')?;
        if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
            // A valid JSON string without escapes needs no decoding.
            return Some(Cow::Borrowed(inside));
        }
        match serde_json::from_str::<String>(json) {
            Ok(text) => Some(Cow::Owned(text)),
            // A lone surrogate: a length limit has split a character.
            Err(_) => serde_json::from_str::<Lossy>(json).ok().map(|Lossy(text)| Cow::Owned(text)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(if raw.get() == "null" { Self::Absent } else { Self::Raw(raw) })
    }
}

impl From<RawText<'_>> for Body {
    fn from(text: RawText<'_>) -> Self {
        match text {
            RawText::Absent => Self::Absent,
            raw @ RawText::Raw(_) => raw.into_string().map_or(Self::Structured, Self::Text),
        }
    }
}

/// A body decoded in one pass, without first scanning for its end. Fails if its escapes aren't valid Unicode.
pub(super) struct StrictBody(Body);

impl Default for StrictBody {
    fn default() -> Self {
        Self(Body::Absent)
    }
}

impl From<StrictBody> for Body {
    fn from(StrictBody(body): StrictBody) -> Self {
        body
    }
}

impl<'de> Deserialize<'de> for StrictBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = Body;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a body")
            }
            fn visit_str<E>(self, text: &str) -> Result<Body, E> {
                Ok(Body::Text(text.to_owned()))
            }
            fn visit_unit<E>(self) -> Result<Body, E> {
                Ok(Body::Absent)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Body, E> {
                Ok(Body::Structured)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Body, E> {
                Ok(Body::Structured)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Body, E> {
                Ok(Body::Structured)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Body, E> {
                Ok(Body::Structured)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Body::Structured)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Body, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Body::Structured)
            }
        }
        deserializer.deserialize_any(Value).map(Self)
    }
}

/// A string whose escapes may be invalid Unicode.
struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Lossy;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Lossy, E> {
                Ok(Lossy(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// An integer, or a string that contains one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Number {
    /// Null, missing, or an empty string.
    #[default]
    Absent,
    /// An integer.
    Value(i64),
    /// Anything else.
    Unreadable,
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let text = raw.get().trim_matches('"').trim();
        let text = text.strip_suffix(".0").unwrap_or(text);
        Ok(match text {
            "null" | "" => Self::Absent,
            _ => text.parse().map_or(Self::Unreadable, Self::Value),
        })
    }
}

/// The parameters in an object. Any other type has none.
#[derive(Default)]
pub(super) struct LenientParameters(pub(super) Parameters);

impl<'de> Deserialize<'de> for LenientParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = LenientParameters;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut failed = None;
                let entries = iter::from_fn(|| {
                    let entry = map.next_entry::<Key<'_>, RawText<'_>>();
                    entry.unwrap_or_else(|error| {
                        failed = Some(error);
                        None
                    })
                });
                let parameters = Parameters::collect(entries, RawText::into_string);
                failed.map_or(Ok(LenientParameters(parameters)), Err)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(LenientParameters::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(LenientParameters::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(LenientParameters::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(LenientParameters::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(LenientParameters::default())
            }
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(LenientParameters::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(LenientParameters::default())
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

/// A key whose escapes may be invalid Unicode.
struct Key<'a>(Cow<'a, str>);

impl AsRef<str> for Key<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Key<'de>, E> {
                Ok(Key(text_of(bytes)))
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text_of(bytes).into_owned())))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
