//! Answers that wait to be taken, each by as many guests as asked for the same.
//!
//! Invariant: never more than [`MAX_BYTES`] of them for long beside the newest one. Where there are more,
//! whoever still takes the oldest is cut off.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::crowd::Guest;

/// Most bytes of answers that wait: ten scrapes of ten thousand series.
const MAX_BYTES: usize = 16 << 20;
/// An answer goes out in pieces of this size: by them it is seen who takes his, and how fast.
const PIECE: usize = 64 * 1024;

/// All answers that wait.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// The oldest first.
    waiting: BTreeMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    bytes: usize,
    /// Who takes it, by number; none of them any more once it was too old.
    takers: BTreeMap<u64, CancellationToken>,
    is_too_old: bool,
}

/// An answer, in memory for as long as somebody has it.
#[derive(Debug)]
pub(in crate::http) struct Held {
    bytes: Bytes,
    number: u64,
    answers: Answers,
}

/// An answer on its way to a guest.
struct Taking {
    held: Arc<Held>,
    rest: Bytes,
    guest: Guest,
    number: u64,
}

impl Answers {
    /// Holds an answer; others make room for it.
    pub(in crate::http) fn hold(&self, bytes: Bytes) -> Arc<Held> {
        let mut inner = self.lock();
        let number = inner.number();
        let entry = Entry { bytes: bytes.len(), takers: BTreeMap::new(), is_too_old: false };
        inner.waiting.insert(number, entry);
        inner.make_room(number);
        drop(inner);
        Arc::new(Held { bytes, number, answers: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn make_room(&mut self, newest: u64) {
        let in_time = self.waiting.values().filter(|entry| !entry.is_too_old);
        let mut bytes: usize = in_time.map(|entry| entry.bytes).sum();
        for (&number, entry) in &mut self.waiting {
            if bytes <= MAX_BYTES {
                return;
            }
            if number != newest && !entry.is_too_old {
                bytes -= entry.bytes;
                entry.is_too_old = true;
                entry.takers.values().for_each(CancellationToken::cancel);
            }
        }
    }
}

impl Held {
    /// All of it.
    pub(in crate::http) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The answer for a guest, who takes it at his own pace, for as long as nobody else needs the room.
    pub(super) fn taken_by(self: Arc<Self>, guest: Guest) -> Body {
        let mut inner = self.answers.lock();
        let number = inner.number();
        match inner.waiting.get_mut(&self.number).filter(|entry| !entry.is_too_old) {
            Some(entry) => {
                entry.takers.insert(number, guest.cut().clone());
            }
            None => guest.cut().cancel(),
        }
        drop(inner);
        Body::new(Taking { rest: self.bytes(), held: self, guest, number })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.lock().waiting.remove(&self.number);
    }
}

impl http_body::Body for Taking {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        // Asked for once there is room for it: what went before was taken.
        self.guest.moves_on();
        let bytes = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        if let Some(entry) = self.held.answers.lock().waiting.get_mut(&self.held.number) {
            entry.takers.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_still_takes_the_oldest_answers_makes_room_for_new_ones() {
        let answers = Answers::default();
        let guests: Vec<Guest> = (0..5).map(|_| Guest::for_test()).collect();
        let third = Bytes::from(vec![0; MAX_BYTES / 3]);
        let bodies: Vec<Body> = guests
            .iter()
            .map(|guest| answers.hold(third.clone()).taken_by(guest.clone()))
            .collect();
        assert_eq!(cut(&guests), [true, true, false, false, false]);
        drop(bodies);
        assert!(answers.lock().waiting.is_empty());
        let large = answers.hold(Bytes::from(vec![0; 2 * MAX_BYTES])).taken_by(guests[4].clone());
        assert_eq!(
            cut(&guests),
            [true, true, false, false, false],
            "nobody whose answer was taken is cut off, nor who takes the newest"
        );
        let late = answers.hold(third).taken_by(guests[3].clone());
        assert_eq!(cut(&guests), [true, true, false, false, true]);
        drop((large, late));
    }

    #[test]
    fn an_answer_is_held_once_for_all_who_take_it() {
        let answers = Answers::default();
        let guests: Vec<Guest> = (0..100).map(|_| Guest::for_test()).collect();
        let held = answers.hold(Bytes::from(vec![0; MAX_BYTES]));
        let take = |guest: &Guest| Arc::clone(&held).taken_by(guest.clone());
        let bodies: Vec<Body> = guests.iter().map(take).collect();
        assert_eq!(cut(&guests), [false; 100]);
        let newer = answers.hold(Bytes::from_static(b"a"));
        assert_eq!(cut(&guests), [true; 100]);
        let late = Guest::for_test();
        let _body = take(&late);
        assert!(late.cut().is_cancelled(), "it is too old for anybody");
        drop((bodies, newer));
    }

    fn cut(guests: &[Guest]) -> Vec<bool> {
        guests.iter().map(|guest| guest.cut().is_cancelled()).collect()
    }
}
