//! Configured patterns, which merge paths, optionally of certain hosts, into one route.

/// A configured pattern: `/ivr/:tenant/menu`, or with a host, `*.example.com/ivr/:tenant`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    pub(super) host: Option<String>,
    pub(super) path: String,
}

/// Why a text isn't a valid route pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// There is no path.
    #[error("a pattern needs a path, such as `/ivr/:tenant/menu`, optionally after a host")]
    NoPath,
    /// A scheme, with which a pattern would never match.
    #[error("a pattern begins with a host or a path, not with a scheme such as `https://`")]
    Scheme,
    /// A query or fragment, which isn't part of a path.
    #[error("a pattern can't contain a query or a fragment")]
    QueryOrFragment,
    /// White space or a control character.
    #[error("a pattern can't contain white space or control characters")]
    Blank,
    /// A `:` without a name.
    #[error("a placeholder needs a name after its `:`")]
    UnnamedPlaceholder,
    /// A `*` that isn't the first label of the host.
    #[error("`*` can only stand for the first labels of a host, as in `*.example.com/ivr`")]
    Wildcard,
}

impl std::fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.host.as_deref().unwrap_or_default(), self.path)
    }
}

impl RoutePattern {
    /// Parses a pattern.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let slash = text.find('/').ok_or(InvalidPattern::NoPath)?;
        let (host, path) = text.split_at(slash);
        if text.contains("://") {
            return Err(InvalidPattern::Scheme);
        }
        if text.contains(['?', '#']) {
            return Err(InvalidPattern::QueryOrFragment);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(InvalidPattern::Blank);
        }
        if path.split('/').any(|segment| segment == ":") {
            return Err(InvalidPattern::UnnamedPlaceholder);
        }
        if host.strip_prefix("*.").unwrap_or(host).contains('*') || path.contains('*') {
            return Err(InvalidPattern::Wildcard);
        }
        let host = (!host.is_empty()).then(|| host.to_lowercase());
        Ok(Self { host, path: path.to_owned() })
    }

    pub(super) fn matches(&self, host: &str, path: &str) -> bool {
        let host_matches = match &self.host {
            None => true,
            Some(pattern) => match pattern.strip_prefix('*') {
                Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
                None => host == pattern,
            },
        };
        let mut expected = self.path.split('/');
        let mut found = path.split('/');
        host_matches
            && loop {
                match (expected.next(), found.next()) {
                    (None, None) => break true,
                    (Some(pattern), Some(segment)) if pattern == segment => {}
                    (Some(pattern), Some(segment))
                        if pattern.starts_with(':') && !segment.is_empty() => {}
                    (Some(_), Some(_)) | (None, Some(_)) | (Some(_), None) => break false,
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_pattern_is_rejected_with_its_reason() {
        use InvalidPattern::*;
        for (text, reason) in [
            ("", NoPath),
            ("ivr", NoPath),
            ("https://a.example/ivr", Scheme),
            ("/a?b", QueryOrFragment),
            ("/a b", Blank),
            ("/a/:/b", UnnamedPlaceholder),
            ("/a/*", Wildcard),
            ("a.*.com/", Wildcard),
        ] {
            assert_eq!(RoutePattern::parse(text), Err(reason), "{text}");
        }
    }
}
