//! Who may ask: basic authentication with bcrypt hashes.
//!
//! A hash takes tens of milliseconds on purpose, so that one is computed at a time, on a thread of its
//! own, and a password that was right is known by a keyed tag from then on. Whoever isn't known costs
//! the same time as whoever is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::prelude::*;
use ring::hmac;
use tokio::sync::Semaphore;

use super::Site;

/// How many right passwords are known: some for each user.
const MAX_KNOWN: usize = 64;
/// Longest credentials that are looked at: bcrypt takes 72 bytes.
const MAX_CREDENTIALS: usize = 1_024;

/// The users, and which credentials were right already.
#[derive(Clone)]
pub(super) struct Access(Arc<Inner>);

struct Inner {
    users: BTreeMap<String, String>,
    key: hmac::Key,
    known: Mutex<BTreeSet<Vec<u8>>>,
    turn: Arc<Semaphore>,
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
        })))
    }

    /// Whether a request comes from a user.
    async fn allows(&self, headers: &HeaderMap) -> bool {
        if self.0.users.is_empty() {
            return true;
        }
        let Some((name, password)) = credentials(headers) else { return false };
        let hash = self.0.users.get(&name).cloned();
        let covered = format!("{name}:{}:{password}", hash.as_deref().unwrap_or_default());
        let tag = hmac::sign(&self.0.key, covered.as_bytes()).as_ref().to_vec();
        if self.known().contains(&tag) {
            return true;
        }
        // Never closed. Who goes away meanwhile leaves the work behind, and the turn with it.
        let turn = Arc::clone(&self.0.turn).acquire_owned().await;
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.hash_of_somebody(&name));
        let verify = move || {
            let _turn = turn;
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
        }
        is_right
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

/// Turns away who may not ask.
pub(super) async fn check(State(site): State<Site>, request: Request, next: Next) -> Response {
    let access = site.web.current().access.clone();
    if access.allows(request.headers()).await {
        return next.run(request).await;
    }
    let challenge = HeaderValue::from_static("Basic");
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], "Unauthorized\n")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_user_is_let_in() {
        let hash = bcrypt::hash("right", 4).expect("a hash");
        let access =
            Access::new(BTreeMap::from([("prometheus".to_owned(), hash)])).expect("random");
        let allows = async |text: &str| {
            let mut headers = HeaderMap::new();
            let value = format!("Basic {}", BASE64_STANDARD.encode(text));
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            access.allows(&headers).await
        };
        for _ in 0..2 {
            assert!(allows("prometheus:right").await);
            for wrong in
                ["prometheus:wrong", "prometheus:", "nobody:right", "prometheus", ":right", ""]
            {
                assert!(!allows(wrong).await, "{wrong}");
            }
        }
        assert!(!access.allows(&HeaderMap::new()).await);
        assert_eq!(access.known().len(), 1, "only what was right is known");
        let open = Access::new(BTreeMap::new()).expect("random");
        assert!(open.allows(&HeaderMap::new()).await);
    }
}
