//! Basic authentication with bcrypt hashes.
//!
//! Verifying a password takes tens of milliseconds by design. Passwords are verified one at a time, on a thread for
//! blocking work, and verified ones are remembered by a keyed tag. Rejecting an unknown user takes as long as
//! rejecting a known one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use base64::prelude::*;
use ring::hmac;
use tokio::sync::Semaphore;

/// The maximum number of remembered passwords.
const MAX_VERIFIED: usize = 64;
/// The maximum length of encoded credentials; bcrypt uses 72 bytes.
const MAX_CREDENTIALS: usize = 1_024;

/// The users with their hashes, and the verified passwords.
#[derive(Clone)]
pub(super) struct Users(Arc<Inner>);

struct Inner {
    hashes: BTreeMap<String, String>,
    key: hmac::Key,
    verified: Mutex<BTreeSet<Vec<u8>>>,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("count", &self.0.hashes.len()).finish_non_exhaustive()
    }
}

impl Users {
    /// Creates users from names and bcrypt hashes. Without users, all requests are allowed.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let (verified, permits) = (Mutex::default(), Arc::new(Semaphore::new(1)));
        Ok(Self(Arc::new(Inner { hashes, key, verified, permits })))
    }

    /// Whether a request has the name and password of a user (RFC 7617).
    pub(super) async fn allows(&self, headers: &HeaderMap) -> bool {
        if self.0.hashes.is_empty() {
            return true;
        }
        let Some((name, password)) = credentials(headers) else { return false };
        let known = self.0.hashes.get(&name);
        let tag = format!("{name}:{}:{password}", known.map_or("", String::as_str));
        let tag = hmac::sign(&self.0.key, tag.as_bytes()).as_ref().to_vec();
        if self.0.is_verified(&tag) {
            return true;
        }
        // An unknown user's password is compared with another user's hash, to take as long.
        let is_user = known.is_some();
        let Some(hash) = known.or_else(|| self.0.hashes.values().next()).cloned() else {
            return false;
        };
        // The semaphore is fair, so passwords are verified in order. It is never closed.
        let permit = Arc::clone(&self.0.permits).acquire_owned().await;
        let users = Arc::clone(&self.0);
        let verify = move || {
            // Keep the permit until the work is done, even if the client disconnects.
            let _permit = permit;
            let is_valid = users.is_verified(&tag)
                || (bcrypt::verify(&password, &hash).unwrap_or(false) && is_user);
            if is_valid {
                users.remember(tag);
            }
            is_valid
        };
        tokio::task::spawn_blocking(verify).await.unwrap_or(false)
    }
}

impl Inner {
    fn is_verified(&self, tag: &[u8]) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(tag)
    }

    fn remember(&self, tag: Vec<u8>) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
        }
        verified.insert(tag);
    }
}

/// Returns the name and password of `Authorization: Basic` (RFC 7617).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn allows_only_users_with_the_right_password() {
        let hash = bcrypt::hash("right", 4).expect("a hash");
        let users = Users::new(BTreeMap::from([("prometheus".to_owned(), hash)])).expect("random");
        let allows = async |text: &str| {
            let value = format!("Basic {}", BASE64_STANDARD.encode(text));
            let value = value.parse().expect("a header");
            users.allows(&HeaderMap::from_iter([(header::AUTHORIZATION, value)])).await
        };
        for _ in 0..2 {
            assert!(allows("prometheus:right").await);
            for wrong in
                ["prometheus:wrong", "prometheus:", "nobody:right", "prometheus", ":right", ""]
            {
                assert!(!allows(wrong).await, "{wrong}");
            }
        }
        assert!(!users.allows(&HeaderMap::new()).await);
        let verified = users.0.verified.lock().expect("no panic").len();
        assert_eq!(verified, 1, "only the right password may be remembered");
        let open = Users::new(BTreeMap::new()).expect("random");
        assert!(open.allows(&HeaderMap::new()).await);
    }
}
