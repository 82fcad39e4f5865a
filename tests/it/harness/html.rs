//! A strict parser for the HTML of our pages: it panics on wrong quoting or escaping.

/// A start or end tag.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tag {
    /// Its name; for an end tag with the leading `/`.
    pub name: String,
    /// Its attributes, unescaped.
    pub attributes: Vec<(String, String)>,
}

impl Tag {
    /// The value of an attribute.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// All tags of a page, in order.
pub(crate) fn tags(page: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some((text, tail)) = rest.split_once('<') {
        assert!(!text.contains('>') || is_style(&tags), "a stray > in {text}");
        let (tag, after) = tail.split_once('>').expect("the end of the tag");
        assert!(!tag.contains('<'), "a stray < in {tag}");
        tags.push(read(tag));
        rest = after;
    }
    tags
}

fn is_style(tags: &[Tag]) -> bool {
    tags.last().is_some_and(|tag| tag.name == "style")
}

fn read(tag: &str) -> Tag {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '!');
    let (name, mut rest) = tag.split_at(tag.find(|c| !is_name(c)).unwrap_or(tag.len()));
    let mut attributes = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no space in <{tag}>"));
        let (name, tail) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        assert!(!name.is_empty(), "an attribute without a name in <{tag}>");
        let (value, after) = match tail.strip_prefix("=\"") {
            None => ("", tail),
            Some(quoted) => quoted.split_once('"').expect("a closing quote"),
        };
        attributes.push((name.to_owned(), unescape(value)));
        rest = after;
    }
    Tag { name: name.to_owned(), attributes }
}

fn unescape(text: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")];
    named.iter().fold(text.to_owned(), |text, (name, character)| text.replace(name, character))
}
