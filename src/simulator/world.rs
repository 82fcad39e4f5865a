//! The accounts and calls that exist at an instant, as a pure function of the configuration. Calls are
//! generated on request and not kept, so that a world may run for days.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::draft::{CallSlot, Detail};
use super::random::{Random, hash};
use super::scenario::{self, Mix};
use super::script::Call;

/// The maximum time from a call's scheduled creation to its start, and to the creation of its child leg.
const MAX_LEAD: SignedDuration = SignedDuration::from_secs(60);
/// How much the events of a script may extend the configured length of a call: two timeouts and a margin.
const MAX_EXTENSION: SignedDuration = SignedDuration::from_secs(120);
/// The interval between calls if the configured rate is invalid.
const IDLE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The configuration of a simulated world.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// The seed; worlds with the same seed, configuration and start are the same.
    pub seed: u64,
    /// The number of accounts with their own credentials.
    pub accounts: usize,
    /// The number of subaccounts of each account.
    pub subaccounts: usize,
    /// The number of calls per minute of each account and subaccount; must be positive.
    pub calls_per_minute: f64,
    /// The total number of calls of each account, including the backlog but not child legs.
    pub max_calls: Option<u64>,
    /// The length of the call history before the start.
    pub backlog: Duration,
    /// The length of calls in seconds; events in a call may extend it.
    pub call_seconds: RangeInclusive<u64>,
    /// How long after the start the demo's line starts to fail; `None` means never.
    pub failing_after: Option<Duration>,
    /// For how long it fails; `None` means forever.
    pub failing_for: Option<Duration>,
    /// Which calls exist.
    pub mix: Mix,
}

impl Default for WorldConfig {
    fn default() -> WorldConfig {
        WorldConfig {
            seed: 1,
            accounts: 1,
            subaccounts: 0,
            calls_per_minute: 20.0,
            max_calls: None,
            backlog: Duration::ZERO,
            call_seconds: 5..=20,
            failing_after: None,
            failing_for: None,
            mix: Mix::Demo,
        }
    }
}

/// An account of the world. Its secrets are made up, but still never printed.
pub(crate) struct Account {
    pub(crate) sid: String,
    pub(crate) auth_token: String,
    pub(crate) api_key_sid: String,
    pub(crate) api_key_secret: String,
    pub(crate) name: String,
    /// The index of the account that owns this one.
    pub(crate) parent: Option<usize>,
}

/// Everything that can be queried at any instant.
pub(crate) struct World {
    config: WorldConfig,
    start: Timestamp,
    accounts: Vec<Account>,
}

/// The numbers of the scheduled calls that may matter to a query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) from: u64,
    /// Exclusive.
    pub(crate) to: u64,
}

impl World {
    pub(crate) fn new(config: WorldConfig, start: Timestamp) -> World {
        let start = Timestamp::from_second(start.as_second()).unwrap_or(start);
        let accounts = accounts(&config);
        World { config, start, accounts }
    }

    pub(crate) fn start(&self) -> Timestamp {
        self.start
    }

    pub(crate) fn seed(&self) -> u64 {
        self.config.seed
    }

    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    pub(crate) fn account_index(&self, sid: &str) -> Option<usize> {
        self.accounts.iter().position(|account| account.sid == sid)
    }

    /// The total number of calls of an account; `None` if unlimited.
    pub(crate) fn max_calls(&self) -> Option<u64> {
        self.config.max_calls
    }

    /// The calls of an account that may exist at `to` and have been created at or after `from`.
    pub(crate) fn window(&self, from: Option<Timestamp>, to: Timestamp) -> Window {
        let interval = self.interval_ns();
        let count = |at: Timestamp, slack: i128| {
            let since = at.as_nanosecond() - self.origin_ns();
            u64::try_from(since.div_euclid(interval) + slack).unwrap_or(0)
        };
        // Creation times are rounded down to the second, and their jitter is less than one interval.
        let to = to.checked_add(SignedDuration::from_secs(1)).unwrap_or(to);
        let limit = self.config.max_calls.unwrap_or(u64::MAX);
        Window { from: from.map_or(0, |from| count(from, -1)), to: count(to, 1).min(limit) }
    }

    /// Like `window`, for calls listed at or after `from`.
    pub(crate) fn window_listed(&self, from: Option<Timestamp>, to: Timestamp) -> Window {
        self.window(from.map(|from| earlier(from, MAX_LEAD)), to)
    }

    /// Like `window`, for calls that are active or end at or after `from`.
    pub(crate) fn window_ended(&self, from: Timestamp, to: Timestamp) -> Window {
        let length = i64::try_from(*self.config.call_seconds.end()).unwrap_or(i64::MAX);
        let length = SignedDuration::from_secs(length).saturating_add(MAX_EXTENSION);
        self.window(Some(earlier(from, length)), to)
    }

    /// Calls with this number or a lower one are never listed later than this.
    pub(crate) fn latest_listing(&self, account: usize, number: u64) -> Timestamp {
        self.created_at(account, number).checked_add(MAX_LEAD).unwrap_or(Timestamp::MAX)
    }

    /// The call with this number, followed by its child leg if it has one.
    pub(crate) fn calls(&self, account: usize, number: u64, detail: Detail) -> Vec<Call> {
        let created_at = self.created_at(account, number);
        let part = u64::try_from(account).unwrap_or(u64::MAX);
        let slot = CallSlot {
            account_sid: self.accounts[account].sid.clone(),
            call_sids: [0, 1].map(|leg| self.call_sid(account, number, leg)),
            created_at,
            call_seconds: (*self.config.call_seconds.start(), *self.config.call_seconds.end()),
            random: Random::from_parts(&[self.config.seed, part, number]),
            detail,
        };
        scenario::write(self.config.mix, &slot, number, self.is_failing(created_at))
    }

    /// Finds a call that exists at this instant.
    pub(crate) fn find(
        &self,
        account: usize,
        sid: &str,
        now: Timestamp,
        detail: Detail,
    ) -> Option<Call> {
        let number = u64::from_str_radix(sid.get(6..17)?, 16).ok()?;
        if number >= self.window(None, now).to {
            return None;
        }
        let calls = self.calls(account, number, detail);
        calls.into_iter().find(|call| call.sid == sid && call.created_at <= now)
    }

    /// The SID contains the account and the number, so that a call is found without a search.
    fn call_sid(&self, account: usize, number: u64, leg: u64) -> String {
        let part = u64::try_from(account).unwrap_or(u64::MAX);
        let tail = hash(&[self.config.seed, part, number, leg]);
        format!("CA{:04x}{number:011x}{leg:x}{tail:016x}", part % 0x1_0000)
    }

    fn created_at(&self, account: usize, number: u64) -> Timestamp {
        let part = u64::try_from(account).unwrap_or(u64::MAX);
        let interval = self.interval_ns();
        let jitter =
            i128::from(hash(&[self.config.seed, part, number, 7]) % 1000) * interval / 2000;
        let at = self.origin_ns() + i128::from(number) * interval + jitter;
        let second = i64::try_from(at.div_euclid(1_000_000_000)).unwrap_or(i64::MAX);
        Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
    }

    fn origin_ns(&self) -> i128 {
        let backlog = i128::try_from(self.config.backlog.as_nanos()).unwrap_or(0);
        self.start.as_nanosecond() - backlog
    }

    fn interval_ns(&self) -> i128 {
        let interval = Duration::try_from_secs_f64(60.0 / self.config.calls_per_minute);
        let interval = interval.unwrap_or(IDLE_INTERVAL).max(Duration::from_millis(1));
        i128::try_from(interval.as_nanos()).unwrap_or(i128::MAX / 2)
    }

    fn is_failing(&self, created_at: Timestamp) -> bool {
        let after = |duration: Duration| {
            let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
            self.start.checked_add(duration).unwrap_or(Timestamp::MAX)
        };
        self.config.failing_after.is_some_and(|failing_after| {
            let until =
                self.config.failing_for.map(|failing_for| after(failing_after + failing_for));
            after(failing_after) <= created_at && until.is_none_or(|until| created_at < until)
        })
    }
}

fn earlier(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

fn accounts(config: &WorldConfig) -> Vec<Account> {
    let mut accounts: Vec<Account> = Vec::new();
    for top in 1..=config.accounts {
        let parent = accounts.len();
        for sub in 0..=config.subaccounts {
            let number = u64::try_from(accounts.len() + 1).unwrap_or(u64::MAX);
            let secret = |part| {
                let half = |half| hash(&[config.seed, number, part, half]);
                format!("{:016x}{:016x}", half(1), half(2))
            };
            let name = if sub == 0 { format!("sim-{top}") } else { format!("sim-{top}-{sub}") };
            accounts.push(Account {
                sid: format!("AC{number:032x}"),
                auth_token: secret(1),
                api_key_sid: format!("SK{number:032x}"),
                api_key_secret: secret(2),
                name,
                parent: (sub > 0).then_some(parent),
            });
        }
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_worlds_have_equal_calls() {
        let (one, two) = (world(3), world(3));
        assert_eq!(
            format!("{:?}", one.calls(0, 5, Detail::Full)),
            format!("{:?}", two.calls(0, 5, Detail::Full))
        );
        assert_ne!(
            one.calls(0, 5, Detail::Outline)[0].sid,
            world(4).calls(0, 5, Detail::Outline)[0].sid
        );
    }

    #[test]
    fn a_call_is_found_by_its_sid_once_it_exists() {
        let world = world(3);
        for call in (0..100).flat_map(|number| world.calls(1, number, Detail::Outline)) {
            assert!(call.sid.len() == 34 && call.sid.starts_with("CA"));
            let found =
                world.find(1, &call.sid, call.created_at, Detail::Full).expect("the call exists");
            assert_eq!(found.sid, call.sid);
            let before = call.created_at - SignedDuration::from_secs(1);
            assert!(world.find(1, &call.sid, before, Detail::Full).is_none());
            assert!(world.find(0, &call.sid, call.created_at, Detail::Full).is_none());
        }
        assert!(world.find(0, "CAé", Timestamp::MAX, Detail::Full).is_none());
    }

    #[test]
    fn every_call_is_within_the_windows_that_lists_use() {
        let world = world(3);
        for number in 0..100 {
            for call in world.calls(0, number, Detail::Outline) {
                let contains = |window: Window| window.from <= number && number < window.to;
                assert!(contains(world.window(Some(call.created_at), call.created_at)), "{number}");
                let listed_at = call.listed_at(Timestamp::MAX);
                assert!(contains(world.window_listed(Some(listed_at), call.created_at)));
                assert!(contains(world.window_ended(call.ended_at, call.created_at)));
                assert!(listed_at <= world.latest_listing(0, number));
            }
        }
    }

    #[test]
    fn an_outline_differs_from_a_full_call_only_in_its_items() {
        let world = world(3);
        for number in 0..100 {
            let mut whole = world.calls(0, number, Detail::Full);
            for event in whole.iter_mut().flat_map(|call| &mut call.events) {
                event.item = serde_json::Value::Null;
            }
            let mut outline = world.calls(0, number, Detail::Outline);
            for event in outline.iter_mut().flat_map(|call| &mut call.events) {
                event.item = serde_json::Value::Null;
            }
            assert_eq!(format!("{outline:?}"), format!("{whole:?}"));
        }
    }

    #[test]
    fn a_backlog_creates_calls_before_the_start() {
        let backlog = Duration::from_secs(600);
        let config = WorldConfig { backlog, calls_per_minute: 6.0, ..WorldConfig::default() };
        let world = World::new(config, Timestamp::UNIX_EPOCH);
        assert!((59..=62).contains(&world.window(None, Timestamp::UNIX_EPOCH).to));
    }

    fn world(seed: u64) -> World {
        let config = WorldConfig {
            seed,
            accounts: 2,
            max_calls: Some(100),
            mix: Mix::Everything,
            ..WorldConfig::default()
        };
        World::new(config, Timestamp::UNIX_EPOCH)
    }
}
