//! Everybody who is connected, and what waits to be taken by them.
//!
//! Invariant: never more than [`MAX_GUESTS`] connections for long, nor more than [`MAX_WAITING_BYTES`]
//! of answers beyond the newest one. Whoever asked last the longest ago goes first.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

/// Most connections: some Prometheus servers, some people, and room for whoever is slow.
const MAX_GUESTS: usize = 256;
/// Most bytes of answers that wait to be taken: ten scrapes of ten thousand series.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// An answer goes out in pieces of this size, each with memory of its own, so that what was taken is
/// given back.
const PIECE: usize = 64 * 1024;
/// The same, as bodies tell their size.
pub(super) const PIECE_BYTES: u64 = 64 * 1024;

/// Everybody who is connected.
#[derive(Clone)]
pub struct Crowd {
    inner: Arc<Mutex<Inner>>,
    noted: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By when they last asked, the longest ago first.
    guests: BTreeMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    cut: CancellationToken,
    waiting_bytes: usize,
}

/// One connection, for whoever answers it.
#[derive(Clone, Debug)]
pub(super) struct Guest {
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

    /// Takes a connection in; where there are too many, another one goes.
    pub(super) fn enter(&self) -> (Guest, Seat) {
        let cut = CancellationToken::new();
        let mut inner = self.lock();
        while inner.guests.len() >= MAX_GUESTS
            && let Some((_, oldest)) = inner.guests.pop_first()
        {
            oldest.cut.cancel();
        }
        let place = inner.place(Entry { cut: cut.clone(), waiting_bytes: 0 });
        drop(inner);
        let guest = Guest { crowd: self.clone(), place: Arc::new(Mutex::new(place)), cut };
        (guest.clone(), Seat(guest))
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

    /// Cuts off others until what waits is bearable.
    fn make_room(&mut self, but: u64) {
        let mut waiting: usize = self.guests.values().map(|entry| entry.waiting_bytes).sum();
        let slow: Vec<u64> = self
            .guests
            .iter()
            .filter(|&(&place, entry)| place != but && entry.waiting_bytes > 0)
            .map(|(&place, _)| place)
            .collect();
        for place in slow {
            if waiting <= MAX_WAITING_BYTES {
                return;
            }
            if let Some(entry) = self.guests.remove(&place) {
                waiting -= entry.waiting_bytes;
                entry.cut.cancel();
            }
        }
    }
}

impl Guest {
    /// Cancelled when the connection is to end at once.
    pub(super) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Notes that he asks: nobody is younger.
    pub(super) fn asks(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.crowd.lock();
        if let Some(entry) = inner.guests.remove(&place) {
            *place = inner.place(entry);
        }
    }

    /// An answer that this guest takes at his own pace, for as long as nobody else needs the room.
    pub(super) fn send(self, bytes: &[u8]) -> Body {
        self.note(bytes.len());
        let pieces = bytes.chunks(PIECE).map(Bytes::copy_from_slice).collect();
        Body::new(Answer { pieces, waiting: bytes.len(), guest: self })
    }

    /// Notes how much waits for him, now that he was answered or has taken something.
    fn note(&self, waiting_bytes: usize) {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.crowd.lock();
        // Who was cut off in the meantime has no place any more.
        let Some(entry) = inner.guests.remove(&place) else { return };
        // Taking makes nobody young: who takes a byte a second stays as old as his question.
        let is_new = waiting_bytes > entry.waiting_bytes;
        inner.guests.insert(*place, Entry { waiting_bytes, ..entry });
        if is_new {
            inner.make_room(*place);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let place = self.0.place.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.crowd.lock().guests.remove(&place);
    }
}

/// An answer on its way, piece by piece.
struct Answer {
    pieces: VecDeque<Bytes>,
    waiting: usize,
    guest: Guest,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(piece) = self.pieces.pop_front() else { return Poll::Ready(None) };
        // What is handed over waits in the connection's own small buffer.
        self.waiting -= piece.len();
        self.guest.note(self.waiting);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.waiting).unwrap_or(u64::MAX))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.guest.note(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_takes_the_place_of_who_has_asked_the_longest_ago() {
        let crowd = Crowd::new(Arc::new(|| {}));
        let guests: Vec<(Guest, Seat)> = (0..MAX_GUESTS).map(|_| crowd.enter()).collect();
        guests[0].0.asks();
        let _one_more = crowd.enter();
        let cut: Vec<usize> =
            (0..MAX_GUESTS).filter(|&at| guests[at].0.cut.is_cancelled()).collect();
        assert_eq!(cut, [1], "the first has asked since");
        assert_eq!(crowd.lock().guests.len(), MAX_GUESTS);
        drop(guests);
        assert_eq!(crowd.lock().guests.len(), 1);
    }

    #[test]
    fn answers_that_nobody_takes_make_room_for_new_ones() {
        let crowd = Crowd::new(Arc::new(|| {}));
        let guests: Vec<(Guest, Seat)> = (0..5).map(|_| crowd.enter()).collect();
        let idle = crowd.enter();
        let third = vec![0; MAX_WAITING_BYTES / 3];
        let bodies: Vec<Body> =
            guests.iter().map(|(guest, _)| guest.clone().send(&third)).collect();
        let cut: Vec<bool> = guests.iter().map(|(guest, _)| guest.cut.is_cancelled()).collect();
        assert_eq!(cut, [true, true, false, false, false]);
        assert!(!idle.0.cut.is_cancelled(), "who takes no room stays");
        drop(bodies);
        let all = vec![0; 2 * MAX_WAITING_BYTES];
        let _large = guests[4].0.clone().send(&all);
        assert!(
            !guests[4].0.cut.is_cancelled(),
            "a large answer cuts off nobody whose own is taken"
        );
        assert!(!guests[3].0.cut.is_cancelled());
    }
}
