//! A page of a list: its items as raw JSON, and where the next page is.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::lenient::Text;

/// One item of a page, not yet decoded.
#[derive(Clone, Copy, Debug)]
pub struct RawItem<'a>(&'a RawValue);

impl<'a> RawItem<'a> {
    /// Takes an item that came alone.
    pub fn new(json: &'a RawValue) -> Self {
        Self(json)
    }

    /// The JSON text.
    pub fn json(&self) -> &'a str {
        self.0.get()
    }
}

/// A page.
#[derive(Debug)]
pub struct Page<'a> {
    /// Its items.
    pub items: Vec<RawItem<'a>>,
    /// The next page, as Twilio gives it; `None` on the last.
    pub next_page: Option<String>,
}

/// Most items of a page: Twilio gives at most 1,000, and a page of 16 MiB has room for millions.
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

/// What stands around the items in Twilio's newer APIs.
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
                    return Err(A::Error::custom("more items than a page has"));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Items)
}

/// Items that came without a page around them.
#[derive(Deserialize)]
#[serde(transparent)]
struct ItemsWire<'a>(#[serde(borrow, deserialize_with = "items")] Vec<&'a RawValue>);

/// Cuts a list into its items; `None` if it is no list.
pub(super) fn cut_items(json: &str) -> Option<Vec<RawItem<'_>>> {
    let ItemsWire(items) = serde_json::from_str(json).ok()?;
    Some(items.into_iter().map(RawItem).collect())
}

impl<'a> Page<'a> {
    /// Cuts a page into its items; `None` if it is no page. All lists have the same envelope, but that the
    /// error log's next page is told elsewhere.
    pub fn cut(json: &'a str) -> Option<Self> {
        let wire: PageWire<'a> = serde_json::from_str(json).ok()?;
        let meta = wire.meta.and_then(|meta| serde_json::from_str::<MetaWire<'a>>(meta.get()).ok());
        let next_page = wire.next_page_uri.into_string();
        let next_page = next_page.or_else(|| meta?.next_page_url.into_string());
        let next_page = next_page.filter(|next| !next.is_empty());
        Some(Self { items: wire.events.into_iter().map(RawItem).collect(), next_page })
    }
}

/// The bytes of an answer as text; what is no UTF-8 is replaced.
pub(crate) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    // The strict check is several times as fast, and nearly always enough.
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}
