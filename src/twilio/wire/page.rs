//! Splits a page of a list into raw JSON items and the link to the next page.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::lenient::Text;

/// An item of a page, not yet decoded.
#[derive(Clone, Copy, Debug)]
pub struct RawItem<'a>(&'a RawValue);

impl<'a> RawItem<'a> {
    /// Creates an item from JSON outside a page.
    pub fn new(json: &'a RawValue) -> Self {
        Self(json)
    }

    /// Returns the JSON text.
    pub fn json(&self) -> &'a str {
        self.0.get()
    }
}

/// A page.
#[derive(Debug)]
pub struct Page<'a> {
    /// The items.
    pub items: Vec<RawItem<'a>>,
    /// The link to the next page as Twilio writes it; `None` on the last page.
    pub next_page: Option<String>,
}

/// The maximum number of items on a page. Twilio returns at most 1,000, but 16 MiB have room for millions.
const MAX_ITEMS: usize = 2_000;

#[derive(Deserialize)]
struct PageWire<'a> {
    #[serde(
        borrow,
        alias = "calls",
        alias = "accounts",
        alias = "alerts",
        deserialize_with = "items"
    )]
    events: Vec<&'a RawValue>,
    #[serde(default, borrow)]
    next_page_uri: Text<'a>,
    #[serde(default, borrow)]
    meta: Option<&'a RawValue>,
}

/// The metadata of a page in Twilio's newer APIs.
#[derive(Default, Deserialize)]
struct MetaWire<'a> {
    #[serde(default, borrow)]
    next_page_url: Text<'a>,
}

fn items<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<&'a RawValue>, D::Error> {
    struct Items;
    impl<'de> Visitor<'de> for Items {
        type Value = Vec<&'de RawValue>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of items")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == MAX_ITEMS {
                    return Err(A::Error::custom("too many items for a page"));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Items)
}

/// A plain list of items.
#[derive(Deserialize)]
#[serde(transparent)]
struct ItemsWire<'a>(#[serde(borrow, deserialize_with = "items")] Vec<&'a RawValue>);

/// Splits a list into its items. Returns `None` if it isn't a list.
pub(super) fn split_items(json: &str) -> Option<Vec<RawItem<'_>>> {
    let ItemsWire(items) = serde_json::from_str(json).ok()?;
    Some(items.into_iter().map(RawItem).collect())
}

impl<'a> Page<'a> {
    /// Splits a page into its items. Returns `None` if it isn't a page. All lists have the same structure,
    /// except that the error log's link to the next page is in `meta`.
    pub fn split(json: &'a str) -> Option<Self> {
        let wire: PageWire<'a> = serde_json::from_str(json).ok()?;
        let meta = wire.meta.and_then(|meta| serde_json::from_str::<MetaWire<'a>>(meta.get()).ok());
        let next_page = wire.next_page_uri.into_string();
        let next_page = next_page.or_else(|| meta?.next_page_url.into_string());
        let next_page = next_page.filter(|next| !next.is_empty());
        Some(Self { items: wire.events.into_iter().map(RawItem).collect(), next_page })
    }
}

/// Decodes the bytes of a response as UTF-8, replacing invalid sequences.
pub(crate) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    // The strict check is several times faster, and nearly always succeeds.
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}
