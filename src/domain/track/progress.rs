//! The state of a call: its progress, and which of its Call Events have been counted.
//!
//! Invariant: an event is counted when a complete read shows more occurrences of its identity than have been
//! counted so far. Time and position are irrelevant.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::judge::observe::{Observation, Rejection};
use crate::domain::track::digest::{Digest, DigestVersion, Identity};
use crate::domain::track::failing::Failing;
use crate::domain::track::learning::{EarlyRead, EarlyStage};
use crate::domain::track::outcome::CallOutcome;
use crate::domain::track::reading::Reading;
use crate::domain::track::twilio_time::{after, moved};
use crate::domain::words::call::{Call, CallStatus, Direction};
use crate::domain::words::sid::CallSid;

/// How far in the future an end time may lie: the estimate of Twilio's time can run behind for a while.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that a call with an unknown status and no end time may last: calls last a day at most.
const MAX_UNKNOWN: Duration = Duration::from_secs(25 * 60 * 60);
/// The longest that a call may be active: days in the queue, then up to a day on the line.
const MAX_ACTIVE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Digests and how often each was counted. Nearly all counts are 1, so only the others are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Multiset {
    /// Sorted and unique.
    digests: Box<[Digest]>,
    repeated: BTreeMap<Digest, u32>,
}

impl Multiset {
    /// Creates a multiset from pairs in any order; for duplicate digests, the larger count wins.
    pub fn new(mut pairs: Vec<(Digest, u32)>) -> Self {
        pairs.sort_unstable_by_key(|&(digest, count)| (digest, std::cmp::Reverse(count)));
        pairs.dedup_by_key(|&mut (digest, _)| digest);
        let repeated = pairs.iter().copied().filter(|&(_, count)| count != 1).collect();
        Self { digests: pairs.into_iter().map(|(digest, _)| digest).collect(), repeated }
    }

    /// Returns how often a digest was counted.
    pub fn count(&self, digest: Digest) -> u32 {
        if self.digests.binary_search(&digest).is_err() {
            return 0;
        }
        self.repeated.get(&digest).copied().unwrap_or(1)
    }

    /// Returns all digests with their counts, sorted by digest.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (Digest, u32)> + '_ {
        let count = |digest| self.repeated.get(&digest).copied().unwrap_or(1);
        self.digests.iter().map(move |&digest| (digest, count(digest)))
    }

    fn replace(&mut self, changes: BTreeMap<Digest, u32>) {
        if changes.is_empty() {
            return;
        }
        let kept = self.pairs().filter(|(digest, _)| !changes.contains_key(digest));
        let changed = changes.iter().map(|(&digest, &count)| (digest, count));
        *self = Self::new(kept.chain(changed.filter(|&(_, count)| count > 0)).collect());
    }
}

/// The state of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallProgress {
    /// The call's SID.
    pub sid: CallSid,
    /// The call's direction.
    pub direction: Direction,
    /// The status when last seen.
    pub status: CallStatus,
    /// When the call began: its start time, else its creation, else when it was first seen.
    pub began_at: Timestamp,
    /// When the call ended. Never changes once set.
    pub ended_at: Option<Timestamp>,
    /// Whether Twilio reported an end time; without one, lists may show the call indefinitely.
    pub has_end_time: bool,
    /// When the call last appeared in a list or was fetched.
    pub last_listed_at: Timestamp,
    /// When its events were last read while it was active.
    pub last_live_read_at: Option<Timestamp>,
    /// The number of reads after its end that are done or skipped.
    pub after_end_reads: u8,
    /// What its early reads showed, kept until settling reveals what they could have shown. Lost on a restart,
    /// which only shrinks the sample.
    pub early_reads: Vec<EarlyRead>,
    /// When the call was settled.
    pub settled_at: Option<Timestamp>,
    /// Whether an audit read is still due after settling.
    pub awaits_audit: bool,
    /// The digest version used for its events.
    pub digest_version: DigestVersion,
    /// The identities counted so far.
    pub counted: Multiset,
    /// Requests counted as unanswered whose responses may still appear.
    pub credits: Multiset,
    /// The failed reads since the last successful one.
    pub failing: Failing,
    /// The earliest time of the next read after a failure.
    pub retry_at: Option<Timestamp>,
    /// How many times in a row Twilio didn't find the call when it was fetched by SID.
    pub missing: u8,
    /// When the error log mentioned the call, if its events haven't been read since. Lost on a restart.
    pub reported_at: Option<Timestamp>,
}

/// The change made by seeing a call in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing that needs to be stored.
    Nothing,
    /// The call changed, but continues.
    Changed,
    /// The call has ended and can be counted.
    Finished,
}

/// The result of counting a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The new events and their times.
    pub events: Vec<(Observation, Option<Timestamp>)>,
    /// The reasons why new items were rejected.
    pub rejected: Vec<Rejection>,
    /// The number of items that had already been counted.
    pub duplicates: u64,
    /// The impact on the caller; set once per call, when it settles.
    pub outcome: Option<CallOutcome>,
}

impl CallProgress {
    /// Starts tracking a new call.
    pub fn begin(call: &Call, now: Timestamp) -> (Self, Seen) {
        let mut progress = Self {
            sid: call.sid,
            direction: call.direction,
            status: call.status,
            began_at: call.began().unwrap_or(now),
            ended_at: None,
            has_end_time: false,
            last_listed_at: now,
            last_live_read_at: None,
            after_end_reads: 0,
            early_reads: Vec::new(),
            settled_at: None,
            awaits_audit: false,
            digest_version: DigestVersion::CURRENT,
            counted: Multiset::default(),
            credits: Multiset::default(),
            failing: Failing::default(),
            retry_at: None,
            missing: 0,
            reported_at: None,
        };
        let seen = match progress.update(call, now) {
            Seen::Finished => Seen::Finished,
            Seen::Nothing | Seen::Changed => Seen::Changed,
        };
        (progress, seen)
    }

    /// Updates the call from a list or a single fetch.
    pub fn update(&mut self, call: &Call, now: Timestamp) -> Seen {
        self.last_listed_at = now;
        self.missing = 0;
        if self.ended_at.is_some() {
            // An ended call stays ended, with the first end time seen.
            return Seen::Nothing;
        }
        let changed = self.status != call.status || self.direction != call.direction;
        self.status = call.status;
        self.direction = call.direction;
        if let Some(start) = call.start_time {
            self.began_at = start;
        }
        if call.has_ended() {
            // Without an end time or update, the call may have lasted until now. An end time far in the
            // future isn't credible, and the call would never settle.
            let end = call.end_time.or(call.date_updated).unwrap_or(now);
            let end = if end > after(now, MAX_AHEAD) { now } else { end };
            self.finish(end, call.end_time.is_some());
            return Seen::Finished;
        }
        if changed { Seen::Changed } else { Seen::Nothing }
    }

    /// Marks the call as ended.
    pub fn finish(&mut self, at: Timestamp, has_end_time: bool) {
        self.ended_at = Some(at);
        self.has_end_time = has_end_time;
        self.failing = Failing::default();
        self.retry_at = None;
    }

    /// Whether the call has been active for longer than any Twilio call lasts, so its end will never be
    /// reported.
    pub fn is_endless(&self, now: Timestamp) -> bool {
        let longest = if self.status.is_active() { MAX_ACTIVE } else { MAX_UNKNOWN };
        self.ended_at.is_none() && after(self.began_at, longest) < now
    }

    /// Whether its events can't be read although those of the account's other calls can. Always `false` for a
    /// call that is active or settled: the counters miss nothing if a live read or an audit fails.
    pub fn is_unreadable(&self) -> bool {
        self.ended_at.is_some() && self.settled_at.is_none() && self.failing.is_on_its_own()
    }

    /// Shifts its timers when the estimate of Twilio's time moves.
    pub fn shift(&mut self, by: SignedDuration) {
        self.last_listed_at = moved(self.last_listed_at, by);
        self.last_live_read_at = self.last_live_read_at.map(|at| moved(at, by));
        self.retry_at = self.retry_at.map(|at| moved(at, by));
        self.reported_at = self.reported_at.map(|at| moved(at, by));
        self.failing.shift(by);
    }

    /// Records whether an early read showed any events.
    pub fn note_early(&mut self, stage: EarlyStage, read_at: Timestamp, has_events: bool) {
        match self.early_reads.iter_mut().find(|read| read.stage == stage) {
            // Several live reads count as one, at the time of the last.
            Some(read) => {
                read.read_at = read_at;
                read.has_events |= has_events;
            }
            None => self.early_reads.push(EarlyRead { stage, read_at, has_events }),
        }
    }

    /// Records whether a read after the end showed any events, and skips the reads that it replaces.
    pub fn note_after_end(&mut self, skips: u8, read_at: Timestamp, has_events: bool) {
        let read = self.after_end_reads.saturating_add(skips);
        self.note_early(EarlyStage::after_end(usize::from(read)), read_at, has_events);
        self.after_end_reads = read.saturating_add(1);
    }

    /// Counts the items that a complete reading shows for the first time. Unanswered requests are only counted
    /// by a reading that `settles` the call.
    pub fn count(&mut self, reading: &Reading, settles: bool) -> Counted {
        let mut counted = Counted::default();
        let mut occurrences: BTreeMap<Digest, u32> = BTreeMap::new();
        let mut unanswered: BTreeMap<Digest, u32> = BTreeMap::new();
        for item in &reading.items {
            if let Identity::Unanswered { request } = item.identity {
                *unanswered.entry(request).or_default() += 1;
            }
        }
        // Requests counted as unanswered; the responses that have since appeared use up these credits.
        let mut credits: BTreeMap<Digest, u32> = BTreeMap::new();
        let mut unanswered_so_far: BTreeMap<Digest, u32> = BTreeMap::new();
        for item in &reading.items {
            let is_new = match item.identity {
                Identity::Answered { whole, request } => {
                    let seen = occurrences.entry(whole).or_default();
                    *seen += 1;
                    if *seen <= self.counted.count(whole) {
                        false
                    } else {
                        let credit =
                            credits.entry(request).or_insert_with(|| self.credits.count(request));
                        let still_unanswered = unanswered.get(&request).copied().unwrap_or(0);
                        let is_filled_in = *credit > still_unanswered;
                        if is_filled_in {
                            *credit -= 1;
                        }
                        !is_filled_in
                    }
                }
                Identity::Rejected(digest) => {
                    let seen = occurrences.entry(digest).or_default();
                    *seen += 1;
                    *seen > self.counted.count(digest)
                }
                Identity::Unanswered { request } if settles => {
                    let seen = unanswered_so_far.entry(request).or_default();
                    *seen += 1;
                    *seen > self.credits.count(request)
                }
                Identity::Unanswered { .. } => continue,
            };
            if !is_new {
                counted.duplicates += 1;
                continue;
            }
            match &item.observed {
                Ok(observation) => counted.events.push((observation.clone(), item.created_at)),
                Err(rejection) => counted.rejected.push(*rejection),
            }
        }
        occurrences.retain(|&digest, seen| *seen > self.counted.count(digest));
        self.counted.replace(occurrences);
        for (request, seen) in unanswered_so_far {
            let credit = credits.entry(request).or_insert_with(|| self.credits.count(request));
            *credit = (*credit).max(seen);
        }
        self.credits.replace(credits);
        counted
    }
}

#[cfg(test)]
mod tests;
