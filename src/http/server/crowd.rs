//! Everybody who is connected.
//!
//! Invariant: never more than [`MAX_GUESTS`] connections. For a new one goes whoever has not moved on for
//! longest: asked, or taken some of his answer. Who is new, or being answered, is spared.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Most connections: some Prometheus servers, some people, and room for whoever is slow.
const MAX_GUESTS: usize = 256;
/// How long a new guest is spared, to say what he wants: some round trips. Two thousand five hundred new
/// ones a second come in at once; where there are more, they wait to be taken in.
const WELCOME: Duration = Duration::from_millis(100);
/// How long an answer may be in the making for its guest to be spared: longer than any takes but a
/// reload.
const SPARED_FOR: Duration = Duration::from_secs(5);

/// Everybody who is connected.
#[derive(Clone)]
pub struct Crowd {
    inner: Arc<Mutex<Inner>>,
    noted: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By when they last moved on, the longest ago first.
    guests: BTreeMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    cut: CancellationToken,
    /// He isn't cut off before.
    spared_until: Instant,
}

/// One connection, for whoever answers it.
#[derive(Clone, Debug)]
pub(in crate::http) struct Guest {
    peer: IpAddr,
    crowd: Crowd,
    place: Arc<Mutex<u64>>,
    cut: CancellationToken,
}

/// A connection's place, which it has until it ends.
#[derive(Debug)]
pub(super) struct Seat(Guest);

impl std::fmt::Debug for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crowd").finish_non_exhaustive()
    }
}

impl Crowd {
    /// Nobody yet; `noted` is told of each connection that is cut.
    pub fn new(noted: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { inner: Arc::default(), noted }
    }

    /// Takes a connection in. Where there are too many, another one goes; `None` if all are spared for
    /// now.
    pub(super) fn enter(&self, peer: IpAddr, now: Instant) -> Option<(Guest, Seat)> {
        let cut = CancellationToken::new();
        let mut inner = self.lock();
        if inner.guests.len() >= MAX_GUESTS {
            inner.longest_idle(now)?.cut.cancel();
        }
        let place = inner.place(Entry { cut: cut.clone(), spared_until: now + WELCOME });
        drop(inner);
        let guest = Guest { peer, crowd: self.clone(), place: Arc::new(Mutex::new(place)), cut };
        Some((guest.clone(), Seat(guest)))
    }

    /// Notes that a connection was cut.
    pub(super) fn note_cut(&self) {
        (self.noted)();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn place(&mut self, entry: Entry) -> u64 {
        let place = self.next;
        self.next += 1;
        self.guests.insert(place, entry);
        place
    }

    /// Takes out whoever has not moved on for longest and isn't spared.
    fn longest_idle(&mut self, now: Instant) -> Option<Entry> {
        let (&place, _) = self.guests.iter().find(|(_, entry)| entry.spared_until <= now)?;
        self.guests.remove(&place)
    }
}

impl Guest {
    /// The address that he connects from.
    pub(in crate::http) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Cancelled when the connection is to end at once.
    pub(super) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Notes that he moves on: nobody has done so later.
    pub(super) fn moves_on(&self) {
        self.change(|_| {});
    }

    /// Notes that his answer is being made, which takes as long as it takes.
    pub(super) fn is_asking(&self) {
        self.change(|entry| entry.spared_until = Instant::now() + SPARED_FOR);
    }

    /// Notes that it is up to him to take it.
    pub(super) fn is_answered(&self) {
        self.change(|entry| entry.spared_until = Instant::now());
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.crowd.lock();
        // Who was cut off in the meantime has no place any more.
        if let Some(mut entry) = inner.guests.remove(&place) {
            change(&mut entry);
            *place = inner.place(entry);
        }
    }

    /// Someone for tests of what guests do.
    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        let guest =
            Crowd::new(Arc::new(|| {})).enter(PEER, Instant::now()).map(|(guest, _seat)| guest);
        guest.expect("there is room")
    }
}

/// Where guests of tests come from.
#[cfg(test)]
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

impl Drop for Seat {
    fn drop(&mut self) {
        let place = self.0.place.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.crowd.lock().guests.remove(&place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_takes_the_place_of_who_has_not_moved_on_for_longest() {
        let crowd = Crowd::new(Arc::new(|| {}));
        let guests = full(&crowd);
        guests[0].0.moves_on();
        assert!(crowd.enter(PEER, Instant::now()).is_none(), "all of them are new");
        let later = Instant::now() + WELCOME;
        let _one_more = crowd.enter(PEER, later).expect("room");
        assert_eq!(cut(&guests), [1], "the first has moved on since");
        assert_eq!(crowd.lock().guests.len(), MAX_GUESTS);
        drop(guests);
        assert_eq!(crowd.lock().guests.len(), 1);
    }

    #[test]
    fn who_is_being_answered_is_spared_for_a_while() {
        let crowd = Crowd::new(Arc::new(|| {}));
        let guests = full(&crowd);
        guests.iter().for_each(|(guest, _)| guest.is_asking());
        let later = Instant::now() + WELCOME;
        assert!(crowd.enter(PEER, later).is_none(), "all are being answered");
        guests[2].0.is_answered();
        let _instead = crowd.enter(PEER, later).expect("room");
        assert_eq!(cut(&guests), [2]);
        let _instead = crowd.enter(PEER, later + SPARED_FOR).expect("nobody is for ever");
        assert_eq!(cut(&guests), [0, 2]);
    }

    fn full(crowd: &Crowd) -> Vec<(Guest, Seat)> {
        (0..MAX_GUESTS).map(|_| crowd.enter(PEER, Instant::now()).expect("room")).collect()
    }

    fn cut(guests: &[(Guest, Seat)]) -> Vec<usize> {
        (0..guests.len()).filter(|&at| guests[at].0.cut.is_cancelled()).collect()
    }
}
