//! Learns whether early reads are worth their requests.
//!
//! For some accounts, Twilio shows Call Events during the call; for others, only a quarter of an hour after
//! its end. The settling read shows what an early read could have returned. A stage that never returns
//! anything is thinned to a few calls until one of them returns something again.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use crate::domain::track::reading::Reading;
use crate::domain::words::sid::CallSid;

/// The number of settled calls that decide whether a stage is thinned.
const SAMPLES: usize = 50;
/// While stages are thinned, one call in this many is read in one of them; the thinned stages take turns.
const PROBE_ONE_IN: u64 = 50;

/// A stage of early reads, before settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EarlyStage(u8);

impl EarlyStage {
    /// While the call is active.
    pub const LIVE: Self = Self(0);
    /// The last stage that can be thinned; later ones are always read.
    const MAX: u8 = 31;

    /// Returns the stage after the end with this index in `poll.after_end`.
    pub fn after_end(index: usize) -> Self {
        Self(u8::try_from(index + 1).unwrap_or(u8::MAX))
    }
}

/// The result of an early read of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyRead {
    /// The stage of the read.
    pub stage: EarlyStage,
    /// Twilio's time when the response arrived.
    pub read_at: Timestamp,
    /// Whether the read returned any Call Event.
    pub has_events: bool,
}

/// The set of thinned stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinned(u32);

impl Thinned {
    /// No thinned stages.
    pub const NONE: Self = Self(0);

    /// Whether a stage is thinned.
    pub fn is_thinned(self, stage: EarlyStage) -> bool {
        stage.bit().is_some_and(|bit| self.0 & bit != 0)
    }

    /// Whether to skip the read of a call in a stage.
    pub fn skips(self, stage: EarlyStage, sid: CallSid) -> bool {
        let Some(bit) = stage.bit().filter(|bit| self.0 & bit != 0) else { return false };
        let number = sid.number();
        let probed_rank = number / PROBE_ONE_IN % u64::from(self.0.count_ones());
        let rank = (self.0 & (bit - 1)).count_ones();
        !(number.is_multiple_of(PROBE_ONE_IN) && probed_rank == u64::from(rank))
    }
}

impl EarlyStage {
    fn bit(self) -> Option<u32> {
        (self.0 <= Self::MAX).then(|| 1 << self.0)
    }
}

/// What an account's settled calls revealed about its early reads.
#[derive(Debug, Default)]
pub struct Learning {
    /// Per stage, whether the early read of each of the last settled calls returned anything.
    samples: BTreeMap<EarlyStage, VecDeque<bool>>,
}

impl Learning {
    /// Learns from a call that settles. Reads before its first event are ignored.
    pub fn settled(&mut self, early: &[EarlyRead], settling: &Reading) {
        let first = settling.items.iter().filter_map(|item| item.created_at).min();
        let Some(first) = first else { return };
        for read in early.iter().filter(|read| first < read.read_at) {
            let samples = self.samples.entry(read.stage).or_default();
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back(read.has_events);
        }
    }

    /// Returns the stages whose last reads all returned nothing.
    pub fn thinned(&self) -> Thinned {
        let is_useless =
            |samples: &VecDeque<bool>| samples.len() == SAMPLES && !samples.contains(&true);
        let useless = self.samples.iter().filter(|(_, samples)| is_useless(samples));
        Thinned(useless.filter_map(|(stage, _)| stage.bit()).fold(0, |bits, bit| bits | bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::judge::observe::Rejection;
    use crate::domain::track::digest::{Digest, Identity};
    use crate::domain::track::reading::Item;

    const SECOND: EarlyStage = EarlyStage(2);

    #[test]
    fn a_stage_is_thinned_after_fifty_reads_missed_existing_events() {
        let mut learning = Learning::default();
        for _ in 0..49 {
            learn(&mut learning, SECOND, false, Some(5));
        }
        assert_eq!(learning.thinned(), Thinned(0));
        // Neither call has an event that the read could have returned.
        learn(&mut learning, SECOND, false, None);
        learn(&mut learning, SECOND, false, Some(10));
        assert_eq!(learning.thinned(), Thinned(0));
        learn(&mut learning, SECOND, false, Some(5));
        learn(&mut learning, EarlyStage::LIVE, false, Some(5));
        assert_eq!(learning.thinned(), Thinned(0b100));
    }

    #[test]
    fn one_read_that_returns_events_restores_its_stage() {
        let mut learning = Learning::default();
        for _ in 0..200 {
            learn(&mut learning, SECOND, false, Some(5));
        }
        learn(&mut learning, SECOND, true, Some(5));
        assert_eq!(learning.thinned(), Thinned(0));
        for _ in 0..50 {
            assert_eq!(learning.thinned(), Thinned(0));
            learn(&mut learning, SECOND, false, Some(5));
        }
        assert_eq!(learning.thinned(), Thinned(0b100));
    }

    #[test]
    fn one_call_in_fifty_probes_a_thinned_stage_in_turn() {
        let thinned = Thinned(0b1011);
        let mut read = BTreeMap::new();
        for number in 0..30_000_u64 {
            let sid = CallSid::parse(&format!("CA{number:032x}")).expect("valid SID");
            for stage in (0..4).map(EarlyStage) {
                *read.entry(stage.0).or_insert(0) += u64::from(!thinned.skips(stage, sid));
            }
        }
        assert_eq!(read, BTreeMap::from([(0, 200), (1, 200), (2, 30_000), (3, 200)]));
    }

    /// Settles a call that was read early at 10 s and has an event at the given second, if any.
    fn learn(learning: &mut Learning, stage: EarlyStage, has_events: bool, event: Option<i64>) {
        let at = |second| Timestamp::from_second(second).expect("valid timestamp");
        let item = |second| Item {
            identity: Identity::Rejected(Digest(0)),
            created_at: Some(at(second)),
            observed: Err(Rejection::Malformed),
            is_caller_facing: false,
        };
        let items = event.map(item).into_iter().collect();
        let settling = Reading { items, read_at: at(1_000), is_complete: true };
        learning.settled(&[EarlyRead { stage, read_at: at(10), has_events }], &settling);
    }
}
