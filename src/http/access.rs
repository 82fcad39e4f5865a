//! Who may ask: basic authentication with bcrypt hashes.
//!
//! A hash takes tens of milliseconds on purpose, so that one is computed at a time, on a thread of its
//! own, and a password that was right is known by a keyed tag from then on. An unknown name costs the
//! same time as a known one.
//!
//! Invariant: a right password is never refused for want of time. Every request waits for its turn;
//! addresses take turns, and so do the requests of an address, so that guesses hold up a scraper at
//! another address by one hash, and one at their own by at most one for each open connection.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::prelude::*;
use ring::hmac;
use tokio::sync::Semaphore;

use super::Site;
use super::server::Guest;

/// How many right passwords are known: some for each user.
const MAX_KNOWN: usize = 64;
/// Longest credentials that are looked at: bcrypt takes 72 bytes.
const MAX_CREDENTIALS: usize = 1_024;

/// Where a request comes from that came by no connection.
const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// The users, and which credentials were right already.
#[derive(Clone)]
pub(super) struct Access(Arc<Inner>);

struct Inner {
    users: BTreeMap<String, String>,
    key: hmac::Key,
    known: Mutex<BTreeSet<Vec<u8>>>,
    turn: Arc<Semaphore>,
    /// Of each address from which requests wait, whose turn it is there.
    turns: Mutex<BTreeMap<IpAddr, Weak<Semaphore>>>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// It comes from a user.
    Allowed,
    /// It doesn't.
    Refused,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("users", &self.0.users.len()).finish_non_exhaustive()
    }
}

impl Access {
    /// Lets these users in, or everybody where there are none.
    pub(super) fn new(users: BTreeMap<String, String>) -> std::io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(std::io::Error::other)?;
        Ok(Self(Arc::new(Inner {
            users,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            known: Mutex::new(BTreeSet::new()),
            turn: Arc::new(Semaphore::new(1)),
            turns: Mutex::default(),
        })))
    }

    /// Whether a request comes from a user.
    async fn decide(&self, headers: &HeaderMap, peer: IpAddr) -> Decision {
        if self.0.users.is_empty() {
            return Decision::Allowed;
        }
        let Some((name, password)) = credentials(headers) else { return Decision::Refused };
        let hash = self.0.users.get(&name).cloned();
        let covered = format!("{name}:{}:{password}", hash.as_deref().unwrap_or_default());
        let tag = hmac::sign(&self.0.key, covered.as_bytes()).as_ref().to_vec();
        if self.known().contains(&tag) {
            return Decision::Allowed;
        }
        // Neither is ever closed, and both are first come, first served. A client that goes away gives
        // up its turn, unless its hash is being computed: that keeps both turns to its end.
        let turn_there = self.0.turn_of(peer).acquire_owned().await;
        let turn = Arc::clone(&self.0.turn).acquire_owned().await;
        if self.known().contains(&tag) {
            // Another request had the same password.
            return Decision::Allowed;
        }
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.hash_of_somebody(&name));
        let verify = move || {
            let _turns = (turn, turn_there);
            bcrypt::verify(password, &hash)
        };
        let verified = tokio::task::spawn_blocking(verify).await;
        let is_right = matches!(verified, Ok(Ok(true))) && is_known;
        if is_right {
            let mut known = self.known();
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(tag);
            Decision::Allowed
        } else {
            Decision::Refused
        }
    }

    /// A hash for a name that nobody has: always the same of those that there are, so that it takes as
    /// long as somebody's.
    fn hash_of_somebody(&self, name: &str) -> String {
        let tag = hmac::sign(&self.0.key, name.as_bytes());
        let at = tag.as_ref().first().map_or(0, |&byte| usize::from(byte) % self.0.users.len());
        self.0.users.values().nth(at).cloned().unwrap_or_default()
    }

    /// The users, and their hashes.
    pub(super) fn users(&self) -> &BTreeMap<String, String> {
        &self.0.users
    }

    /// Whether it lets these users in, and no others.
    pub(super) fn is_for(&self, users: &BTreeMap<String, String>) -> bool {
        self.0.users == *users
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whose turn it is at an address. Addresses from which nothing waits are forgotten.
    fn turn_of(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&peer).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Semaphore::new(1));
        turns.insert(peer, Arc::downgrade(&turn));
        turn
    }
}

/// Name and password of `Authorization: Basic` (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > MAX_CREDENTIALS {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Where a guess comes from: a host of IPv6 has a whole network of addresses.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & u128::MAX << 64).into(),
    }
}

/// Turns away who may not ask.
pub(super) async fn check(State(site): State<Site>, request: Request, next: Next) -> Response {
    let access = site.web.current().access.clone();
    let guest = request.extensions().get::<Guest>().cloned();
    let peer = guest.as_ref().map_or(NOBODY, |guest| network(guest.peer()));
    if let Some(guest) = &guest {
        guest.is_asking();
    }
    match access.decide(request.headers(), peer).await {
        Decision::Allowed => next.run(request).await,
        Decision::Refused => {
            let challenge = HeaderValue::from_static("Basic");
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], "Unauthorized\n")
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_user_is_let_in() {
        let access = prometheus();
        let is_allowed = async |text: &str| {
            access.decide(&authorization(text), NOBODY).await == Decision::Allowed
        };
        for _ in 0..2 {
            assert!(is_allowed("prometheus:right").await);
            for wrong in
                ["prometheus:wrong", "prometheus:", "nobody:right", "prometheus", ":right", ""]
            {
                assert!(!is_allowed(wrong).await, "{wrong}");
            }
        }
        assert_eq!(access.decide(&HeaderMap::new(), NOBODY).await, Decision::Refused);
        assert_eq!(access.known().len(), 1, "only what was right is known");
        let open = Access::new(BTreeMap::new()).expect("random");
        assert_eq!(open.decide(&HeaderMap::new(), NOBODY).await, Decision::Allowed);
    }

    #[tokio::test]
    async fn a_right_password_gets_through_among_guesses_from_its_own_address_and_others() {
        const GUESSES: usize = 40;
        let access = prometheus();
        let busy = Arc::clone(&access.0.turn).acquire_owned().await.expect("never closed");
        let [guesser, scraper] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let ask = |text: &str, peer: IpAddr| {
            let (access, headers) = (access.clone(), authorization(text));
            tokio::spawn(async move { access.decide(&headers, peer).await })
        };
        let guesses: Vec<_> =
            (0..GUESSES).map(|guess| ask(&format!("prometheus:{guess}"), guesser)).collect();
        tokio::task::yield_now().await;
        let beside_them = ask("reader:right", guesser);
        let elsewhere = ask("prometheus:right", scraper);
        tokio::task::yield_now().await;
        drop(busy);
        assert_eq!(elsewhere.await.expect("no panic"), Decision::Allowed);
        let finished = guesses.iter().filter(|guess| guess.is_finished()).count();
        assert!(finished <= 2, "{finished} guesses came before another address");
        assert_eq!(beside_them.await.expect("no panic"), Decision::Allowed);
        for guess in guesses {
            assert_eq!(guess.await.expect("no panic"), Decision::Refused);
        }
        // A password that was right once waits for nothing.
        let _busy = Arc::clone(&access.0.turn).acquire_owned().await.expect("never closed");
        assert_eq!(ask("prometheus:right", guesser).await.expect("no panic"), Decision::Allowed);
    }

    #[tokio::test]
    async fn addresses_from_which_nothing_waits_are_forgotten() {
        let access = prometheus();
        for last in 0..100 {
            let peer = IpAddr::from([10, 0, 0, last]);
            assert_eq!(
                access.decide(&authorization("prometheus:wrong"), peer).await,
                Decision::Refused
            );
        }
        assert!(access.0.turns.lock().expect("no panic").len() <= 2);
    }

    #[test]
    fn a_host_of_ipv6_is_one_however_many_addresses_it_has() {
        for (peer, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(network(parse(peer)), parse(expected));
        }
    }

    fn prometheus() -> Access {
        let hash = bcrypt::hash("right", 4).expect("a hash");
        let users = ["prometheus", "reader"].map(|name| (name.to_owned(), hash.clone()));
        Access::new(BTreeMap::from(users)).expect("random")
    }

    fn authorization(text: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(text));
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("a header"))])
    }
}
