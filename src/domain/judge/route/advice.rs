//! Suggests the route pattern that would merge the most endpoints.

use std::collections::BTreeMap;

use super::pattern::RoutePattern;
use super::{Endpoint, PLACEHOLDER};

/// The minimum number of endpoints that a suggested pattern merges.
const MIN_JOINED: usize = 3;
/// A position is data if it has at least one distinct value per this many endpoints.
const VARIES: usize = 3;

/// Returns the pattern that merges the most endpoints, built one position at a time: the most frequent value
/// if at least half of the endpoints share it or few values differ, otherwise a placeholder.
pub fn pattern_for<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Option<RoutePattern> {
    let mut by_length: BTreeMap<usize, Vec<Vec<&str>>> = BTreeMap::new();
    for endpoint in endpoints {
        let values: Vec<&str> =
            [&*endpoint.host].into_iter().chain(endpoint.route.split('/')).collect();
        by_length.entry(values.len()).or_default().push(values);
    }
    let mut joined = by_length.into_values().max_by_key(Vec::len)?;
    let (mut text, mut is_joining) = (String::new(), false);
    for at in 0..joined.first()?.len() {
        let counts = counts(joined.iter().map(|values| values[at]));
        let (value, count) = most_frequent(&counts)?;
        let varies = count * 2 < joined.len() && counts.len() * VARIES >= joined.len();
        text.push_str(if at > 1 { "/" } else { "" });
        if !varies {
            // A host label with data replaced can't be part of a pattern.
            let is_known = at > 0 || !value.contains(PLACEHOLDER);
            text.push_str(if is_known { value } else { "" });
            joined.retain(|values| values[at] == value);
        } else if at > 0 {
            text.push_str(":name");
        } else {
            let domains = counts.keys().filter_map(|host| Some(host.split_once('.')?.1));
            let (domain, _) = most_frequent(&self::counts(domains))?;
            joined.retain(|values| values[0].split_once('.').is_some_and(|(_, of)| of == domain));
            text.push_str("*.");
            text.push_str(domain);
        }
        is_joining |= varies;
    }
    (is_joining && joined.len() >= MIN_JOINED).then(|| RoutePattern::parse(&text).ok()).flatten()
}

fn counts<'a>(values: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    values.fold(BTreeMap::new(), |mut counts, value| {
        *counts.entry(value).or_default() += 1;
        counts
    })
}

fn most_frequent<'a>(counts: &BTreeMap<&'a str, usize>) -> Option<(&'a str, usize)> {
    counts.iter().max_by_key(|(_, count)| **count).map(|(value, count)| (*value, *count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_vary_become_placeholders() {
        let words = ["ada", "bob", "cleo", "dora", "ede", "fay"];
        let each = |text: &str| words.map(|word| text.replace('$', word)).to_vec();
        for (groups, expected) in [
            (vec![each("a.example /calls/$")], Some("a.example/calls/:name")),
            (vec![each("a.example /calls/$/menu")], Some("a.example/calls/:name/menu")),
            (vec![each("a.example /$")], Some("a.example/:name")),
            (vec![each("a.example:8443 /:id/$")], Some("a.example:8443/:id/:name")),
            (vec![each("a.example /$/x/$")], Some("a.example/:name/x/:name")),
            (
                vec![each("a.example /calls/$"), vec!["b.example /voice/x".to_owned()]],
                Some("a.example/calls/:name"),
            ),
            (
                vec![each("a.example /calls/$/menu"), each("a.example /calls/$/end")],
                Some("a.example/calls/:name/menu"),
            ),
            (vec![each("$.preview.example /voice")], Some("*.preview.example/voice")),
            (
                vec![each("$.preview.example /x"), each("$.preview.example /y")],
                Some("*.preview.example/y"),
            ),
            (vec![each(":id.example /calls/$")], Some("/calls/:name")),
            (vec![each("a.example /one")], None),
            (vec![vec!["a.example /a".to_owned(), "b.example /b".to_owned()]], None),
            (vec![], None),
        ] {
            let endpoints: Vec<Endpoint> = groups
                .concat()
                .iter()
                .filter_map(|text| text.split_once(' '))
                .map(|(host, route)| Endpoint { host: host.to_owned(), route: route.to_owned() })
                .collect();
            let found = pattern_for(endpoints.iter()).map(|pattern| pattern.to_string());
            assert_eq!(found.as_deref(), expected, "{endpoints:?}");
        }
    }
}
