//! Reads an account: its SID, its credentials and the URL of its API.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};
use secrecy::{ExposeSecret, SecretString};

use crate::domain::words::sid::{AccountSid, ApiKeySid, InvalidSid};
use crate::domain::words::subaccounts::SubaccountFilter;
use crate::twilio::{BaseUrl, Credentials, Proxy};

use super::environment::{Environment, bare};
use super::reader::{Reader, Section};
use super::secret::SecretSource;
use super::shape;
use super::show;

/// The maximum length of an account's name, in bytes: it becomes a label.
const MAX_NAME_BYTES: usize = 256;
/// The maximum length of a region or edge, in bytes: Twilio's have at most 12 letters, and an auth token
/// pasted by mistake has 32.
const MAX_REGION_BYTES: usize = 20;
/// The length of a SID: `AC` and 32 hex digits.
const SID_BYTES: usize = 34;
/// Describes what [`is_name`] accepts.
const EXPECTED_NAME: &str =
    "a name of 1 to 256 bytes without control characters, and no other account's SID";
/// The default edges of regions.
const DEFAULT_EDGES: [(&str, &str); 3] = [("ie1", "dublin"), ("au1", "sydney"), ("jp1", "tokyo")];
/// The region of `api.twilio.com`.
pub(super) const DEFAULT_REGION: &str = "us1";

/// An account to poll.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountConfig {
    /// The value of the label `account`: the account's name, or its SID if it has none.
    pub label: String,
    /// The Account SID.
    pub account_sid: AccountSid,
    /// The credentials for Twilio's API.
    pub credentials: Credentials,
    /// The base URL of its API.
    pub base_url: BaseUrl,
    /// The region that stores its calls, part of its identity in the store.
    pub region: String,
    /// Whether subaccounts are discovered.
    pub discovers: bool,
    /// Which subaccounts are polled.
    pub subaccounts: SubaccountFilter,
    /// The secret with which Twilio signs the error log entries that it pushes, if known.
    pub push_secret: Option<PushSecret>,
}

/// The secret that signs pushes: an auth token, or a shared key used instead.
#[derive(Clone, Debug)]
pub struct PushSecret(pub SecretString);

impl PartialEq for PushSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl AccountConfig {
    /// Which subaccounts are polled, if they are discovered.
    pub fn subaccount_filter(&self) -> Option<&SubaccountFilter> {
        self.discovers.then_some(&self.subaccounts)
    }
}

/// Tells the subaccount filters which other accounts are configured.
pub(super) fn set_other_accounts(accounts: &mut [AccountConfig]) {
    let all: Vec<(AccountSid, String)> =
        accounts.iter().map(|account| (account.account_sid, account.region.clone())).collect();
    for AccountConfig { account_sid, region, subaccounts, .. } in
        accounts.iter_mut().filter(|account| account.discovers)
    {
        // The same subaccount in another region is a different account, and needs a different label.
        let is_first =
            all.iter().find(|(sid, _)| sid == account_sid).is_none_or(|(_, other)| other == region);
        subaccounts.region = (!is_first).then(|| region.clone());
        let same_region = all.iter().filter(|(_, other)| other == region);
        subaccounts.configured = same_region.map(|(sid, _)| *sid).collect();
    }
}

/// Reads one element of `accounts:`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    index: usize,
    value: Value,
    environment: &Environment,
    proxy: Option<&Proxy>,
) -> Option<AccountConfig> {
    let path = format!("accounts[{index}]");
    let place = reader.place(&value, &path);
    let Value::Dict(_, dict) = value else {
        reader.problem(
            &place,
            path,
            "expected a mapping with `account_sid:` and its credentials".to_owned(),
        );
        return None;
    };
    let mut section = Section::new(&path, dict);
    let name = reader.text(&mut section, "name");
    let sid = read_sid(reader, &mut section, &place, "account_sid", AccountSid::parse);
    let credentials = read_credentials(reader, &mut section, &place, sid, environment);
    let push_secret = read_push_secret(reader, &mut section, &place, environment);
    let (base_url, region) = read_base_url(reader, &mut section, &place);
    if name.as_ref().is_some_and(|name| !is_name(name, sid, &region)) {
        reader.problem(&place, section.key("name"), format!("expected {EXPECTED_NAME}"));
    }
    let start = reader.shown.len();
    let (discovers, subaccounts) = if section.has("subaccounts") {
        read_subaccounts(reader, &mut section, &region)
    } else {
        section.take("subaccounts");
        (false, SubaccountFilter::default())
    };
    reader.finish(section);
    let (account_sid, (credentials, source)) = sid.zip(credentials)?;
    let label = name.unwrap_or_else(|| account_sid.to_string());
    // An auth token used as the password is also the token that Twilio signs with.
    let is_token = credentials.username == account_sid.to_string();
    let (push_secret, push_source) = push_secret.unzip();
    let push_secret =
        push_secret.or_else(|| is_token.then(|| PushSecret(credentials.secret.clone())));
    let account = AccountConfig {
        label,
        account_sid,
        credentials,
        base_url,
        region,
        discovers,
        subaccounts,
        push_secret,
    };
    // Print the account before its subaccounts.
    let printed = show::account(&account, &source, push_source.as_ref(), proxy);
    reader.shown.insert_str(start, &printed);
    Some(account)
}

/// Whether a text is a valid label for an account. A label that starts with a SID may only belong to the
/// account with that SID: that account may be polled too, and, with several regions, is labelled by its SID
/// and region.
fn is_name(text: &str, sid: Option<AccountSid>, region: &str) -> bool {
    let starts_with_sid =
        text.get(..SID_BYTES).is_some_and(|start| AccountSid::parse(start).is_ok());
    !text.is_empty()
        && text.len() <= MAX_NAME_BYTES
        && !text.contains(char::is_control)
        && (!starts_with_sid
            || sid
                .map(|sid| sid.to_string())
                .is_none_or(|sid| text == sid || text == format!("{sid}@{region}")))
}

fn read_sid<T>(
    reader: &mut Reader<'_>,
    section: &mut Section,
    place: &str,
    name: &'static str,
    parse: fn(&str) -> Result<T, InvalidSid>,
) -> Option<T> {
    let was_present = section.has(name);
    let sid = match reader.text(section, name) {
        Some(text) => parse_sid(bare(&text), parse),
        // Already reported.
        None if was_present => return None,
        None => parse("").map_err(|error| format!("is missing: {error}")),
    };
    sid.map_err(|text| reader.problem(place, section.key(name), text)).ok()
}

/// Parses a SID; the error is ready to be shown.
pub(super) fn parse_sid<T>(
    text: &str,
    parse: fn(&str) -> Result<T, InvalidSid>,
) -> Result<T, String> {
    parse(text).map_err(|error| format!("{error}, got {}", shape::text(text)))
}

fn read_credentials(
    reader: &mut Reader<'_>,
    section: &mut Section,
    place: &str,
    account_sid: Option<AccountSid>,
    environment: &Environment,
) -> Option<(Credentials, SecretSource)> {
    let mut is_inline = false;
    for inline in ["auth_token", "api_secret", PUSH_INLINE] {
        if section.has(inline) {
            let text = format!(
                "secrets don't belong in this file: expected `{inline}_file`, `{inline}_env` or `{inline}_credential`"
            );
            reader.problem(place, section.key(inline), text);
            section.take(inline);
            is_inline |= inline != PUSH_INLINE;
        }
    }
    let uses_key = section.has("api_key");
    let key = uses_key.then(|| read_sid(reader, section, place, "api_key", ApiKeySid::parse));
    section.take("api_key");
    let mut sources: Vec<(&'static str, SecretSource)> = Vec::new();
    for (name, is_for_key, make) in SECRET_KEYS {
        if let Some(text) = reader.text(section, name) {
            if is_for_key == uses_key {
                sources.push((name, make(text)));
            } else {
                let text = if uses_key {
                    "can't be used with `api_key`: expected `api_secret_…`"
                } else {
                    "can only be used with `api_key`: expected `auth_token_…`"
                };
                reader.problem(place, section.key(name), text.to_owned());
            }
        }
    }
    let (name, source) = match sources.len() {
        1 => sources.swap_remove(0),
        _ if is_inline => return None,
        found => {
            let secret = if uses_key { "api_secret" } else { "auth_token" };
            let text = format!(
                "expected exactly one of `{secret}_file`, `{secret}_env` and `{secret}_credential`, got {found}"
            );
            reader.problem(place, section.key(secret), text);
            return None;
        }
    };
    let username = match key {
        Some(key) => key?.to_string(),
        None => account_sid?.to_string(),
    };
    match source.read(environment) {
        Ok(secret) => Some((Credentials { username, secret }, source)),
        Err(text) => {
            reader.problem(place, section.key(name), text);
            None
        }
    }
}

/// Reads the secret that signs pushes, if it differs from the account's own auth token.
fn read_push_secret(
    reader: &mut Reader<'_>,
    section: &mut Section,
    place: &str,
    environment: &Environment,
) -> Option<(PushSecret, SecretSource)> {
    let mut sources: Vec<(&'static str, SecretSource)> = Vec::new();
    for (name, make) in PUSH_KEYS {
        sources.extend(reader.text(section, name).map(|text| (name, make(text))));
    }
    if sources.len() > 1 {
        let text = "expected at most one of `push_auth_token_file`, `push_auth_token_env` and `push_auth_token_credential`";
        reader.problem(place, section.key(PUSH_INLINE), text.to_owned());
    }
    let (name, source) = sources.pop()?;
    match source.read(environment) {
        Ok(secret) => Some((PushSecret(secret), source)),
        Err(text) => {
            reader.problem(place, section.key(name), text);
            None
        }
    }
}

type MakeSource = fn(String) -> SecretSource;

/// The keys that name a source of a secret: the key, whether it requires an API key, and the source.
const SECRET_KEYS: [(&str, bool, MakeSource); 6] = [
    ("auth_token_file", false, |path| SecretSource::File(path.into())),
    ("auth_token_env", false, SecretSource::Environment),
    ("auth_token_credential", false, SecretSource::Credential),
    ("api_secret_file", true, |path| SecretSource::File(path.into())),
    ("api_secret_env", true, SecretSource::Environment),
    ("api_secret_credential", true, SecretSource::Credential),
];

/// The keys that name the source of the secret that signs pushes.
const PUSH_KEYS: [(&str, MakeSource); 3] = [
    ("push_auth_token_file", |path| SecretSource::File(path.into())),
    ("push_auth_token_env", SecretSource::Environment),
    ("push_auth_token_credential", SecretSource::Credential),
];
/// The key that would contain the secret itself, which is refused.
const PUSH_INLINE: &str = "push_auth_token";

fn read_base_url(reader: &mut Reader<'_>, section: &mut Section, place: &str) -> (BaseUrl, String) {
    let mut text = |name| reader.text(section, name).map(|text| bare(&text).to_owned());
    let (url, region, edge) = (text("base_url"), text("region"), text("edge"));
    resolve_base_url(url, region, edge).unwrap_or_else(|(name, text)| {
        reader.problem(place, section.key(name), text);
        (BaseUrl::default(), DEFAULT_REGION.to_owned())
    })
}

/// Returns the base URL and region; the error is the wrong key and the reason.
pub(super) fn resolve_base_url(
    url: Option<String>,
    region: Option<String>,
    edge: Option<String>,
) -> Result<(BaseUrl, String), (&'static str, String)> {
    let is_label = |text: &String| {
        (1..=MAX_REGION_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    for (name, text) in [("region", &region), ("edge", &edge)] {
        if let Some(text) = text.as_ref().filter(|text| !is_label(text)) {
            return Err((
                name,
                format!(
                    "expected up to {MAX_REGION_BYTES} lower-case letters and digits, such as `ie1` or `dublin`, got {}",
                    shape::text(text)
                ),
            ));
        }
    }
    if let Some(url) = url {
        if edge.is_some() {
            return Err(("edge", "can't be used with `base_url`: set only one of them".to_owned()));
        }
        let url = BaseUrl::parse(&url).map_err(|error| ("base_url", error.to_string()))?;
        let region = region.or_else(|| url.region().map(str::to_owned));
        return Ok((url, region.unwrap_or_else(|| DEFAULT_REGION.to_owned())));
    }
    let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let default_edge =
        DEFAULT_EDGES.iter().find(|(name, _)| *name == region).map(|(_, edge)| (*edge).to_owned());
    match edge.or(default_edge) {
        Some(edge) => match BaseUrl::parse(&format!("https://api.{edge}.{region}.twilio.com")) {
            Ok(url) => Ok((url, region)),
            Err(error) => Err(("edge", error.to_string())),
        },
        None if region == DEFAULT_REGION => Ok((BaseUrl::default(), region)),
        None => Err((
            "edge",
            // Don't quote the region: it may be a secret that is short enough for a region.
            "is missing: the region isn't known, so correct it or set its edge (such as `dublin` for `ie1`)".to_owned(),
        )),
    }
}

/// Reads whether subaccounts are discovered, and which are polled.
fn read_subaccounts(
    reader: &mut Reader<'_>,
    section: &mut Section,
    region: &str,
) -> (bool, SubaccountFilter) {
    let mut inner = reader.section(section, "subaccounts");
    let discovers = reader.flag(&mut inner, "discover");
    let include = reader.texts(&mut inner, "include");
    let exclude = reader.texts(&mut inner, "exclude");
    let labels = match inner.take("names") {
        None => Dict::new(),
        Some(Value::Dict(_, labels)) => labels,
        Some(other) => {
            reader.wrong(&inner, "names", &other, "a mapping of SIDs to names");
            Dict::new()
        }
    };
    let mut names = BTreeMap::new();
    for (sid, name) in labels {
        match AccountSid::parse(&sid).ok().zip(name.as_str()) {
            Some((sid, text)) if is_name(text, Some(sid), region) => {
                names.insert(sid, text.to_owned());
            }
            Some(_) => {
                let key = inner.key(&format!("names.{sid}"));
                let place = reader.place(&name, &key);
                reader.problem(&place, key, format!("expected {EXPECTED_NAME}"));
            }
            None => reader.wrong(&inner, "names", &name, "a mapping of SIDs (`AC…`) to names"),
        }
    }
    let shown: BTreeMap<String, &String> =
        names.iter().map(|(sid, name)| (sid.to_string(), name)).collect();
    reader.show(&inner, "names", &show::json(&shown));
    reader.finish(inner);
    (discovers, SubaccountFilter { include, exclude, names, ..SubaccountFilter::default() })
}
