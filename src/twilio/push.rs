//! What Twilio pushes: entries of the error log, in requests that it signs.
//!
//! Two forms: Event Streams posts a list of events as JSON, and signs the URL, whose query carries a hash of the
//! body; the Debugger's webhook posts a form, and signs the URL with all fields. Source:
//! <https://www.twilio.com/docs/usage/security>.
//! Invariant: nothing of a request is told before its signature has proven right, not even why it is refused
//! but for the kind of reason.

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

/// The parameter of the query that carries the hash of a body that is no form.
const BODY_HASH: &str = "bodySHA256";
/// Most fields of a form: the Debugger's webhook has seven.
const MAX_FIELDS: usize = 100;

/// The URL that Twilio was given to push to, as it signs it: with or without the port that its scheme implies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    text: String,
    signed_as: [String; 2],
}

/// Why a text is no URL to push to. Carries no text: what came may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPublicUrl {
    /// No URL at all, or none of HTTP.
    #[error("expected a URL such as `https://exporter.example.com/push/error-log`")]
    Syntax,
    /// A URL with credentials of its own.
    #[error("expected a URL without user and password")]
    Credentials,
    /// A URL with a query or a fragment.
    #[error("expected a URL without query and fragment")]
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

/// An account, and the secret that signs what Twilio pushes for it.
#[derive(Clone)]
pub struct Signer {
    account: AccountSid,
    sha1: hmac::Key,
    sha256: hmac::Key,
}

impl Signer {
    /// The account with its auth token, or with the secret of the shared key that signs instead.
    pub fn new(account: AccountSid, secret: &SecretString) -> Self {
        let secret = secret.expose_secret().as_bytes();
        Self {
            account,
            sha1: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret),
            sha256: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// The account.
    pub fn account(&self) -> AccountSid {
        self.account
    }

    /// Compares in constant time.
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

/// A request, as it came.
#[derive(Clone, Copy)]
pub struct PushRequest<'a> {
    /// The query of its URL, as it was sent.
    pub query: &'a str,
    /// The header `X-Twilio-Signature`.
    pub signature: Option<&'a str>,
    /// The header `X-Twilio-Webhooks-Signature-Settings`, by which a shared key names its algorithm.
    pub settings: Option<&'a str>,
    /// Its body.
    pub body: &'a [u8],
}

impl fmt::Debug for PushRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushRequest").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// What a request pushed.
#[derive(Debug)]
pub struct Pushed {
    /// Who signed it.
    pub signer: AccountSid,
    /// The entries that could be read.
    pub entries: Vec<LoggedError>,
    /// How many could not.
    pub rejected: u64,
}

label_enum! {
    /// Why a request is refused.
    pub enum Refusal {
        /// It has no signature.
        Unsigned = "unsigned",
        /// No account that is known has signed it, for this URL.
        WrongSignature = "wrong_signature",
        /// Its body is another than the one that was signed.
        WrongBody = "wrong_body",
        /// It was signed, and is neither a list of events nor the form of the Debugger.
        Unreadable = "unreadable",
    }
}

/// The signature of a request.
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

/// Takes a request apart, if one of these signed it for this URL.
///
/// # Errors
/// Why it is refused.
pub fn open(
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
    let signed = |signer: &Signer, fields: &str| {
        let texts = url.signed_as.iter().map(|url| format!("{url}{query}{fields}"));
        // Both are tried, so that the time tells nothing.
        texts.filter(|text| signer.has_signed(text.as_bytes(), &signature)).count() > 0
    };
    let Some((_, hash)) = hash else {
        let fields = fields(request.body).ok_or(Refusal::WrongSignature)?;
        let text = signed_text(&fields);
        // A form tells whose it is: other accounts can't have signed it.
        let claimed: Vec<AccountSid> = fields
            .iter()
            .filter(|(name, _)| name == "AccountSid" || name == "ParentAccountSid")
            .filter_map(|(_, sid)| AccountSid::parse(sid).ok())
            .take(2)
            .collect();
        let mut signers = signers.iter().filter(|signer| claimed.contains(&signer.account));
        let signer = signers.find(|signer| signed(signer, &text)).ok_or(Refusal::WrongSignature)?;
        let entry = decode_form(&fields).ok_or(Refusal::Unreadable)?;
        return Ok(Pushed { signer: signer.account, entries: vec![entry], rejected: 0 });
    };
    let signer = signers.iter().find(|signer| signed(signer, ""));
    let signer = signer.ok_or(Refusal::WrongSignature)?;
    if !is_hash_of(&hash, request.body) {
        return Err(Refusal::WrongBody);
    }
    let Entries { read, rejected } =
        decode_events(&text_of(request.body)).ok_or(Refusal::Unreadable)?;
    Ok(Pushed { signer: signer.account, entries: read, rejected })
}

/// The fields of a form; `None` if there are too many.
fn fields(body: &[u8]) -> Option<Vec<(String, String)>> {
    let fields = form_urlencoded::parse(body).take(MAX_FIELDS + 1);
    let fields: Vec<(String, String)> =
        fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    (fields.len() <= MAX_FIELDS).then_some(fields)
}

/// The fields as they are signed: names and values, sorted, each pair once, with nothing between them.
fn signed_text(fields: &[(String, String)]) -> String {
    let mut sorted: Vec<&(String, String)> = fields.iter().collect();
    sorted.sort();
    sorted.dedup();
    sorted.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect()
}

/// Whether a text is the SHA-256 of a body in hex.
fn is_hash_of(hash: &str, body: &[u8]) -> bool {
    let digest = digest::digest(&digest::SHA256, body);
    let expected: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // The hash is part of the signed URL, and not secret: no constant time is needed.
    hash.eq_ignore_ascii_case(&expected)
}

#[cfg(test)]
mod tests;
