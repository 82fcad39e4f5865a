//! The question behind `/failures`: its query, read strictly, and written for links.
//!
//! A key may be repeated: any of its values will do. An empty value filters nothing, as the form
//! sends one for each field that was left alone.

use form_urlencoded::Serializer;
use jiff::{SignedDuration, Timestamp};

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::verdict::Reason;
use crate::domain::words::label;
use crate::store::failures::{FailureFilter, MAX_RESULTS, RecentFailures};

/// How many are shown where nothing is said: a few screens.
pub(super) const DEFAULT_LIMIT: usize = 200;
/// Numbers from here on are milliseconds, as Grafana writes times into links, below it seconds: in
/// seconds this is the year 5138, in milliseconds 1973.
const FIRST_MILLISECOND: i64 = 100_000_000_000;
/// The keys, as a message names them.
const KEYS: &str = "account, host, route, kind, reason, from, to or limit";
/// How a time is written, as a message says it.
const TIME: &str =
    "a time such as 2026-01-31T16:20:00Z (a + in it is %2B), or Unix seconds or milliseconds";

/// A question: which failures a person wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) accounts: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) routes: Vec<String>,
    pub(super) kinds: Vec<RequestKind>,
    pub(super) reasons: Vec<Reason>,
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
    pub(super) limit: Option<usize>,
}

impl Question {
    /// Reads a query.
    ///
    /// # Errors
    /// Everything that is wrong with it: what was found and what is wanted.
    pub(super) fn read(query: &str) -> Result<Self, Vec<String>> {
        let mut question = Self::default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let problems: Vec<String> =
            pairs.filter_map(|(key, value)| question.take(&key, &value).err()).collect();
        if problems.is_empty() { Ok(question) } else { Err(problems) }
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let own = |text: &str| Some(text.to_owned());
        let taken = match key {
            "account" => add(&mut self.accounts, value, own, String::new),
            "host" => add(&mut self.hosts, value, own, String::new),
            "route" => add(&mut self.routes, value, own, String::new),
            "kind" => {
                let wanted = || one_of(webhook_kinds().map(RequestKind::as_str));
                let kind = |text: &str| webhook_kinds().find(|kind| kind.as_str() == text);
                add(&mut self.kinds, value, kind, wanted)
            }
            "reason" => {
                let wanted = || one_of(Reason::ALL.iter().map(|reason| reason.as_str()));
                add(&mut self.reasons, value, Reason::from_label, wanted)
            }
            "from" => set(&mut self.from, value, parse_time, TIME),
            "to" => set(&mut self.to, value, parse_time, TIME),
            "limit" => {
                let wanted = format!("a whole number from 1 to {MAX_RESULTS}");
                set(&mut self.limit, value, parse_limit, &wanted)
            }
            _ => {
                return Err(format!("found the key `{}`, wanted {KEYS}", label::cut(key)));
            }
        };
        taken.map_err(|wanted| format!("{key}: found `{}`, wanted {wanted}", label::cut(value)))
    }

    /// What the store is asked.
    pub(super) fn filter(&self) -> FailureFilter {
        let question = self.clone();
        FailureFilter {
            accounts: question.accounts,
            hosts: question.hosts,
            routes: question.routes,
            kinds: question.kinds,
            reasons: question.reasons,
            from: question.from,
            to: question.to,
            limit: question.limit.unwrap_or(DEFAULT_LIMIT),
        }
    }

    /// Whether it asks for less than all.
    pub(super) fn is_filtered(&self) -> bool {
        Self { limit: None, ..self.clone() } != Self::default()
    }

    /// A link to the answer, under a path.
    pub(super) fn link(&self, path: &str) -> String {
        let mut query = Serializer::new(String::new());
        let texts = [("account", &self.accounts), ("host", &self.hosts), ("route", &self.routes)];
        for (key, values) in texts {
            query.extend_pairs(values.iter().map(|value| (key, value)));
        }
        query.extend_pairs(self.kinds.iter().map(|kind| ("kind", kind.as_str())));
        query.extend_pairs(self.reasons.iter().map(|reason| ("reason", reason.as_str())));
        query.extend_pairs(self.from.map(|from| ("from", from.to_string())));
        query.extend_pairs(self.to.map(|to| ("to", to.to_string())));
        query.extend_pairs(self.limit.map(|limit| ("limit", limit.to_string())));
        let query = query.finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }

    /// The question that goes on where the answer was cut; `None` if it was not.
    ///
    /// Both ends of a time range belong to it, so that the next answer repeats the last instant of
    /// this one: requests of the same second may lie on both sides of the cut.
    pub(super) fn older(&self, found: &RecentFailures) -> Option<Self> {
        let (newest, oldest) = (found.failures.first()?, found.failures.last()?);
        if found.total <= found.failures.len() {
            return None;
        }
        let mut older = self.clone();
        if newest.at > oldest.at {
            older.to = Some(oldest.at);
        } else if found.failures.len() < MAX_RESULTS {
            // All of one instant: only a longer answer gets beyond it.
            older.limit = Some(MAX_RESULTS);
        } else {
            older.to = oldest.at.checked_sub(SignedDuration::from_millis(1)).ok();
        }
        Some(older)
    }
}

/// The kinds that can fail: the customer's own API requests are no webhooks.
pub(super) fn webhook_kinds() -> impl Iterator<Item = RequestKind> {
    RequestKind::ALL.iter().copied().filter(|kind| *kind != RequestKind::ApiRequest)
}

fn add<T: PartialEq>(
    values: &mut Vec<T>,
    text: &str,
    parse: impl FnOnce(&str) -> Option<T>,
    wanted: impl FnOnce() -> String,
) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let value = parse(text).ok_or_else(wanted)?;
    if !values.contains(&value) {
        values.push(value);
    }
    Ok(())
}

fn set<T>(
    field: &mut Option<T>,
    text: &str,
    parse: impl FnOnce(&str) -> Option<T>,
    wanted: &str,
) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let value = parse(text).ok_or_else(|| wanted.to_owned())?;
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err("it only once".to_owned()),
    }
}

fn one_of<'a>(values: impl Iterator<Item = &'a str>) -> String {
    format!("one of {}", values.collect::<Vec<_>>().join(", "))
}

/// A time: RFC 3339, Unix seconds, or Unix milliseconds.
fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse::<i64>().ok()?;
        if number < FIRST_MILLISECOND {
            return Timestamp::from_second(number).ok();
        }
        return Timestamp::from_millisecond(number).ok();
    }
    text.parse().ok()
}

fn parse_limit(text: &str) -> Option<usize> {
    text.parse().ok().filter(|limit| (1..=MAX_RESULTS).contains(limit))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, failure};
    use super::*;

    #[test]
    fn every_key_filters_and_a_link_leads_back_to_the_same_question() {
        let query = "account=prod&host=h&route=%2Fa%3F%26%3D%2B+%C3%A4&route=b&kind=voice_url&kind=gather_action&reason=timeout&from=1700000000&to=2023-11-14T22:14:00Z&limit=7";
        let question = Question::read(query).expect("a question");
        let expected = Question {
            accounts: vec!["prod".to_owned()],
            hosts: vec!["h".to_owned()],
            routes: vec!["/a?&=+ ä".to_owned(), "b".to_owned()],
            kinds: vec![RequestKind::VoiceUrl, RequestKind::GatherAction],
            reasons: vec![Reason::Timeout],
            from: Some(at(0)),
            to: Some(at(40)),
            limit: Some(7),
        };
        assert_eq!(question, expected);
        let link = question.link("/failures");
        let (path, written) = link.split_once('?').expect("a query");
        assert_eq!((path, Question::read(written)), ("/failures", Ok(expected)));
        assert!(!written.contains(['<', '"', ' ', '\'', '\n']), "{written}");
        assert_eq!(Question::default().link("/failures"), "/failures");
    }

    #[test]
    fn what_is_empty_or_repeated_is_taken_as_meant() {
        let empty = "account=&host=&route=&kind=&reason=&from=&to=&limit=";
        assert_eq!(Question::read(empty), Ok(Question::default()));
        assert_eq!(Question::read(""), Ok(Question::default()));
        assert!(!Question::read("limit=3").expect("a question").is_filtered());
        let twice = Question::read("host=a&host=a&host=").expect("a question");
        assert_eq!((twice.hosts.len(), twice.is_filtered()), (1, true));
    }

    #[test]
    fn times_are_read_as_people_prometheus_and_grafana_write_them() {
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
            let read = Question::read(&format!("from={text}"));
            assert_eq!(read.ok().and_then(|question| question.from), expected, "{text}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let query = "kind=api_request&reason=bad&limit=0&limit=1001&from=x&hots=a&to=1&to=2";
        let problems = Question::read(query).expect_err("problems");
        let expected = [
            "kind: found `api_request`, wanted one of fallback_url, ",
            "reason: found `bad`, wanted one of missing_content_type, ",
            "limit: found `0`, wanted a whole number from 1 to 1000",
            "limit: found `1001`, wanted a whole number from 1 to 1000",
            "from: found `x`, wanted a time such as ",
            "found the key `hots`, wanted account, ",
            "to: found `2`, wanted it only once",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}");
        }
        let long = Question::read(&format!("limit={}", "9".repeat(10_000)));
        assert!(long.expect_err("a problem")[0].len() < 400);
    }

    #[test]
    fn a_cut_answer_goes_on_where_it_ended_and_always_gets_on() {
        let found = |seconds: &[i64], total| RecentFailures {
            failures: seconds.iter().map(|second| failure("/a", *second)).collect(),
            total,
            reported: Vec::new(),
        };
        let question = Question { limit: Some(2), ..Question::default() };
        assert_eq!(question.older(&found(&[2, 1], 2)), None);
        assert_eq!(question.older(&found(&[], 0)), None);
        let older = question.older(&found(&[2, 1], 3)).expect("more");
        assert_eq!(older, Question { to: Some(at(1)), ..question.clone() });
        let longer = question.older(&found(&[1, 1], 3)).expect("more");
        assert_eq!(longer, Question { limit: Some(MAX_RESULTS), ..question.clone() });
        let beyond = question.older(&found(&[1; MAX_RESULTS], 1_001)).expect("more");
        assert_eq!(beyond.to, Some(at(1) - SignedDuration::from_millis(1)));
    }
}
