//! Warns when a scraper scrapes too infrequently to see new series at 0.
//!
//! A new series is exposed at 0 for `limits.hold_back` after the first scrape that included it. A second scraper
//! with a longer interval may first see it with its value, which Prometheus doesn't count as an increase.
//! Scrapers are identified by address and user agent. Clients with irregular intervals, such as people, are
//! ignored.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use jiff::Timestamp;

use crate::domain::track::twilio_time::after;

/// How many consecutive intervals must be similar: a person's rarely are.
const INTERVALS: usize = 3;
/// How much longer the longest of them may be than the shortest, in percent, to allow for slow responses.
const REGULAR_PERCENT: u32 = 125;
/// The number of clients to remember.
const MAX_CLIENTS: usize = 32;
/// How long to remember a client after its last scrape.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);
/// How many characters of a user agent distinguish clients.
const MAX_AGENT: usize = 64;

/// The clients that scrape.
#[derive(Clone, Debug)]
pub struct Scrapers(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    hold_back: Duration,
    clients: BTreeMap<ClientKey, Client>,
}

/// The address and the user agent of a client.
pub(super) type ClientKey = (IpAddr, String);

#[derive(Debug, Default)]
struct Client {
    /// The times of its last scrapes.
    scrapes: VecDeque<Timestamp>,
    is_too_slow: bool,
}

/// Identifies the client of a request. Returns `None` for browsers.
pub(super) fn client_key(peer: IpAddr, headers: &HeaderMap) -> Option<ClientKey> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if text(header::ACCEPT).is_some_and(|accept| accept.contains("text/html")) {
        return None;
    }
    let agent = text(header::USER_AGENT).unwrap_or_default();
    Some((peer, agent.chars().take(MAX_AGENT).collect()))
}

impl Scrapers {
    /// Starts with a value of `limits.hold_back`.
    pub fn new(hold_back: Duration) -> Self {
        Self(Arc::new(Mutex::new(Inner { hold_back, clients: BTreeMap::new() })))
    }

    /// Sets `limits.hold_back`.
    pub fn set_hold_back(&self, hold_back: Duration) {
        self.lock().hold_back = hold_back;
    }

    /// Records a complete scrape, and logs a warning once when its client scrapes too infrequently.
    pub(super) fn record(&self, key: ClientKey, now: Timestamp) {
        let mut inner = self.lock();
        let hold_back = inner.hold_back;
        let peer = key.0;
        if let Some(interval) = inner.record(key, now) {
            tracing::warn!(
                client = %peer,
                scrape_interval_seconds = interval.as_secs_f64().round(),
                hold_back_seconds = hold_back.as_secs_f64(),
                "a scraper's interval is longer than limits.hold_back, so it can miss the first failure of a new route: \
                 set limits.hold_back to a few seconds more than its scrape interval (at most 10m), or scrape more often"
            );
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Records a scrape. Returns the interval of a client that turns out to scrape too seldom.
    fn record(&mut self, key: ClientKey, now: Timestamp) -> Option<Duration> {
        self.clients.retain(|_, client| {
            client.scrapes.back().is_some_and(|last| after(*last, FORGET_AFTER) >= now)
        });
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&key) {
            return None;
        }
        self.clients.entry(key).or_default().record(now, self.hold_back)
    }
}

impl Client {
    fn record(&mut self, now: Timestamp, hold_back: Duration) -> Option<Duration> {
        self.scrapes.push_back(now);
        if self.scrapes.len() <= INTERVALS {
            return None;
        }
        let scrapes = self.scrapes.make_contiguous();
        let intervals = scrapes
            .windows(2)
            .map(|pair| Duration::try_from(pair[1].duration_since(pair[0])).unwrap_or_default());
        let (shortest, longest) = (intervals.clone().min()?, intervals.max()?);
        self.scrapes.pop_front();
        let was_too_slow = self.is_too_slow;
        if hold_back.is_zero() || longest <= hold_back {
            self.is_too_slow = false;
        } else if shortest > hold_back && longest * 100 <= shortest * REGULAR_PERCENT {
            self.is_too_slow = true;
        }
        (self.is_too_slow && !was_too_slow).then_some(longest)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOLD_BACK: u64 = 65;

    #[test]
    fn warns_once_about_a_slow_scraper_whatever_other_clients_do() {
        for (name, others) in [
            ("alone", vec![]),
            ("with a fast scraper", scrapes(2, 15)),
            ("with a person", visits(2, &[7, 130, 131, 400, 900, 905, 1_500])),
        ] {
            assert_eq!(warnings(HOLD_BACK, [scrapes(1, 120), others]), [(360, 1, 120)], "{name}");
        }
    }

    #[test]
    fn ignores_fast_scrapers_and_people() {
        for (name, scrapes) in [
            ("every minute", scrapes(1, 60)),
            ("as long as the hold-back", scrapes(1, HOLD_BACK)),
            ("a person", visits(1, &[0, 100, 300, 1_200, 1_300, 2_400])),
            ("too few scrapes", visits(1, &[0, 120, 240])),
            ("every third scrape missed", visits(1, &[0, 60, 180, 240, 360, 420, 540])),
        ] {
            assert_eq!(warnings(HOLD_BACK, [scrapes, Vec::new()]), [], "{name}");
        }
        assert_eq!(warnings(0, [scrapes(1, 120), Vec::new()]), [], "without hold-back");
        assert_eq!(warnings(125, [scrapes(1, 120), Vec::new()]), [], "with a longer hold-back");
    }

    #[test]
    fn warns_again_only_after_recovery() {
        let restarted = visits(1, &[0, 120, 240, 360, 380, 500, 620, 740, 860]);
        assert_eq!(warnings(HOLD_BACK, [restarted, Vec::new()]), [(360, 1, 120)]);
        let recovered = visits(1, &[0, 120, 240, 360, 420, 480, 540, 660, 780, 900, 1_020]);
        let expected = [(360, 1, 120), (900, 1, 120)];
        assert_eq!(warnings(HOLD_BACK, [recovered, Vec::new()]), expected);
    }

    #[test]
    fn identifies_clients_by_address_and_user_agent_except_browsers() {
        let key = |accept: &str, agent: &str| {
            let values = [(header::ACCEPT, accept), (header::USER_AGENT, agent)];
            let values = values.map(|(name, value)| (name, value.parse().expect("a header")));
            client_key(Ipv4Addr::LOCALHOST.into(), &HeaderMap::from_iter(values))
        };
        assert_eq!(key("text/html,application/xhtml+xml", "Mozilla/5.0"), None);
        assert!(key("text/plain;version=0.0.4", "Prometheus/3.0").is_some());
        assert_ne!(key("*/*", "curl/8"), key("*/*", "Prometheus/3.0"));
    }

    /// The scrapes of a client at a fixed interval for half an hour.
    fn scrapes(client: u8, every: u64) -> Vec<(u64, u8)> {
        (0..1_800 / every).map(|number| (number * every, client)).collect()
    }

    fn visits(client: u8, at: &[u64]) -> Vec<(u64, u8)> {
        at.iter().map(|second| (*second, client)).collect()
    }

    /// The warnings: when, about which client, and its interval.
    fn warnings(hold_back: u64, clients: [Vec<(u64, u8)>; 2]) -> Vec<(u64, u8, u64)> {
        let mut inner = Inner { hold_back: Duration::from_secs(hold_back), ..Inner::default() };
        let mut all = clients.concat();
        all.sort_unstable();
        let warning = |(second, client): (u64, u8)| {
            let key = (Ipv4Addr::new(10, 0, 0, client).into(), String::new());
            let now = after(Timestamp::UNIX_EPOCH, Duration::from_secs(second));
            inner.record(key, now).map(|interval| (second, client, interval.as_secs()))
        };
        all.into_iter().filter_map(warning).collect()
    }
}
