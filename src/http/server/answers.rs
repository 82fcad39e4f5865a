//! Answers that wait to be taken, each by as many guests as asked for the same.
//!
//! Invariant: never more than [`MAX_BYTES`] of them for long beside the newest one, those included that
//! the connections' own buffers hold. Where there are more, the answer goes that nobody has taken
//! anything of for longest, and whoever takes it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::crowd::Guest;

/// Most bytes of answers that wait: ten scrapes of ten thousand series.
const MAX_BYTES: usize = 16 << 20;
/// An answer goes out in pieces of this size: by them it is seen who takes his. A megabyte a second is
/// sixty of them.
const PIECE: usize = 16 * 1024;

/// All answers that wait.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<u64, Entry>,
    /// Counts answers, takers, and pieces that were taken.
    count: u64,
}

#[derive(Debug)]
struct Entry {
    bytes: usize,
    /// When something of it was taken last, as a count.
    taken: u64,
    /// Who takes it, by number.
    takers: BTreeMap<u64, CancellationToken>,
    /// It makes room: nobody takes it any more.
    is_over: bool,
}

/// An answer, in memory for as long as somebody has it.
#[derive(Debug)]
pub(in crate::http) struct Held {
    bytes: Bytes,
    number: u64,
    answers: Answers,
}

/// One who takes an answer, until the last piece of it has left the connection's buffer.
struct Taker {
    held: Arc<Held>,
    number: u64,
    guest: Guest,
}

/// An answer on its way to a guest.
struct Taking {
    taker: Arc<Taker>,
    rest: Range<usize>,
}

/// A piece in the connection's buffer.
struct Piece {
    taker: Arc<Taker>,
    range: Range<usize>,
}

impl Answers {
    /// Holds an answer; others make room for it.
    pub(in crate::http) fn hold(&self, bytes: Bytes) -> Arc<Held> {
        let mut inner = self.lock();
        let number = inner.next();
        let entry =
            Entry { bytes: bytes.len(), taken: number, takers: BTreeMap::new(), is_over: false };
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
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn make_room(&mut self, newest: u64) {
        let mut bytes: usize =
            self.waiting.values().filter(|entry| !entry.is_over).map(|entry| entry.bytes).sum();
        while bytes > MAX_BYTES {
            let others = self.waiting.iter_mut().filter(|(number, _)| **number != newest);
            let others = others.map(|(_, entry)| entry).filter(|entry| !entry.is_over);
            let Some(entry) = others.min_by_key(|entry| entry.taken) else { return };
            bytes -= entry.bytes;
            entry.is_over = true;
            entry.takers.values().for_each(CancellationToken::cancel);
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
        let number = inner.next();
        let entry = inner.waiting.get_mut(&self.number).filter(|entry| !entry.is_over);
        let Some(entry) = entry else {
            drop(inner);
            // It had to make room while others took it. Whoever has nothing of it yet isn't to blame.
            return self.answers.hold(self.bytes()).taken_by(guest);
        };
        entry.taken = number;
        entry.takers.insert(number, guest.cut().clone());
        drop(inner);
        let rest = 0..self.bytes.len();
        Body::new(Taking { taker: Arc::new(Taker { held: self, number, guest }), rest })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.lock().waiting.remove(&self.number);
    }
}

impl Taker {
    /// Notes that there is room for another piece: what went before was taken.
    fn takes(&self) {
        self.guest.is_taking();
        let mut inner = self.held.answers.lock();
        let count = inner.next();
        if let Some(entry) = inner.waiting.get_mut(&self.held.number) {
            entry.taken = count;
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.guest.is_idle();
        if let Some(entry) = self.held.answers.lock().waiting.get_mut(&self.held.number) {
            entry.takers.remove(&self.number);
        }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.taker.held.bytes.get(self.range.clone()).unwrap_or_default()
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
        self.taker.takes();
        let end = self.rest.end.min(self.rest.start + PIECE);
        let range = self.rest.start..end;
        self.rest.start = end;
        let piece = Piece { taker: Arc::clone(&self.taker), range };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_nobody_takes_for_longest_makes_room() {
        let answers = Answers::default();
        let guests: Vec<Guest> = (0..5).map(|_| Guest::for_test()).collect();
        let third = Bytes::from(vec![0; MAX_BYTES / 3]);
        let mut bodies = Vec::new();
        for guest in &guests {
            bodies.push(answers.hold(third.clone()).taken_by(guest.clone()));
            // The first is slow, but goes on.
            let _piece = bodies[0].frame().await.expect("a piece");
        }
        assert_eq!(cut(&guests), [false, true, true, false, false]);
        drop(bodies);
        assert!(answers.lock().waiting.is_empty());
        let large = answers.hold(Bytes::from(vec![0; 2 * MAX_BYTES])).taken_by(guests[4].clone());
        assert_eq!(
            cut(&guests),
            [false, true, true, false, false],
            "nobody whose answer was taken is cut off, nor who takes the newest"
        );
        let late = answers.hold(third).taken_by(guests[3].clone());
        assert_eq!(cut(&guests), [false, true, true, false, true]);
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
        let done = Guest::for_test();
        drop(take(&done));
        let newer = answers.hold(Bytes::from_static(b"a"));
        assert_eq!(cut(&guests), [true; 100]);
        assert!(!done.cut().is_cancelled(), "he has taken it");
        let late = Guest::for_test();
        let _body = take(&late);
        assert!(!late.cut().is_cancelled(), "he has nothing of it yet");
        drop((bodies, newer));
    }

    #[tokio::test]
    async fn an_answer_waits_until_its_last_piece_has_left_the_buffer() {
        let answers = Answers::default();
        let guest = Guest::for_test();
        let sent: Vec<u8> = (0..=255).cycle().take(3 * PIECE + 7).collect();
        let mut body = answers.hold(sent.clone().into()).taken_by(guest.clone());
        let (mut got, mut last) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            let piece = frame.expect("no error").into_data().expect("data");
            got.extend_from_slice(&piece);
            last = Some(piece);
        }
        drop(body);
        assert_eq!(got, sent);
        assert_eq!(answers.lock().waiting.len(), 1);
        let _other = answers.hold(Bytes::from(vec![0; MAX_BYTES]));
        assert!(guest.cut().is_cancelled(), "he doesn't take the last piece");
        drop(last);
        assert_eq!(answers.lock().waiting.len(), 1, "that of the other");
    }

    fn cut(guests: &[Guest]) -> Vec<bool> {
        guests.iter().map(|guest| guest.cut().is_cancelled()).collect()
    }
}
