//! Error log entries that Twilio pushes in signed requests.
//!
//! There are two forms. Event Streams posts a list of events as JSON, and signs the URL, whose query contains
//! a hash of the body. The Debugger's webhook posts a form, and signs the URL together with all fields.
//! Source: <https://www.twilio.com/docs/usage/security>.
//!
//! Invariant: until its signature is verified, nothing about a request is revealed except the [`Refusal`].

use std::fmt;
use std::str::FromStr;

use base64::prelude::*;
use reqwest::Url;
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};

use crate::domain::words::error_log::LoggedError;
use crate::domain::words::label::label_enum;
use crate::domain::words::sid::AccountSid;

use super::wire::{Entries, decode_events, decode_form, text_of};

/// The query parameter with the hash of a body that isn't a form.
const BODY_HASH: &str = "bodySHA256";
/// The maximum number of a form's fields. The Debugger's webhook has seven.
const MAX_FIELDS: usize = 100;

/// The URL to which Twilio pushes. Twilio signs it with or without the port implied by the scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    text: String,
    signed_as: [String; 2],
}

/// Why a string isn't a valid URL for pushes. Doesn't contain the string, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPublicUrl {
    /// Not an HTTP or HTTPS URL.
    #[error("expected a URL such as `https://exporter.example.com/push/error-log`")]
    Syntax,
    /// A URL with a user name or password.
    #[error("expected a URL without a user name and password")]
    Credentials,
    /// A URL with a query or fragment.
    #[error("expected a URL without a query or fragment")]
    Query,
}

impl FromStr for PublicUrl {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| InvalidPublicUrl::Syntax)?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(InvalidPublicUrl::Syntax);
        };
        if !["http", "https"].contains(&url.scheme()) {
            return Err(InvalidPublicUrl::Syntax);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidPublicUrl::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidPublicUrl::Query);
        }
        let (scheme, path) = (url.scheme(), url.path());
        let signed_as =
            [format!("{scheme}://{host}{path}"), format!("{scheme}://{host}:{port}{path}")];
        Ok(Self { text: text.to_owned(), signed_as })
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An account, and the secret with which Twilio signs its requests for it.
#[derive(Clone)]
pub struct Signer {
    account: AccountSid,
    sha1: hmac::Key,
    sha256: hmac::Key,
}

impl Signer {
    /// Creates a signer from the account's auth token, or from the secret of the shared key used instead.
    pub fn new(account: AccountSid, secret: &SecretString) -> Self {
        let secret = secret.expose_secret().as_bytes();
        Self {
            account,
            sha1: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret),
            sha256: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// Returns the account.
    pub fn account(&self) -> AccountSid {
        self.account
    }

    /// Whether the signature is valid for the text. Compares in constant time.
    fn has_signed(&self, text: &[u8], signature: &Signature) -> bool {
        let key = if signature.is_sha256 { &self.sha256 } else { &self.sha1 };
        hmac::verify(key, text, &signature.tag).is_ok()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("account", &self.account).finish_non_exhaustive()
    }
}

/// A request as received.
#[derive(Clone, Copy)]
pub struct PushRequest<'a> {
    /// The URL's query, without decoding.
    pub query: &'a str,
    /// The header `X-Twilio-Signature`.
    pub signature: Option<&'a str>,
    /// The header `X-Twilio-Webhooks-Signature-Settings`, which names the algorithm of a shared key.
    pub settings: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

impl fmt::Debug for PushRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushRequest").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// The contents of a verified request.
#[derive(Debug)]
pub struct Pushed {
    /// The account whose secret signed it.
    pub signer: AccountSid,
    /// The decoded entries.
    pub entries: Vec<LoggedError>,
    /// The number of entries that couldn't be decoded.
    pub rejected: u64,
}

label_enum! {
    /// Why a request was refused.
    pub enum Refusal {
        /// It has no readable signature.
        Unsigned = "unsigned",
        /// No known account has signed it for this URL.
        WrongSignature = "wrong_signature",
        /// Its body isn't the one that was signed.
        WrongBody = "wrong_body",
        /// Its signature is valid, but it is neither a list of events nor the Debugger's form.
        Unreadable = "unreadable",
    }
}

/// A request's signature.
struct Signature {
    tag: Vec<u8>,
    is_sha256: bool,
}

impl Signature {
    fn from_request(request: PushRequest<'_>) -> Option<Self> {
        let tag = BASE64_STANDARD.decode(request.signature?.trim()).ok()?;
        let settings = request.settings.unwrap_or_default().split(',');
        let algorithm = settings
            .filter_map(|setting| setting.split_once('='))
            .find(|(name, _)| name.trim() == "algorithm")
            .map(|(_, value)| value.trim());
        let is_sha256 = algorithm.is_some_and(|name| name.eq_ignore_ascii_case("HMAC_SHA256"));
        Some(Self { tag, is_sha256 })
    }
}

/// Verifies that one of the signers signed the request for this URL, and decodes it.
///
/// # Errors
/// Returns a [`Refusal`] if the request isn't signed correctly or can't be decoded.
pub fn verify(
    request: PushRequest<'_>,
    url: &PublicUrl,
    signers: &[Signer],
) -> Result<Pushed, Refusal> {
    let signature = Signature::from_request(request).ok_or(Refusal::Unsigned)?;
    let hash = form_urlencoded::parse(request.query.as_bytes()).find(|(name, _)| name == BODY_HASH);
    let mut query = String::new();
    if !request.query.is_empty() {
        query = format!("?{}", request.query);
    }
    let is_signed_by = |signer: &Signer, fields: &str| {
        let texts = url.signed_as.iter().map(|url| format!("{url}{query}{fields}"));
        // Tries both, so that the timing reveals nothing.
        texts.filter(|text| signer.has_signed(text.as_bytes(), &signature)).count() > 0
    };
    let Some((_, hash)) = hash else {
        let fields = fields(request.body).ok_or(Refusal::WrongSignature)?;
        let text = signed_text(&fields);
        // A form names its account and parent account: try only their secrets.
        let claimed: Vec<AccountSid> = fields
            .iter()
            .filter(|(name, _)| name == "AccountSid" || name == "ParentAccountSid")
            .filter_map(|(_, sid)| AccountSid::parse(sid).ok())
            .take(2)
            .collect();
        let mut signers = signers.iter().filter(|signer| claimed.contains(&signer.account));
        let signer =
            signers.find(|signer| is_signed_by(signer, &text)).ok_or(Refusal::WrongSignature)?;
        let entry = decode_form(&fields).ok_or(Refusal::Unreadable)?;
        return Ok(Pushed { signer: signer.account, entries: vec![entry], rejected: 0 });
    };
    let signer = signers.iter().find(|signer| is_signed_by(signer, ""));
    let signer = signer.ok_or(Refusal::WrongSignature)?;
    if !is_hash_of(&hash, request.body) {
        return Err(Refusal::WrongBody);
    }
    let Entries { decoded, rejected } =
        decode_events(&text_of(request.body)).ok_or(Refusal::Unreadable)?;
    Ok(Pushed { signer: signer.account, entries: decoded, rejected })
}

/// Parses a form's fields. Returns `None` if there are too many.
fn fields(body: &[u8]) -> Option<Vec<(String, String)>> {
    let fields = form_urlencoded::parse(body).take(MAX_FIELDS + 1);
    let fields: Vec<(String, String)> =
        fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    (fields.len() <= MAX_FIELDS).then_some(fields)
}

/// Returns the fields as they are signed: the sorted names and values without duplicates, concatenated.
fn signed_text(fields: &[(String, String)]) -> String {
    let mut sorted: Vec<&(String, String)> = fields.iter().collect();
    sorted.sort();
    sorted.dedup();
    sorted.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect()
}

/// Whether a string is the SHA-256 hash of the body in hex.
fn is_hash_of(hash: &str, body: &[u8]) -> bool {
    let digest = digest::digest(&digest::SHA256, body);
    let expected: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // The hash is in the signed URL and isn't secret, so this comparison needn't take constant time.
    hash.eq_ignore_ascii_case(&expected)
}

#[cfg(test)]
mod tests;
