//! Lists calls: filters, order and paging. Newest first by start time, as Twilio lists them; `resource`
//! formats them as JSON.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp};

use super::draft::Detail;
use super::script::{Call, seconds_after};
use super::world::{Window, World};

/// The statuses of a call that hasn't ended.
const ACTIVE: [&str; 3] = ["queued", "ringing", "in-progress"];
/// Twilio's default page size.
const DEFAULT_PAGE_SIZE: usize = 50;
/// Twilio's maximum page size.
const MAX_PAGE_SIZE: usize = 1000;

/// The filters of a list request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    status: Option<String>,
    start: Range,
    end: Range,
    pub(crate) strict_start_time: bool,
    /// Seconds until a call is shown.
    pub(crate) shown_after: u64,
}

/// A half-open range of time.
#[derive(Clone, Copy, Debug, Default)]
struct Range {
    from: Option<Timestamp>,
    before: Option<Timestamp>,
}

/// The requested part of a list.
#[derive(Clone, Debug)]
pub(crate) struct PageRequest {
    pub(crate) size: usize,
    pub(crate) page: usize,
    token: Option<String>,
}

/// A page of calls, and whether there is another one.
#[derive(Debug)]
pub(crate) struct CallPage {
    pub(crate) calls: Vec<Call>,
    pub(crate) has_next: bool,
}

impl Filter {
    /// Parses the parameters; the error is the name of one that isn't a valid time.
    pub(crate) fn read(query: &[(String, String)]) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (name, value) in query {
            let range = || parse_range(value).ok_or_else(|| name.clone());
            match name.as_str() {
                "Status" => filter.status = Some(value.clone()),
                "StartTime" => filter.start = range()?,
                "StartTime>" => filter.start.from = range()?.from,
                "StartTime<" => filter.start.before = range()?.from,
                "EndTime" => filter.end = range()?,
                "EndTime>" => filter.end.from = range()?.from,
                "EndTime<" => filter.end.before = range()?.from,
                _ => {}
            }
        }
        Ok(filter)
    }

    /// Truncates the filters' start to the day.
    pub(crate) fn truncate_to_days(&mut self) {
        for from in [&mut self.start.from, &mut self.end.from].into_iter().flatten() {
            let seconds_of_day = from.as_second().rem_euclid(24 * 60 * 60);
            *from = from.saturating_sub(SignedDuration::from_secs(seconds_of_day)).unwrap_or(*from);
        }
    }

    fn matches(&self, call: &Call, now: Timestamp) -> bool {
        let (start, end) = (call.start_time(now), call.end_time(now));
        let start = if self.strict_start_time { start } else { Some(call.listed_at(now)) };
        seconds_after(call.created_at, self.shown_after) <= now
            && self.status.as_ref().is_none_or(|status| call.status_at(now).1 == status)
            && self.start.contains(start)
            && self.end.contains(end)
    }

    /// The calls that may match.
    fn window(&self, world: &World, now: Timestamp) -> Window {
        let to = self.start.before.map_or(now, |before| before.min(now));
        let mut window = world.window_listed(self.start.from, to);
        if let Some(from) = self.end.from {
            window.from = window.from.max(world.window_ended(from, to).from);
        }
        if self.status.as_ref().is_some_and(|status| ACTIVE.contains(&status.as_str())) {
            window.from = window.from.max(world.window_ended(now, to).from);
        }
        window
    }
}

impl Range {
    fn contains(&self, at: Option<Timestamp>) -> bool {
        let is_in = |at: Timestamp| {
            self.from.is_none_or(|from| from <= at) && self.before.is_none_or(|before| at < before)
        };
        at.map_or(self.from.is_none() && self.before.is_none(), is_in)
    }
}

impl PageRequest {
    pub(crate) fn read(query: &[(String, String)]) -> PageRequest {
        let find = |needed: &str| query.iter().find(|(name, _)| name == needed);
        let number = |needed| find(needed).and_then(|(_, value)| value.parse::<usize>().ok());
        PageRequest {
            size: number("PageSize").unwrap_or(DEFAULT_PAGE_SIZE).clamp(1, MAX_PAGE_SIZE),
            page: number("Page").unwrap_or(0),
            token: find("PageToken").map(|(_, value)| value.clone()),
        }
    }
}

impl PageRequest {
    /// The SID of the last call on the previous page.
    pub(crate) fn last_of_previous(&self) -> Option<&str> {
        self.token.as_deref()?.strip_prefix("PA")
    }
}

/// Returns one page of an account's calls.
pub(crate) fn list_calls(
    world: &World,
    account: usize,
    filter: &Filter,
    request: &PageRequest,
    now: Timestamp,
) -> CallPage {
    let last = request.last_of_previous();
    let last = last.and_then(|sid| world.find(account, sid, now, Detail::Outline));
    let last = last.map(|call| (call.listed_at(now), call.sid));
    let skipped = if last.is_some() { 0 } else { request.page.saturating_mul(request.size) };
    let needed = skipped.saturating_add(request.size);
    let mut window = filter.window(world, now);
    if let Some((listed_at, _)) = &last {
        window.to = window.to.min(world.window(None, *listed_at).to);
    }
    let mut found: Vec<((Timestamp, String), Call)> = Vec::new();
    let mut oldest_needed = None;
    for number in (window.from..window.to).rev() {
        // One more call than needed shows whether there is a next page.
        if oldest_needed.is_none() && found.len() > needed {
            found.sort_by(|(one, _), (two, _)| two.cmp(one));
            oldest_needed = Some(found[needed].0.0);
        }
        if oldest_needed.is_some_and(|oldest| world.latest_listing(account, number) < oldest) {
            break;
        }
        for call in world.calls(account, number, Detail::Outline) {
            let key = (call.listed_at(now), call.sid.clone());
            if filter.matches(&call, now) && last.as_ref().is_none_or(|last| key < *last) {
                found.push((key, call));
            }
        }
    }
    found.sort_by(|(one, _), (two, _)| two.cmp(one));
    let has_next = found.len() > needed;
    let calls = found.into_iter().map(|(_, call)| call);
    CallPage { calls: calls.skip(skipped).take(request.size).collect(), has_next }
}

/// Parses a date as that day and a time as that second, both in UTC.
fn parse_range(text: &str) -> Option<Range> {
    let midnight = |date: Date| format!("{date}T00:00:00Z").parse::<Timestamp>().ok();
    if text.len() == "2026-11-02".len() {
        let date: Date = text.parse().ok()?;
        return Some(Range {
            from: midnight(date),
            before: date.tomorrow().ok().and_then(midnight),
        });
    }
    let civil = || format!("{}Z", text.parse::<DateTime>().ok()?).parse::<Timestamp>().ok();
    let at = text.parse::<Timestamp>().ok().or_else(civil)?;
    let before = at.checked_add(SignedDuration::from_secs(1)).ok();
    Some(Range { from: Some(at), before })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::scenario::Mix;
    use super::super::world::WorldConfig;
    use super::*;

    #[test]
    fn pages_of_any_size_list_each_call_once_newest_first() {
        let (world, now) = (world(), at(70));
        let whole = walk(&world, "", 1000, now);
        let keys: Vec<_> = whole.iter().map(|call| (call.listed_at(now), &call.sid)).collect();
        assert!(keys.is_sorted_by(|one, two| one > two));
        assert!(whole.len() > 60);
        for size in [1, 7, 50] {
            let sids =
                |calls: &[Call]| calls.iter().map(|call| call.sid.clone()).collect::<Vec<_>>();
            assert_eq!(sids(&walk(&world, "", size, now)), sids(&whole), "pages of {size}");
        }
    }

    #[test]
    fn filters_select_exactly_the_matching_calls() {
        let (world, now) = (world(), at(70));
        let all = walk(&world, "", 1000, now);
        let check = |query: &str, keep: &dyn Fn(&Call) -> bool| {
            let kept: BTreeSet<_> =
                all.iter().filter(|call| keep(call)).map(|call| &call.sid).collect();
            let listed = walk(&world, query, 9, now);
            assert_eq!(
                listed.iter().map(|call| &call.sid).collect::<BTreeSet<_>>(),
                kept,
                "{query}"
            );
            assert!(!kept.is_empty() && kept.len() < all.len(), "{query}");
        };
        check("StartTime>=1970-01-01T00:00:30Z", &|call| at(30) <= call.listed_at(now));
        check("StartTime<=1970-01-01T00:00:30Z", &|call| call.listed_at(now) < at(30));
        check("StartTime=1970-01-01T00:00:30Z", &|call| call.listed_at(now) == at(30));
        check("StartTime>=1970-01-01", &|call| at(0) <= call.listed_at(now));
        check("EndTime>=1970-01-01T00:00:50Z", &|call| call.end_time(now) >= Some(at(50)));
        check("Status=in-progress", &|call| call.status_at(now).1 == "in-progress");
        check("Status=completed", &|call| call.status_at(now).1 == "completed");
    }

    #[test]
    fn names_the_parameter_with_an_invalid_time() {
        let query = [("StartTime>".to_owned(), "yesterday".to_owned())];
        assert_eq!(Filter::read(&query).expect_err("no time"), "StartTime>");
    }

    fn walk(world: &World, query: &str, size: usize, now: Timestamp) -> Vec<Call> {
        // In a URL, the parameter's name, such as `StartTime>`, includes the comparison sign.
        let query: Vec<_> = query
            .rsplit_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        let filter = Filter::read(&query).expect("a valid filter");
        let mut request = PageRequest { size, page: 0, token: None };
        let mut calls = Vec::new();
        loop {
            let page = list_calls(world, 0, &filter, &request, now);
            request.token = page.calls.last().map(|call| format!("PA{}", call.sid));
            request.page += 1;
            calls.extend(page.calls);
            if !page.has_next {
                return calls;
            }
        }
    }

    fn world() -> World {
        let config = WorldConfig {
            mix: Mix::Everything,
            calls_per_minute: 60.0,
            backlog: Duration::from_secs(20),
            ..WorldConfig::default()
        };
        World::new(config, Timestamp::UNIX_EPOCH)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }
}
