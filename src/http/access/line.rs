//! Whose password is found right or wrong next.
//!
//! Invariant: a client that waits is never turned away. Addresses take turns, and of one address the
//! first is the next, so that nothing that a client does puts another one off for longer than it takes
//! to serve [`PLACES`]. A place outlasts its client, whose password is known when it comes again. Where
//! all places are taken, the newest one without a client is given away: there is one, since all
//! connections together are no more than the places.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// As many as there may be connections.
const PLACES: usize = 256;

/// What waits, by address.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// Each with the number of its arrival.
    waiting: BTreeMap<IpAddr, VecDeque<(u64, T)>>,
    arrived: u64,
    /// Where the last one came from that was served.
    last: Option<IpAddr>,
    is_served: bool,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), arrived: 0, last: None, is_served: false }
    }
}

impl<T> Line<T> {
    /// Lets one wait. Returns whether nothing serves the line yet: then the caller has it served, until
    /// [`Line::next`] has no more.
    #[must_use]
    pub(super) fn join(&mut self, peer: IpAddr, one: T, is_gone: impl Fn(&T) -> bool) -> bool {
        if self.len() >= PLACES {
            self.give_away(is_gone);
        }
        self.arrived += 1;
        self.waiting.entry(peer).or_default().push_back((self.arrived, one));
        !std::mem::replace(&mut self.is_served, true)
    }

    /// Takes out the next one; `None` ends the serving.
    pub(super) fn next(&mut self) -> Option<T> {
        let after =
            self.last.and_then(|last| self.waiting.keys().copied().find(|peer| *peer > last));
        let peer = after.or_else(|| self.waiting.keys().next().copied());
        let next = peer.and_then(|peer| self.remove(peer, 0));
        self.last = peer;
        self.is_served = next.is_some();
        next
    }

    fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    fn give_away(&mut self, is_gone: impl Fn(&T) -> bool) {
        let all = self.waiting.iter().flat_map(|(peer, line)| {
            line.iter().enumerate().map(|(at, (number, one))| (*peer, at, *number, one))
        });
        let gone = all.filter(|(.., one)| is_gone(one));
        let newest = gone.max_by_key(|(_, _, number, _)| *number);
        if let Some((peer, at, ..)) = newest {
            self.remove(peer, at);
        }
    }

    fn remove(&mut self, peer: IpAddr, at: usize) -> Option<T> {
        let line = self.waiting.get_mut(&peer)?;
        let (_, one) = line.remove(at)?;
        if line.is_empty() {
            self.waiting.remove(&peer);
        }
        Some(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns_and_each_serves_its_first() {
        let mut line = Line::default();
        for (at, peer) in [(0, 1), (1, 1), (2, 1), (3, 9), (4, 5), (5, 9)] {
            assert_eq!(line.join(address(peer), at, |_| false), at == 0, "it is served once");
        }
        let served: Vec<usize> = std::iter::from_fn(|| line.next()).collect();
        assert_eq!(served, [0, 4, 3, 1, 5, 2]);
        assert!(line.join(address(1), 6, |_| false), "it is served again");
    }

    #[test]
    fn whoever_waits_stays_and_who_came_first_stays_although_it_has_gone() {
        let mut line = Line::default();
        let is_gone = |number: &usize| *number != 300;
        for number in 0..1_000 {
            let _is_first = line.join(address(1), number, is_gone);
            assert!(line.len() <= PLACES);
        }
        let served: Vec<usize> = std::iter::from_fn(|| line.next()).collect();
        // The newest place is given away again and again.
        let expected: Vec<usize> = (0..PLACES - 2).chain([300, 999]).collect();
        assert_eq!(served, expected);
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }
}
