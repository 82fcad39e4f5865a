//! Everybody who is connected.
//!
//! Invariant: never more connections than the limit, which is at most [`MAX_CONNECTIONS`]. Each is expected to move on by some time: to
//! ask, to be answered, to take some of his answer. For a new one goes whoever is the longest overdue.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Most connections: some Prometheus servers, some people, and room for whoever is slow.
pub const MAX_CONNECTIONS: usize = 256;

/// Everybody who is connected.
#[derive(Clone)]
pub struct Crowd {
    inner: Arc<Mutex<Inner>>,
    noted: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    guests: BTreeMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    cut: CancellationToken,
    stage: Stage,
    /// By when he is expected to move on.
    due: Instant,
}

/// What a guest is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// To say what he wants.
    New,
    /// Nothing that anybody waits for: he was answered, or has begun to ask.
    Idle,
    /// To be answered: we are to move on.
    Asking,
    /// To take some of his answer.
    Taking,
}

/// One connection, for whoever answers it.
#[derive(Clone, Debug)]
pub(in crate::http) struct Guest {
    peer: IpAddr,
    crowd: Crowd,
    number: u64,
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

impl Stage {
    /// How long it may take.
    fn allowance(self) -> Duration {
        match self {
            // Some round trips. Where more come than have time for them, they wait to be taken in.
            Self::New => Duration::from_millis(100),
            Self::Idle => Duration::ZERO,
            // Metrics take milliseconds, and a password some more.
            Self::Asking => Duration::from_secs(1),
            // Tens of round trips for a piece.
            Self::Taking => Duration::from_secs(1),
        }
    }
}

impl Crowd {
    /// No connection yet, and at most `limit`; `noted` is called for each connection that is cut.
    pub fn new(limit: usize, noted: Arc<dyn Fn() + Send + Sync>) -> Self {
        let inner = Inner { limit, guests: BTreeMap::new(), next: 0 };
        Self { inner: Arc::new(Mutex::new(inner)), noted }
    }

    /// Changes the limit; connections beyond it are cut when the next one comes.
    pub fn limit(&self, limit: usize) {
        self.lock().limit = limit;
    }

    /// Takes a connection in. Where there are too many, another one goes; `None` if he would have to go
    /// before he could say what he wants.
    pub(super) fn enter(&self, peer: IpAddr, now: Instant) -> Option<(Guest, Seat)> {
        let cut = CancellationToken::new();
        let mut inner = self.lock();
        while inner.guests.len() >= inner.limit {
            inner.longest_overdue(now)?.cut.cancel();
        }
        let number = inner.next;
        inner.next += 1;
        let due = now + Stage::New.allowance();
        inner.guests.insert(number, Entry { cut: cut.clone(), stage: Stage::New, due });
        drop(inner);
        let guest = Guest { peer, crowd: self.clone(), number, cut };
        Some((guest.clone(), Seat(guest)))
    }

    /// Cuts the connection that is the longest overdue, if any is.
    pub(super) fn make_room(&self, now: Instant) {
        if let Some(entry) = self.lock().longest_overdue(now) {
            entry.cut.cancel();
        }
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
    fn longest_overdue(&mut self, now: Instant) -> Option<Entry> {
        let (&number, entry) = self.guests.iter().min_by_key(|(_, entry)| entry.due)?;
        if entry.stage == Stage::New && now < entry.due {
            return None;
        }
        self.guests.remove(&number)
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

    /// Notes that nobody waits for him, nor he for us.
    pub(super) fn is_idle(&self) {
        self.enters(Stage::Idle);
    }

    /// Notes that his answer is being made.
    pub(in crate::http) fn is_asking(&self) {
        self.enters(Stage::Asking);
    }

    /// Notes that he takes something of his answer.
    pub(super) fn is_taking(&self) {
        self.enters(Stage::Taking);
    }

    fn enters(&self, stage: Stage) {
        // Who was cut off in the meantime has no place any more.
        if let Some(entry) = self.crowd.lock().guests.get_mut(&self.number) {
            entry.stage = stage;
            entry.due = Instant::now() + stage.allowance();
        }
    }

    /// Someone for tests of what guests do.
    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        let guest = Crowd::new(MAX_CONNECTIONS, Arc::new(|| {})).enter(PEER, Instant::now());
        guest.map(|(guest, _seat)| guest).expect("there is room")
    }
}

/// Where guests of tests come from.
#[cfg(test)]
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.crowd.lock().guests.remove(&self.0.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_takes_the_place_of_who_is_the_longest_overdue() {
        let crowd = Crowd::new(MAX_CONNECTIONS, Arc::new(|| {}));
        let guests = full(&crowd);
        assert!(crowd.enter(PEER, Instant::now()).is_none(), "all of them are new");
        guests[0].0.is_taking();
        guests[2].0.is_asking();
        let _one_more = crowd.enter(PEER, soon()).expect("room");
        assert_eq!(cut(&guests), [1], "the first takes his answer");
        assert_eq!(crowd.lock().guests.len(), MAX_CONNECTIONS);
        guests[5].0.is_idle();
        let _one_more = crowd.enter(PEER, Instant::now()).expect("room");
        assert_eq!(cut(&guests), [1, 5], "who is idle goes before those who are new");
        drop(guests);
        assert_eq!(crowd.lock().guests.len(), 2);
    }

    #[test]
    fn who_is_answered_or_takes_it_goes_only_where_all_are() {
        let crowd = Crowd::new(MAX_CONNECTIONS, Arc::new(|| {}));
        let guests = full(&crowd);
        for (at, (guest, _)) in guests.iter().enumerate() {
            if at % 2 == 0 { guest.is_asking() } else { guest.is_taking() }
        }
        guests[7].0.is_idle();
        let _instead = crowd.enter(PEER, soon()).expect("room");
        assert_eq!(cut(&guests), [7]);
        let _instead = crowd.enter(PEER, soon() + Duration::from_secs(2)).expect("room");
        assert_eq!(cut(&guests), [7], "who came last had his time");
        let all = (0..MAX_CONNECTIONS).map(|_| crowd.enter(PEER, soon() + Duration::from_secs(9)));
        assert_eq!(all.flatten().count(), MAX_CONNECTIONS, "nobody stays for ever");
    }

    #[test]
    fn a_lower_limit_holds_from_the_next_connection_on() {
        let crowd = Crowd::new(MAX_CONNECTIONS, Arc::new(|| {}));
        let guests = full(&crowd);
        crowd.limit(3);
        let _next = crowd.enter(PEER, soon()).expect("room");
        assert_eq!(cut(&guests).len(), MAX_CONNECTIONS - 2);
        crowd.make_room(soon());
        assert_eq!(cut(&guests).len(), MAX_CONNECTIONS - 1, "where the limit isn't the bound");
    }

    /// When who is new had his time.
    fn soon() -> Instant {
        Instant::now() + Stage::New.allowance()
    }

    fn full(crowd: &Crowd) -> Vec<(Guest, Seat)> {
        (0..MAX_CONNECTIONS).map(|_| crowd.enter(PEER, Instant::now()).expect("room")).collect()
    }

    fn cut(guests: &[(Guest, Seat)]) -> Vec<usize> {
        (0..guests.len()).filter(|&at| guests[at].0.cut.is_cancelled()).collect()
    }
}
