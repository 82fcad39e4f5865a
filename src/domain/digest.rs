//! The identity of a Call Event: a keyed digest of the few things about it that stay the same.
//!
//! Covers neither bodies nor parameter values other than the call status and the sequence number:
//! Twilio may redact those or add to them, and an unstable digest would count an event twice.
//! Collisions are harmless, because a call's digests are counted as a multiset.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::call_event::{CallEvent, Request, Response};
use super::webhook_url::WebhookUrl;

/// The version of what a digest covers. A call is finished with the version it began with, so that
/// a program with a newer one counts nothing of it again. A new version needs a new version of the
/// schema, too: older programs must refuse the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestVersion {
    /// Method, scheme, host, path, names of parameters, call status, sequence number; of the answer
    /// its time in seconds, code and duration.
    One,
    /// What tests take for the next one.
    #[cfg(test)]
    Two,
}

impl DigestVersion {
    /// With which calls begin.
    pub const CURRENT: Self = Self::One;

    /// The number that is stored.
    pub const fn number(self) -> u8 {
        match self {
            Self::One => 1,
            #[cfg(test)]
            Self::Two => 2,
        }
    }

    /// The version with a number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::One),
            #[cfg(test)]
            2 => Some(Self::Two),
            _ => None,
        }
    }
}

/// The key of the digests: random, made with the store and kept in it, so that a digest that leaks
/// alone says nothing about what it covers.
#[derive(Clone, Copy)]
pub struct DigestKey([u8; 16]);

impl DigestKey {
    /// Takes 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

/// A digest: 64 bits of SipHash-2-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub u64);

/// What identifies an item of a Call Events page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A Call Event with its answer.
    Answered {
        /// Over request and answer.
        whole: Digest,
        /// Over the request alone.
        request: Digest,
    },
    /// A Call Event whose answer is missing: it may be filled in later.
    Unanswered {
        /// Over the request alone.
        request: Digest,
    },
    /// An item that is no Call Event, by its bytes.
    Rejected(Digest),
}

/// How the items of a call are told apart.
#[derive(Clone, Copy, Debug)]
pub struct Digests {
    key: DigestKey,
    version: DigestVersion,
}

impl Digests {
    /// The digests of a call: with the store's key, and the version that the call began with.
    pub const fn new(key: DigestKey, version: DigestVersion) -> Self {
        Self { key, version }
    }

    /// The identity of a Call Event.
    pub fn identify(self, event: &CallEvent) -> Identity {
        let mut hasher = self.hasher(b"request");
        write_request(&mut hasher, &event.request);
        let request = Digest(hasher.finish());
        match &event.response {
            Some(response) if response.code.is_some() => {
                write_response(&mut hasher, response);
                Identity::Answered { whole: Digest(hasher.finish()), request }
            }
            Some(_) | None => Identity::Unanswered { request },
        }
    }

    /// The identity of an item that could not be read.
    pub fn identify_bytes(self, bytes: &[u8]) -> Identity {
        let mut hasher = self.hasher(b"bytes");
        write(&mut hasher, bytes);
        Identity::Rejected(Digest(hasher.finish()))
    }

    fn hasher(self, domain: &[u8]) -> SipHasher24 {
        let mut hasher = SipHasher24::new_with_key(&self.key.0);
        match self.version {
            DigestVersion::One => {}
            #[cfg(test)]
            DigestVersion::Two => write(&mut hasher, b"two"),
        }
        write(&mut hasher, domain);
        hasher
    }
}

fn write_request(hasher: &mut SipHasher24, request: &Request) {
    write(hasher, request.method.as_bytes());
    match WebhookUrl::parse(&request.url) {
        Some(url) => {
            for part in [&url.scheme, &url.host, &url.path] {
                write(hasher, part.as_bytes());
            }
        }
        None => write(hasher, request.url.as_bytes()),
    }
    write_count(hasher, request.parameters.names().len());
    for name in request.parameters.names() {
        write(hasher, name.as_bytes());
    }
    for value in [&request.parameters.call_status, &request.parameters.sequence_number] {
        write(hasher, value.as_deref().unwrap_or_default().as_bytes());
    }
}

fn write_response(hasher: &mut SipHasher24, response: &Response) {
    hasher.write_i64(response.created_at.map_or(i64::MIN, jiff::Timestamp::as_second));
    hasher.write_i64(response.code.unwrap_or(i64::MIN));
    hasher.write_u64(response.duration_ms.unwrap_or(u64::MAX));
}

/// Writes a length before the bytes, so that two fields never run into each other.
fn write(hasher: &mut SipHasher24, bytes: &[u8]) {
    write_count(hasher, bytes.len());
    hasher.write(bytes);
}

/// Writes a count in 64 bits, so that a store moved to another machine keeps its identities.
fn write_count(hasher: &mut SipHasher24, count: usize) {
    hasher.write_u64(u64::try_from(count).unwrap_or(u64::MAX));
}
