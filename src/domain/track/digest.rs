//! The identity of a Call Event: a keyed digest of the parts that don't change.
//!
//! Bodies aren't covered, nor are parameter values other than the call status and the sequence number:
//! Twilio may redact or extend them, and an unstable digest would count an event twice.
//! Collisions are harmless because a call's digests are counted as a multiset.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::domain::words::call_event::{CallEvent, NO_DURATION_MS, Request, Response};
use crate::domain::words::webhook_url::WebhookUrl;

/// The version of a digest's definition. A call keeps the version it started with, so a release with a newer
/// version doesn't count its events again. A new version also requires a new schema version: older releases
/// must refuse the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestVersion(u8);

impl DigestVersion {
    /// Covers the method, scheme, host, path, parameter names, call status and sequence number of the request,
    /// and the time in seconds, code and duration of the response.
    const FIRST: Self = Self(1);
    /// The version for new calls.
    pub const CURRENT: Self = Self::FIRST;

    /// The number stored in the database.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns the version with this number, or `None` if it comes from a newer release.
    pub const fn from_number(number: u8) -> Option<Self> {
        if number <= Self::CURRENT.0 { Some(Self(number)) } else { None }
    }
}

/// The key of the digests: random, generated with the store and kept in it, so that a leaked digest alone
/// reveals nothing about its input.
#[derive(Clone, Copy)]
pub struct DigestKey([u8; 16]);

impl DigestKey {
    /// Creates a key from 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

/// A 64-bit SipHash-2-4 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub u64);

/// The identity of an item on a Call Events page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A Call Event with a response.
    Answered {
        /// The digest of the request and the response.
        whole: Digest,
        /// Over the request alone.
        request: Digest,
    },
    /// A Call Event without a response, which may be filled in later.
    Unanswered {
        /// The digest of the request alone.
        request: Digest,
    },
    /// An item that isn't a valid Call Event, identified by its bytes.
    Rejected(Digest),
}

/// Computes the identities of a call's items.
#[derive(Clone, Copy, Debug)]
pub struct Digests {
    key: DigestKey,
    version: DigestVersion,
}

impl Digests {
    /// Uses the store's key and the version that the call started with.
    pub const fn new(key: DigestKey, version: DigestVersion) -> Self {
        Self { key, version }
    }

    /// Returns the identity of a Call Event.
    pub fn identify(self, event: &CallEvent) -> Identity {
        let mut hasher = self.hasher(b"request");
        // One write is several times faster than hashing forty short pieces.
        let mut covered = Vec::with_capacity(USUAL_BYTES);
        write_request(&mut covered, &event.request);
        hasher.write(&covered);
        let request = Digest(hasher.finish());
        match &event.response {
            Some(response) if response.code.is_some() => {
                write_response(&mut hasher, response);
                Identity::Answered { whole: Digest(hasher.finish()), request }
            }
            Some(_) | None => Identity::Unanswered { request },
        }
    }

    /// Returns the identity of an item that couldn't be parsed.
    pub fn identify_bytes(self, bytes: &[u8]) -> Identity {
        let mut hasher = self.hasher(b"bytes");
        hasher.write(&length(bytes.len()));
        hasher.write(bytes);
        Identity::Rejected(Digest(hasher.finish()))
    }

    fn hasher(self, domain: &[u8]) -> SipHasher24 {
        let mut hasher = SipHasher24::new_with_key(&self.key.0);
        let mut covered = Vec::new();
        // Separates the digests of different versions.
        if self.version != DigestVersion::FIRST {
            write(&mut covered, &[self.version.0]);
        }
        write(&mut covered, domain);
        hasher.write(&covered);
        hasher
    }
}

/// The initial capacity for a request's covered bytes; enough for most requests.
const USUAL_BYTES: usize = 1_024;

fn write_request(covered: &mut Vec<u8>, request: &Request) {
    write(covered, request.method.as_bytes());
    match WebhookUrl::parse(&request.url) {
        Some(url) => {
            for part in [&url.scheme, &url.host, &url.path] {
                write(covered, part.as_bytes());
            }
        }
        None => write(covered, request.url.as_bytes()),
    }
    covered.extend(length(request.parameters.names().len()));
    for name in request.parameters.names() {
        write(covered, name);
    }
    for value in [&request.parameters.call_status, &request.parameters.sequence_number] {
        write(covered, value.as_deref().unwrap_or_default().as_bytes());
    }
}

fn write_response(hasher: &mut SipHasher24, response: &Response) {
    hasher.write_i64(response.created_at.map_or(i64::MIN, jiff::Timestamp::as_second));
    hasher.write_i64(response.code.unwrap_or(i64::MIN));
    hasher.write_u64(response.duration_ms.unwrap_or(NO_DURATION_MS));
}

/// Writes the length before the bytes, so adjacent fields can't be confused.
fn write(covered: &mut Vec<u8>, bytes: &[u8]) {
    covered.extend(length(bytes.len()));
    covered.extend_from_slice(bytes);
}

/// Encodes a length as 64-bit little-endian, so that identities stay valid when the store moves to another
/// machine.
fn length(of: usize) -> [u8; 8] {
    u64::try_from(of).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::words::call_event::Body;
    use crate::domain::words::parameters::Parameters;

    #[test]
    fn the_digests_of_a_version_never_change() {
        // Stores hold digests from earlier releases: different values would count calls twice.
        let event = |url: &str, code| CallEvent {
            request: Request {
                method: "POST".to_owned(),
                url: url.to_owned(),
                parameters: Parameters::collect(
                    ["CallSid", "call_status", "SequenceNumber", "Digits", "Straße_X"]
                        .map(|name| (name.to_owned(), name)),
                    |name| Some(name.to_lowercase()),
                ),
            },
            response: Some(Response {
                code,
                duration_ms: Some(143),
                content_type: Some("text/xml".to_owned()),
                body: Body::Absent,
                created_at: jiff::Timestamp::from_second(1_700_000_000).ok(),
            }),
        };
        let digests = Digests::new(DigestKey::new(*b"0123456789abcdef"), DigestVersion::FIRST);
        let found = [
            digests.identify(&event("https://user@IVR.example.com/menu;x=1?lang=en", Some(200))),
            digests.identify(&event("no url", None)),
            digests.identify_bytes(b"{}"),
        ];
        let expected = [
            Identity::Answered {
                whole: Digest(17_402_574_276_775_893_029),
                request: Digest(4_681_619_847_156_475_216),
            },
            Identity::Unanswered { request: Digest(16_800_541_639_636_752_922) },
            Identity::Rejected(Digest(12_274_692_045_634_995_739)),
        ];
        assert_eq!(found, expected);
    }
}
