//! Whether each scraper comes often enough to see what is held at 0.
//!
//! A new series is shown at 0 for `limits.hold_back` after the first scrape that showed it. A second scraper
//! that comes more rarely may see it first with its value, which to Prometheus is no increase. Scrapers are
//! told apart by address and user agent, so that a frequent one doesn't hide a rare one. A person's visits
//! are irregular, and say nothing.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use jiff::Timestamp;

use crate::domain::track::twilio_time::after;

/// Intervals that have to be alike before they say how often a scraper comes: three of a person seldom are.
const INTERVALS: usize = 3;
/// How much longer the longest of them may be than the shortest, in percent: scrapers keep time, apart from
/// a slow answer.
const REGULAR_PERCENT: u32 = 125;
/// Clients that are remembered: more than a Prometheus has replicas, few enough to look at each.
const MAX_CLIENTS: usize = 32;
/// A client that stays away for longer is forgotten, and is no scraper if it comes more rarely.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);
/// Most bytes of a user agent that tell clients apart.
const MAX_AGENT: usize = 64;

/// The clients that scrape.
#[derive(Clone, Debug)]
pub struct Scrapers {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    hold_back: Duration,
    /// The one that was answered last comes last.
    clients: VecDeque<Client>,
    /// Whether it was said that one comes too rarely, and one still does.
    has_warned: bool,
}

/// What tells clients apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientKey {
    peer: IpAddr,
    agent: Vec<u8>,
}

#[derive(Debug)]
struct Client {
    key: ClientKey,
    /// When its last scrapes were answered.
    answered: VecDeque<Timestamp>,
    comes_too_rarely: bool,
}

/// A scraper that comes too rarely.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rare {
    peer: IpAddr,
    interval: Duration,
    hold_back: Duration,
}

impl ClientKey {
    /// The client of a request; `None` for a browser, which asks for pages.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap) -> Option<Self> {
        let accepts = |value: &[u8]| value.windows(9).any(|part| part == b"text/html");
        if headers.get_all(header::ACCEPT).iter().any(|value| accepts(value.as_bytes())) {
            return None;
        }
        let agent = headers.get(header::USER_AGENT).map_or(&[][..], |agent| agent.as_bytes());
        Some(Self { peer, agent: agent.iter().copied().take(MAX_AGENT).collect() })
    }
}

impl Scrapers {
    /// No scraper yet; `hold_back` is `limits.hold_back`.
    pub fn new(hold_back: Duration) -> Self {
        let inner = Inner { hold_back, clients: VecDeque::new(), has_warned: false };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Compares with another `limits.hold_back` from now on.
    pub fn limit(&self, hold_back: Duration) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).hold_back = hold_back;
    }

    /// Notes that a client's scrape was answered to its end; says once that one comes too rarely.
    pub(super) fn note(&self, key: ClientKey, now: Timestamp) {
        let noted = self.inner.lock().unwrap_or_else(PoisonError::into_inner).note(key, now);
        if let Some(Rare { peer, interval, hold_back }) = noted {
            tracing::warn!(
                client = %peer,
                scrape_interval_seconds = interval.as_secs_f64().round(),
                hold_back_seconds = hold_back.as_secs_f64(),
                "a scraper comes more rarely than limits.hold_back, so it can miss the first failure of a new route: \
                 set limits.hold_back to a few seconds more than its scrape interval (at most 10m), or scrape more often"
            );
        }
    }
}

impl Inner {
    /// Notes an answer; returns a scraper that comes too rarely, if that wasn't said yet.
    fn note(&mut self, key: ClientKey, now: Timestamp) -> Option<Rare> {
        self.clients.retain(|client| {
            client.answered.back().is_some_and(|last| after(*last, FORGET_AFTER) >= now)
        });
        let known = self.clients.iter().position(|client| client.key == key);
        let mut client = known.and_then(|at| self.clients.remove(at)).unwrap_or_else(|| Client {
            key,
            answered: VecDeque::new(),
            comes_too_rarely: false,
        });
        if client.answered.len() > INTERVALS {
            client.answered.pop_front();
        }
        client.answered.push_back(now);
        client.judge(self.hold_back);
        if self.clients.len() == MAX_CLIENTS {
            self.clients.pop_front();
        }
        self.clients.push_back(client);
        let rare = self.clients.iter().find(|client| client.comes_too_rarely);
        let is_news = !self.has_warned;
        self.has_warned = rare.is_some();
        let client = rare.filter(|_| is_news)?;
        let interval = client.intervals().max()?;
        Some(Rare { peer: client.key.peer, interval, hold_back: self.hold_back })
    }
}

impl Client {
    fn intervals(&self) -> impl Iterator<Item = Duration> {
        let pairs = self.answered.iter().zip(self.answered.iter().skip(1));
        pairs.map(|(one, next)| Duration::try_from(next.duration_since(*one)).unwrap_or_default())
    }

    /// Intervals that are neither regular nor all short enough, as after a restart, change nothing.
    fn judge(&mut self, hold_back: Duration) {
        if self.intervals().count() < INTERVALS {
            return;
        }
        let Some((shortest, longest)) = self.intervals().min().zip(self.intervals().max()) else {
            return;
        };
        if hold_back.is_zero() || longest <= hold_back {
            self.comes_too_rarely = false;
        } else if shortest > hold_back && longest * 100 <= shortest * REGULAR_PERCENT {
            self.comes_too_rarely = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOLD_BACK: u64 = 65;

    #[test]
    fn a_rare_scraper_is_noticed_once_however_often_others_come() {
        for (name, others) in [
            ("alone", vec![]),
            ("beside a frequent one", scrapes(2, 15)),
            ("beside a visitor", visits(2, &[7, 130, 131, 400, 900, 905, 1_500])),
        ] {
            assert_eq!(warnings(HOLD_BACK, [scrapes(1, 120), others]), [(360, 1, 120)], "{name}");
        }
    }

    #[test]
    fn scrapers_in_time_and_visitors_are_not_taken_for_rare_ones() {
        for (name, scrapes) in [
            ("every minute", scrapes(1, 60)),
            ("as often as held back", scrapes(1, HOLD_BACK)),
            ("a visitor", visits(1, &[0, 100, 300, 1_200, 1_300, 2_400])),
            ("too few to tell", visits(1, &[0, 120, 240])),
            ("one missed scrape in three", visits(1, &[0, 60, 180, 240, 360, 420, 540])),
        ] {
            assert_eq!(warnings(HOLD_BACK, [scrapes, Vec::new()]), [], "{name}");
        }
        assert_eq!(warnings(0, [scrapes(1, 120), Vec::new()]), [], "nothing is held back");
        assert_eq!(warnings(125, [scrapes(1, 120), Vec::new()]), [], "held back for longer");
    }

    #[test]
    fn it_is_said_again_only_after_the_scraper_came_in_time() {
        // A restart in between is no recovery.
        let restarted = visits(1, &[0, 120, 240, 360, 380, 500, 620, 740, 860]);
        assert_eq!(warnings(HOLD_BACK, [restarted, Vec::new()]), [(360, 1, 120)]);
        let recovered = visits(1, &[0, 120, 240, 360, 420, 480, 540, 660, 780, 900, 1_020]);
        let said = [(360, 1, 120), (900, 1, 120)];
        assert_eq!(warnings(HOLD_BACK, [recovered, Vec::new()]), said);
        // One that never comes again is forgotten.
        let replaced = [visits(1, &[0, 120, 240, 360]), visits(2, &[4_000, 4_120, 4_240, 4_360])];
        assert_eq!(warnings(HOLD_BACK, replaced), [(360, 1, 120), (4_360, 2, 120)]);
    }

    #[test]
    fn a_browser_is_no_scraper_and_user_agents_at_one_address_are_told_apart() {
        let peer = IpAddr::from(Ipv4Addr::LOCALHOST);
        let headers = |accept: &str, agent: &str| {
            let values = [(header::ACCEPT, accept), (header::USER_AGENT, agent)];
            HeaderMap::from_iter(
                values.map(|(name, value)| (name, value.parse().expect("a header"))),
            )
        };
        let key = |accept, agent| ClientKey::of(peer, &headers(accept, agent));
        assert_eq!(key("text/html,application/xhtml+xml", "Mozilla/5.0"), None);
        assert!(key("text/plain;version=0.0.4", "Prometheus/3.0").is_some());
        assert_ne!(key("*/*", "curl/8"), key("*/*", "Prometheus/3.0"));
        assert!(ClientKey::of(peer, &HeaderMap::new()).is_some());
    }

    /// Scrapes of a client every so many seconds, for half an hour.
    fn scrapes(client: u8, every: u64) -> Vec<(u64, u8)> {
        (0..1_800 / every).map(|number| (number * every, client)).collect()
    }

    fn visits(client: u8, at: &[u64]) -> Vec<(u64, u8)> {
        at.iter().map(|second| (*second, client)).collect()
    }

    /// When it was said that which client comes every so many seconds.
    fn warnings(hold_back: u64, clients: [Vec<(u64, u8)>; 2]) -> Vec<(u64, u8, u64)> {
        let scrapers = Scrapers::new(Duration::from_secs(hold_back));
        let mut all = clients.concat();
        all.sort_unstable();
        let mut said = Vec::new();
        for (second, client) in all {
            let key = ClientKey { peer: Ipv4Addr::new(10, 0, 0, client).into(), agent: Vec::new() };
            let now = after(Timestamp::UNIX_EPOCH, Duration::from_secs(second));
            let rare = scrapers.inner.lock().expect("no panic").note(key, now);
            said.extend(rare.map(|rare| {
                let IpAddr::V4(peer) = rare.peer else { unreachable!("an IPv4 address") };
                (second, peer.octets()[3], rare.interval.as_secs())
            }));
        }
        said
    }
}
