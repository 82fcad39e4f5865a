//! Selects and labels the subaccounts to poll.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::words::sid::AccountSid;

/// Selects the subaccounts to poll, and labels them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubaccountFilter {
    /// If not empty, only these are polled: SIDs or labels, where `*` matches any text.
    pub include: Vec<String>,
    /// Never polled; same format.
    pub exclude: Vec<String>,
    /// Labels by SID. Without one, the label is the SID, followed by the region if [`Self::region`] is set.
    pub names: BTreeMap<AccountSid, String>,
    /// The region, if the same subaccounts may also be polled in another one.
    pub region: Option<String>,
    /// Accounts of the same region with their own configuration: polling them twice would count them twice.
    pub configured: BTreeSet<AccountSid>,
}

impl SubaccountFilter {
    /// Returns the label of a subaccount.
    pub fn label(&self, sid: AccountSid) -> String {
        match (self.names.get(&sid), &self.region) {
            (Some(name), _) => name.clone(),
            (None, Some(region)) => format!("{sid}@{region}"),
            (None, None) => sid.to_string(),
        }
    }

    /// Whether a subaccount should be polled.
    pub fn includes(&self, sid: AccountSid, status: &str) -> bool {
        let (text, label) = (sid.to_string(), self.label(sid));
        let is_in = |patterns: &[String]| {
            patterns.iter().any(|pattern| matches(pattern, &text) || matches(pattern, &label))
        };
        status != "closed"
            && !self.configured.contains(&sid)
            && (self.include.is_empty() || is_in(&self.include))
            && !is_in(&self.exclude)
    }
}

/// Whether a text matches a pattern in which `*` matches any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut tail) = text.strip_prefix(prefix) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return tail.ends_with(part);
        }
        let Some(at) = tail.find(part) else { return false };
        tail = &tail[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_text() {
        for (pattern, text, expected) in [
            ("acme", "acme", true),
            ("acme", "acme-1", false),
            ("acme*", "acme-1", true),
            ("*-1", "acme-1", true),
            ("a*e-*", "acme-1", true),
            ("a*x*", "acme-1", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_label_is_the_name_or_the_sid_with_the_region_if_set() {
        let sid = sid();
        let names = BTreeMap::from([(sid, "acme".to_owned())]);
        let label = |names: &BTreeMap<AccountSid, String>, region: Option<&str>| {
            let (names, region) = (names.clone(), region.map(str::to_owned));
            SubaccountFilter { names, region, ..SubaccountFilter::default() }.label(sid)
        };
        assert_eq!(label(&names, Some("ie1")), "acme");
        assert_eq!(label(&BTreeMap::new(), Some("ie1")), format!("{sid}@ie1"));
        assert_eq!(label(&BTreeMap::new(), None), sid.to_string());
    }

    #[test]
    fn suspended_accounts_are_polled_but_closed_ones_are_not() {
        for (status, expected) in [("active", true), ("suspended", true), ("closed", false)] {
            assert_eq!(SubaccountFilter::default().includes(sid(), status), expected, "{status}");
        }
    }

    fn sid() -> AccountSid {
        AccountSid::parse("AC00000000000000000000000000000001").expect("valid SID")
    }
}
