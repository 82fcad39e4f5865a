//! The query string of `/failures`.
//!
//! A parameter may be repeated to match any of its values. Empty values are ignored, because the form sends
//! one for each empty field.

use form_urlencoded::Serializer;
use jiff::{SignedDuration, Timestamp};

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::verdict::Reason;
use crate::domain::words::label;
use crate::store::failures::{FailureFilter, MAX_RESULTS, RecentFailures};

/// The default number of failures: a few screens.
pub(super) const DEFAULT_LIMIT: usize = 200;
/// Numbers from this one on are milliseconds, as in Grafana's links; smaller ones are seconds. In seconds, it
/// is in the year 5138; in milliseconds, in 1973.
const FIRST_MILLISECOND: i64 = 100_000_000_000;
const TIME: &str =
    "a time such as 2026-01-31T16:20:00Z (write + as %2B), or Unix seconds or milliseconds";

/// Parses a query string.
///
/// # Errors
/// Returns all problems, each with the parameter, the expected value and the actual one.
pub(super) fn parse(text: &str) -> Result<FailureFilter, Vec<String>> {
    let mut filter = all();
    let mut problems = Vec::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        if !value.is_empty()
            && let Err(expected) = add(&mut filter, &name, &value)
        {
            let (name, value) = (label::cut(&name), label::cut(&value));
            problems.push(format!("{name}: expected {expected}, got `{value}`"));
        }
    }
    if problems.is_empty() { Ok(filter) } else { Err(problems) }
}

/// Returns the filter that matches all failures.
pub(super) fn all() -> FailureFilter {
    FailureFilter { limit: DEFAULT_LIMIT, ..FailureFilter::default() }
}

fn add(filter: &mut FailureFilter, name: &str, value: &str) -> Result<(), String> {
    let time = || parse_time(value.trim()).ok_or(TIME);
    match name {
        "account" => filter.accounts.push(value.to_owned()),
        "host" => filter.hosts.push(value.to_owned()),
        "route" => filter.routes.push(value.to_owned()),
        "kind" => {
            let kind = webhook_kinds().find(|kind| kind.as_str() == value);
            let names = webhook_kinds().map(RequestKind::as_str);
            filter.kinds.push(kind.ok_or_else(|| one_of(names))?);
        }
        "reason" => {
            let names = Reason::ALL.iter().map(|reason| reason.as_str());
            filter.reasons.push(Reason::from_label(value).ok_or_else(|| one_of(names))?);
        }
        "from" => filter.from = Some(time()?),
        "to" => filter.to = Some(time()?),
        "limit" => {
            let limit = value.parse().ok().filter(|limit| (1..=MAX_RESULTS).contains(limit));
            let expected = || format!("a whole number from 1 to {MAX_RESULTS}");
            filter.limit = limit.ok_or_else(expected)?;
        }
        _ => return Err("account, host, route, kind, reason, from, to or limit".to_owned()),
    }
    Ok(())
}

/// Whether a filter has criteria, apart from its limit.
pub(super) fn is_filtered(filter: &FailureFilter) -> bool {
    FailureFilter { limit: DEFAULT_LIMIT, ..filter.clone() } != all()
}

/// Returns a link to the failures that match a filter.
pub(super) fn link(filter: &FailureFilter, path: &str) -> String {
    let mut query = Serializer::new(String::new());
    let texts = [("account", &filter.accounts), ("host", &filter.hosts), ("route", &filter.routes)];
    for (name, values) in texts {
        query.extend_pairs(values.iter().map(|value| (name, value)));
    }
    query.extend_pairs(filter.kinds.iter().map(|kind| ("kind", kind.as_str())));
    query.extend_pairs(filter.reasons.iter().map(|reason| ("reason", reason.as_str())));
    query.extend_pairs(filter.from.map(|from| ("from", from.to_string())));
    query.extend_pairs(filter.to.map(|to| ("to", to.to_string())));
    if filter.limit != DEFAULT_LIMIT {
        query.append_pair("limit", &filter.limit.to_string());
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Returns the filter for the results after these, or `None` if they are complete.
///
/// Time ranges include both ends, so the next results repeat the last instant of these: requests of the same
/// second may be on both sides of the cut.
pub(super) fn older(filter: &FailureFilter, found: &RecentFailures) -> Option<FailureFilter> {
    let (newest, oldest) = (found.failures.first()?, found.failures.last()?);
    if found.total <= found.failures.len() {
        return None;
    }
    let mut older = filter.clone();
    if newest.at > oldest.at {
        older.to = Some(oldest.at);
    } else if found.failures.len() < MAX_RESULTS {
        // All have the same time, so only a higher limit reaches older ones.
        older.limit = MAX_RESULTS;
    } else {
        older.to = oldest.at.checked_sub(SignedDuration::from_millis(1)).ok();
    }
    Some(older)
}

/// Returns the kinds of webhook requests, that is, all but the application's own API requests.
pub(super) fn webhook_kinds() -> impl Iterator<Item = RequestKind> {
    RequestKind::ALL.iter().copied().filter(|kind| *kind != RequestKind::ApiRequest)
}

fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("one of {}", names.collect::<Vec<_>>().join(", "))
}

/// Parses RFC 3339, Unix seconds or Unix milliseconds.
fn parse_time(text: &str) -> Option<Timestamp> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let number = text.parse::<i64>().ok()?;
    if number < FIRST_MILLISECOND {
        Timestamp::from_second(number).ok()
    } else {
        Timestamp::from_millisecond(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, failure};
    use super::*;

    #[test]
    fn parses_every_parameter_and_links_back_to_the_same_filter() {
        let text = "account=prod&host=h&route=%2Fa%3F%26%3D%2B+%C3%A4&route=b&kind=voice_url&kind=gather_action&reason=timeout&from=1700000000&to=2023-11-14T22:14:00Z&limit=7";
        let filter = parse(text).expect("a filter");
        let expected = FailureFilter {
            accounts: vec!["prod".to_owned()],
            hosts: vec!["h".to_owned()],
            routes: vec!["/a?&=+ ä".to_owned(), "b".to_owned()],
            kinds: vec![RequestKind::VoiceUrl, RequestKind::GatherAction],
            reasons: vec![Reason::Timeout],
            from: Some(at(0)),
            to: Some(at(40)),
            limit: 7,
        };
        assert_eq!(filter, expected);
        let link = link(&filter, "/failures");
        let (path, query) = link.split_once('?').expect("a query");
        assert_eq!((path, parse(query)), ("/failures", Ok(expected)));
        assert!(!query.contains(['<', '"', ' ', '\'', '\n']), "{query}");
        assert_eq!(super::link(&all(), "/failures"), "/failures");
    }

    #[test]
    fn ignores_empty_values() {
        let empty = "account=&host=&route=&kind=&reason=&from=&to=&limit=";
        assert_eq!(parse(empty), Ok(all()));
        assert_eq!(parse(""), Ok(all()));
        assert!(!is_filtered(&parse("limit=3").expect("a filter")));
        assert!(is_filtered(&parse("host=a&host=").expect("a filter")));
    }

    #[test]
    fn accepts_rfc_3339_unix_seconds_and_grafanas_milliseconds() {
        for (text, expected) in [
            ("1700000000", Some(at(0))),
            ("1700000000000", Some(at(0))),
            ("2023-11-14T22:13:20Z", Some(at(0))),
            ("2023-11-14T23:13:20.000%2B01:00", Some(at(0))),
            ("99999999999999999999", None),
            ("9999999999999999", None),
            ("2023-11-14T22:13:20", None),
            ("yesterday", None),
            ("-5", None),
        ] {
            let filter = parse(&format!("from={text}"));
            assert_eq!(filter.ok().and_then(|filter| filter.from), expected, "{text}");
        }
    }

    #[test]
    fn reports_every_problem() {
        let text = "kind=api_request&reason=bad&limit=0&limit=1001&from=x&hots=a";
        let problems = parse(text).expect_err("problems");
        let expected = [
            ("kind: expected one of fallback_url, ", ", got `api_request`"),
            ("reason: expected one of missing_content_type, ", ", got `bad`"),
            ("limit: expected a whole number from 1 to 1000, ", "got `0`"),
            ("limit: expected a whole number from 1 to 1000, ", "got `1001`"),
            ("from: expected a time such as ", ", got `x`"),
            ("hots: expected account, host, ", "or limit, got `a`"),
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, (start, end)) in problems.iter().zip(expected) {
            assert!(problem.starts_with(start) && problem.ends_with(end), "{problem}");
        }
        let long = parse(&format!("limit={}", "9".repeat(10_000))).expect_err("a problem");
        assert!(long[0].len() < 400);
    }

    #[test]
    fn older_results_start_at_the_cut_and_always_advance() {
        let found = |seconds: &[i64], total| RecentFailures {
            failures: seconds.iter().map(|second| failure("/a", *second)).collect(),
            total,
            reported: Vec::new(),
        };
        let filter = FailureFilter { limit: 2, ..all() };
        assert_eq!(older(&filter, &found(&[2, 1], 2)), None);
        assert_eq!(older(&filter, &found(&[], 0)), None);
        let next = older(&filter, &found(&[2, 1], 3)).expect("more");
        assert_eq!(next, FailureFilter { to: Some(at(1)), ..filter.clone() });
        let longer = older(&filter, &found(&[1, 1], 3)).expect("more");
        assert_eq!(longer, FailureFilter { limit: MAX_RESULTS, ..filter.clone() });
        let beyond = older(&filter, &found(&[1; MAX_RESULTS], 1_001)).expect("more");
        assert_eq!(beyond.to, Some(at(1) - SignedDuration::from_millis(1)));
    }
}
