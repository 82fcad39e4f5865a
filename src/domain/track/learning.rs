//! Whether early reads are worth their requests.
//!
//! For some accounts Twilio shows Call Events while a call goes on, for others only a quarter of an
//! hour after its end. Settling tells which: it shows what an early read could have shown. A stage
//! that never showed anything is thinned to a few calls, until one of them shows something again.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use crate::domain::track::reading::Reading;
use crate::domain::words::sid::CallSid;

/// How many settled calls speak for a stage.
const WITNESSES: usize = 50;
/// While stages are thinned, one call in this many is read in one of them, which takes turns.
const TRIED_WITH_ONE_IN: u64 = 50;

/// A stage before settling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EarlyStage(u8);

impl EarlyStage {
    /// While the call is active.
    pub const LIVE: Self = Self(0);
    /// Further ones are always read.
    const MAX: u8 = 31;

    /// After the end, by its place in `poll.after_end`.
    pub fn after_end(index: usize) -> Self {
        Self(u8::try_from(index + 1).unwrap_or(u8::MAX))
    }
}

/// What an early read of a call showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyRead {
    /// When it was.
    pub stage: EarlyStage,
    /// Twilio's time at its answer.
    pub read_at: Timestamp,
    /// Whether there was any Call Event.
    pub has_shown: bool,
}

/// The stages that are thinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinned(u32);

impl Thinned {
    /// None is.
    pub const NONE: Self = Self(0);

    /// Whether a stage is thinned.
    pub fn is_thinned(self, stage: EarlyStage) -> bool {
        stage.bit().is_some_and(|bit| self.0 & bit != 0)
    }

    /// Whether a call is not read in a stage.
    pub fn skips(self, stage: EarlyStage, sid: CallSid) -> bool {
        let Some(bit) = stage.bit().filter(|bit| self.0 & bit != 0) else { return false };
        let number = sid.number();
        let turn = number / TRIED_WITH_ONE_IN % u64::from(self.0.count_ones());
        let rank = (self.0 & (bit - 1)).count_ones();
        !(number.is_multiple_of(TRIED_WITH_ONE_IN) && turn == u64::from(rank))
    }
}

impl EarlyStage {
    fn bit(self) -> Option<u32> {
        (self.0 <= Self::MAX).then(|| 1 << self.0)
    }
}

/// What the settled calls of an account have taught.
#[derive(Debug, Default)]
pub struct Learning {
    /// Per stage, whether each of the last witnesses had been shown anything.
    witnesses: BTreeMap<EarlyStage, VecDeque<bool>>,
}

impl Learning {
    /// Learns from a call that settles. One says nothing about a read that was before its first
    /// event.
    pub fn settled(&mut self, early: &[EarlyRead], settling: &Reading) {
        let first = settling.items.iter().filter_map(|item| item.created_at).min();
        let Some(first) = first else { return };
        for read in early.iter().filter(|read| first < read.read_at) {
            let witnesses = self.witnesses.entry(read.stage).or_default();
            if witnesses.len() == WITNESSES {
                witnesses.pop_front();
            }
            witnesses.push_back(read.has_shown);
        }
    }

    /// The stages that showed nothing to any of the last witnesses.
    pub fn thinned(&self) -> Thinned {
        let is_vain = |seen: &VecDeque<bool>| seen.len() == WITNESSES && !seen.contains(&true);
        let vain = self.witnesses.iter().filter(|(_, seen)| is_vain(seen));
        Thinned(vain.filter_map(|(stage, _)| stage.bit()).fold(0, |bits, bit| bits | bit))
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
    fn a_stage_is_thinned_when_fifty_calls_that_had_events_were_shown_none() {
        let mut learning = Learning::default();
        for _ in 0..49 {
            learn(&mut learning, SECOND, false, Some(5));
        }
        assert_eq!(learning.thinned(), Thinned(0));
        // Neither call has an event that the read could have shown.
        learn(&mut learning, SECOND, false, None);
        learn(&mut learning, SECOND, false, Some(10));
        assert_eq!(learning.thinned(), Thinned(0));
        learn(&mut learning, SECOND, false, Some(5));
        learn(&mut learning, EarlyStage::LIVE, false, Some(5));
        assert_eq!(learning.thinned(), Thinned(0b100));
    }

    #[test]
    fn one_call_that_was_shown_something_makes_its_stage_full_again() {
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
    fn of_fifty_calls_one_is_read_in_one_thinned_stage_and_each_has_its_turn() {
        let thinned = Thinned(0b1011);
        let mut read = BTreeMap::new();
        for number in 0..30_000_u64 {
            let sid = CallSid::parse(&format!("CA{number:032x}")).expect("a SID");
            for stage in (0..4).map(EarlyStage) {
                *read.entry(stage.0).or_insert(0) += u64::from(!thinned.skips(stage, sid));
            }
        }
        assert_eq!(read, BTreeMap::from([(0, 200), (1, 200), (2, 30_000), (3, 200)]));
    }

    /// A call that was read at 10 s, settles with an event of a second.
    fn learn(learning: &mut Learning, stage: EarlyStage, has_shown: bool, event: Option<i64>) {
        let at = |second| Timestamp::from_second(second).expect("an instant");
        let item = |second| Item {
            identity: Identity::Rejected(Digest(0)),
            created_at: Some(at(second)),
            observed: Err(Rejection::Malformed),
            is_heard: false,
        };
        let items = event.map(item).into_iter().collect();
        let settling = Reading { items, read_at: at(1_000), is_complete: true };
        learning.settled(&[EarlyRead { stage, read_at: at(10), has_shown }], &settling);
    }
}
