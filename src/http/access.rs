//! Who may ask: basic authentication with bcrypt hashes.
//!
//! A hash takes tens of milliseconds on purpose, so that one is computed at a time, on a thread of its
//! own, and a password that was right is known by a keyed tag from then on. An unknown user costs the
//! same time as a known one. Passwords wait in a [`Line`], which no client can fill.

mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::prelude::*;
use ring::hmac;
use tokio::sync::oneshot;

use super::Site;
use super::server::Guest;
use line::Line;

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
    line: Mutex<Line<Guess>>,
}

/// A password that has to be found right or wrong.
struct Guess {
    tag: Vec<u8>,
    /// The hash of its user, or another one.
    hash: String,
    is_user: bool,
    password: String,
    /// Is told whether it is right, unless the client has gone.
    told: oneshot::Sender<bool>,
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
            line: Mutex::default(),
        })))
    }

    /// Whether a request comes from a user.
    async fn allows(&self, headers: &HeaderMap, peer: IpAddr) -> bool {
        if self.0.users.is_empty() {
            return true;
        }
        let Some((name, password)) = credentials(headers) else { return false };
        let hash = self.0.users.get(&name).cloned();
        let covered = format!("{name}:{}:{password}", hash.as_deref().unwrap_or_default());
        let tag = hmac::sign(&self.0.key, covered.as_bytes()).as_ref().to_vec();
        if self.0.known().contains(&tag) {
            return true;
        }
        let is_user = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.hash_of_somebody(&name));
        let (told, verdict) = oneshot::channel();
        self.verify(peer, Guess { tag, hash, is_user, password, told });
        verdict.await.unwrap_or(false)
    }

    /// Lets a password wait for its turn, which comes even if its client doesn't wait that long.
    fn verify(&self, peer: IpAddr, guess: Guess) {
        let is_first = self.0.line().join(peer, guess, |guess| guess.told.is_closed());
        if is_first {
            let inner = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || inner.verify_all());
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
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> MutexGuard<'_, Line<Guess>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out about each password that waits, one after another.
    fn verify_all(&self) {
        while let Some(guess) = self.next() {
            // Its client may have come again in the meantime.
            let is_known = self.known().contains(&guess.tag);
            let is_right = is_known || self.is_right(&guess);
            // It may have gone.
            let _gone = guess.told.send(is_right);
        }
    }

    fn next(&self) -> Option<Guess> {
        self.line().next()
    }

    fn is_right(&self, guess: &Guess) -> bool {
        // A panic would leave the line without anything that serves it.
        let (password, hash) = (&guess.password, &guess.hash);
        let verified = catch_unwind(|| bcrypt::verify(password, hash));
        let is_right = matches!(verified, Ok(Ok(true))) && guess.is_user;
        if is_right {
            let mut known = self.known();
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(guess.tag.clone());
        }
        is_right
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
    if access.allows(request.headers(), peer).await {
        return next.run(request).await;
    }
    let challenge = HeaderValue::from_static("Basic");
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], "Unauthorized\n")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::super::until;
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_user_is_let_in() {
        let access = prometheus();
        let is_allowed = async |text: &str| access.allows(&authorization(text), NOBODY).await;
        for _ in 0..2 {
            assert!(is_allowed("prometheus:right").await);
            for wrong in
                ["prometheus:wrong", "prometheus:", "nobody:right", "prometheus", ":right", ""]
            {
                assert!(!is_allowed(wrong).await, "{wrong}");
            }
        }
        assert!(!access.allows(&HeaderMap::new(), NOBODY).await);
        assert_eq!(access.0.known().len(), 1, "only what was right is known");
        let open = Access::new(BTreeMap::new()).expect("random");
        assert!(open.allows(&HeaderMap::new(), NOBODY).await);
    }

    #[tokio::test]
    async fn a_right_password_is_known_even_if_its_client_did_not_wait_for_its_turn() {
        let access = prometheus();
        let ask = |text: String| {
            let access = access.clone();
            tokio::spawn(async move { access.allows(&authorization(&text), NOBODY).await })
        };
        let guesses: Vec<_> = (0..100).map(|guess| ask(format!("prometheus:{guess}"))).collect();
        tokio::task::yield_now().await;
        let right = authorization("prometheus:right");
        let impatient = access.allows(&right, NOBODY);
        let gone = tokio::time::timeout(std::time::Duration::ZERO, impatient).await;
        assert!(gone.is_err(), "it waits behind the others");
        until(|| access.0.known().len() == 1).await;
        assert!(access.allows(&right, NOBODY).await);
        for guess in guesses {
            assert!(!guess.await.expect("no panic"));
        }
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
        Access::new(BTreeMap::from([("prometheus".to_owned(), hash)])).expect("random")
    }

    fn authorization(text: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(text));
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("a header"))])
    }
}
