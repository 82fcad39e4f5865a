//! What is known of one call: how far it has come, and which of its Call Events were counted.
//!
//! Invariant: an event is counted when a complete read shows more occurrences of its identity than
//! were counted before. Time and position decide nothing.

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

/// How far in the future an end is believed: Twilio's time may be known too late for a while.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a call with an unknown status and no end may go on: calls last a day at most.
const MAX_UNKNOWN: Duration = Duration::from_secs(25 * 60 * 60);
/// How long a call may be active: a day on the line, and days in the queue before.
const MAX_ACTIVE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Digests with how often each was counted. Nearly all were once, so only other counts are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Multiset {
    /// Sorted, each once.
    digests: Box<[Digest]>,
    repeated: BTreeMap<Digest, u32>,
}

impl Multiset {
    /// Takes pairs in any order; of equal digests the larger count stays.
    pub fn new(mut pairs: Vec<(Digest, u32)>) -> Self {
        pairs.sort_unstable_by_key(|&(digest, count)| (digest, std::cmp::Reverse(count)));
        pairs.dedup_by_key(|&mut (digest, _)| digest);
        let repeated = pairs.iter().copied().filter(|&(_, count)| count != 1).collect();
        Self { digests: pairs.into_iter().map(|(digest, _)| digest).collect(), repeated }
    }

    /// How often a digest was counted.
    pub fn count(&self, digest: Digest) -> u32 {
        if self.digests.binary_search(&digest).is_err() {
            return 0;
        }
        self.repeated.get(&digest).copied().unwrap_or(1)
    }

    /// All digests with their counts, sorted by digest.
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

/// What is known of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallProgress {
    /// The call.
    pub sid: CallSid,
    /// Who called whom.
    pub direction: Direction,
    /// Its status when last seen.
    pub status: CallStatus,
    /// When it began: its start time, else its creation, else when it was first seen.
    pub began_at: Timestamp,
    /// When it ended, once it has. Never changes after that.
    pub ended_at: Option<Timestamp>,
    /// Whether Twilio told the end time; without one, lists may show the call for ever.
    pub has_end_time: bool,
    /// When a list last showed it.
    pub last_listed_at: Timestamp,
    /// When it was last read while active.
    pub last_live_read_at: Option<Timestamp>,
    /// How many of the reads after its end are behind it.
    pub after_end_reads: u8,
    /// What its early reads showed, until settling tells what they could have shown. Not kept over
    /// a restart: fewer calls speak then.
    pub early_reads: Vec<EarlyRead>,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// Whether one more read is due after settling.
    pub awaits_audit: bool,
    /// The version of its digests.
    pub digest_version: DigestVersion,
    /// Identities counted.
    pub counted: Multiset,
    /// Requests counted as unanswered, whose answers may still appear.
    pub credits: Multiset,
    /// Reads that failed since the last good one.
    pub failing: Failing,
    /// When it may be read again after a failure.
    pub retry_at: Option<Timestamp>,
    /// How often in a row Twilio did not know it when it was fetched singly.
    pub missing: u8,
    /// When the error log told of it, if its events were not read since. Not kept over a restart.
    pub reported_at: Option<Timestamp>,
}

/// What seeing a call in a list changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing that needs to be kept.
    Nothing,
    /// Something, but the call goes on.
    Changed,
    /// The call has ended: it is counted now.
    Finished,
}

/// What a reading added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The events that are new, with their times.
    pub events: Vec<(Observation, Option<Timestamp>)>,
    /// The items that are new and say nothing.
    pub rejected: Vec<Rejection>,
    /// How many items had been counted before.
    pub duplicates: u64,
    /// What callers felt, told once per call, when it settles.
    pub outcome: Option<CallOutcome>,
}

impl CallProgress {
    /// Begins with a call that was never seen before.
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
        let seen = match progress.see(call, now) {
            Seen::Finished => Seen::Finished,
            Seen::Nothing | Seen::Changed => Seen::Changed,
        };
        (progress, seen)
    }

    /// Notes what a list, or a single fetch, shows of the call.
    pub fn see(&mut self, call: &Call, now: Timestamp) -> Seen {
        self.last_listed_at = now;
        self.missing = 0;
        if self.ended_at.is_some() {
            // An ended call stays ended, and its end stays where it was first seen.
            return Seen::Nothing;
        }
        let changed = self.status != call.status || self.direction != call.direction;
        self.status = call.status;
        self.direction = call.direction;
        if let Some(start) = call.start_time {
            self.began_at = start;
        }
        if call.has_ended() {
            // Without either, the call may have gone on until now. A call that ended long after now
            // did not: it would never settle.
            let end = call.end_time.or(call.date_updated).unwrap_or(now);
            let end = if end > after(now, MAX_AHEAD) { now } else { end };
            self.finish(end, call.end_time.is_some());
            return Seen::Finished;
        }
        if changed { Seen::Changed } else { Seen::Nothing }
    }

    /// Notes that the call has ended, as nothing else will say so: Twilio no longer knows it.
    pub fn finish(&mut self, at: Timestamp, has_end_time: bool) {
        self.ended_at = Some(at);
        self.has_end_time = has_end_time;
        self.failing = Failing::default();
        self.retry_at = None;
    }

    /// Whether the call has been active for longer than Twilio's calls last: nothing will say that
    /// it ended.
    pub fn is_endless(&self, now: Timestamp) -> bool {
        let longest = if self.status.is_active() { MAX_ACTIVE } else { MAX_UNKNOWN };
        self.ended_at.is_none() && after(self.began_at, longest) < now
    }

    /// Whether its events can't be read though those of other calls of the account are. Only an ended
    /// call that isn't settled is: the counters lack nothing if a live read or an audit fails.
    pub fn is_unreadable(&self) -> bool {
        self.ended_at.is_some() && self.settled_at.is_none() && self.failing.is_on_its_own()
    }

    /// Moves its waits along with the account's time.
    pub fn shift(&mut self, by: SignedDuration) {
        self.last_listed_at = moved(self.last_listed_at, by);
        self.last_live_read_at = self.last_live_read_at.map(|at| moved(at, by));
        self.retry_at = self.retry_at.map(|at| moved(at, by));
        self.reported_at = self.reported_at.map(|at| moved(at, by));
        self.failing.shift(by);
    }

    /// Notes what an early read showed.
    pub fn note_early(&mut self, stage: EarlyStage, read_at: Timestamp, has_shown: bool) {
        match self.early_reads.iter_mut().find(|read| read.stage == stage) {
            // Of several live reads the last counts, and whether any showed something.
            Some(read) => {
                read.read_at = read_at;
                read.has_shown |= has_shown;
            }
            None => self.early_reads.push(EarlyRead { stage, read_at, has_shown }),
        }
    }

    /// Notes what a read after the end showed, which made some before it superfluous.
    pub fn note_after_end(&mut self, skips: u8, read_at: Timestamp, has_shown: bool) {
        let read = self.after_end_reads.saturating_add(skips);
        self.note_early(EarlyStage::after_end(usize::from(read)), read_at, has_shown);
        self.after_end_reads = read.saturating_add(1);
    }

    /// Counts what a complete reading shows for the first time. Unanswered requests wait until a
    /// reading that `settles`.
    pub fn count(&mut self, reading: &Reading, settles: bool) -> Counted {
        let mut counted = Counted::default();
        let mut occurrences: BTreeMap<Digest, u32> = BTreeMap::new();
        let mut unanswered: BTreeMap<Digest, u32> = BTreeMap::new();
        for item in &reading.items {
            if let Identity::Unanswered { request } = item.identity {
                *unanswered.entry(request).or_default() += 1;
            }
        }
        // Answers of requests that were counted as unanswered and no longer are.
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
