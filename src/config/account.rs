//! An account of the configuration: who it is, how it signs in, where its API is.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};
use secrecy::{ExposeSecret, SecretString};

use crate::domain::words::sid::AccountSid;
use crate::twilio::Proxy;
use crate::twilio::proxy::Way;

use super::environment::{Environment, bare};
use super::reader::{Reader, Section};
use super::secret::SecretSource;
use super::shape;
use super::show;

/// Longest name of an account, in bytes: it is a label.
const MAX_NAME_BYTES: usize = 256;
/// Longest region or edge: Twilio's have up to 12 letters, and a token in their place has 32.
const MAX_PLACE_BYTES: usize = 20;
/// `AC` and 32 digits.
const SID_BYTES: usize = 34;
/// What [`is_name`] expects.
const EXPECTED_NAME: &str =
    "a name of 1 to 256 bytes without control characters, and no other account's SID";
/// Regions whose edge need not be given.
const HOME_EDGES: [(&str, &str); 3] = [("ie1", "dublin"), ("au1", "sydney"), ("jp1", "tokyo")];
/// The region of `api.twilio.com`.
pub(super) const DEFAULT_REGION: &str = "us1";
/// Twilio's API in that region.
pub(super) const DEFAULT_BASE_URL: &str = "https://api.twilio.com";

/// An account to poll.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountConfig {
    /// Its label; the SID where there is none.
    pub name: Option<String>,
    /// Its SID.
    pub account_sid: String,
    /// How it signs in.
    pub credentials: Credentials,
    /// Where its API is.
    pub base_url: String,
    /// The region that keeps its calls, part of its identity in the store.
    pub region: String,
    /// Its subaccounts, if they were mentioned.
    pub subaccounts: Option<SubaccountsConfig>,
}

impl AccountConfig {
    /// How its API is reached where there is a proxy.
    pub fn way(&self, proxy: &Proxy) -> Option<Way> {
        reqwest::Url::parse(&self.base_url).ok().map(|base| proxy.way_to(&base))
    }
}

impl PartialEq for Credentials {
    /// Whether they sign in alike, wherever the secret came from.
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username
            && self.secret.expose_secret() == other.secret.expose_secret()
    }
}

/// How an account signs in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Account SID or API key SID.
    pub username: String,
    /// Auth token or API key secret.
    pub secret: SecretString,
    /// Where the secret came from.
    pub source: SecretSource,
}

/// Which subaccounts are polled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubaccountsConfig {
    /// Whether they are looked for at all.
    pub discover: bool,
    /// Only these, if there are any.
    pub include: Vec<String>,
    /// Never these.
    pub exclude: Vec<String>,
    /// Labels by SID.
    pub names: BTreeMap<String, String>,
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
    let sid = read_sid(reader, &mut section, &place, "account_sid", "AC");
    let credentials = read_credentials(reader, &mut section, &place, sid.as_deref(), environment);
    let (base_url, region) = read_base_url(reader, &mut section, &place);
    if name.as_ref().is_some_and(|name| !is_name(name, sid.as_deref(), &region)) {
        reader.problem(&place, section.key("name"), format!("expected {EXPECTED_NAME}"));
    }
    let mut account = sid.zip(credentials).map(|(account_sid, credentials)| AccountConfig {
        name,
        account_sid,
        credentials,
        base_url,
        region: region.clone(),
        subaccounts: None,
    });
    if let Some(account) = &account {
        reader.shown += &show::account(account, proxy);
    }
    let has_subaccounts = section.has("subaccounts");
    let subaccounts = has_subaccounts.then(|| read_subaccounts(reader, &mut section, &region));
    section.take("subaccounts");
    if let Some(account) = &mut account {
        account.subaccounts = subaccounts;
    }
    reader.finish(section);
    account
}

/// Whether a text can be the label of an account. One that begins as a SID belongs to that account,
/// which may be polled, too, and where there are several regions goes by it and its region.
fn is_name(text: &str, sid: Option<&str>, region: &str) -> bool {
    let begins_as_sid = text.get(..SID_BYTES).is_some_and(|begin| is_sid(begin, "AC"));
    !text.is_empty()
        && text.len() <= MAX_NAME_BYTES
        && !text.contains(char::is_control)
        && (!begins_as_sid
            || sid.is_none_or(|sid| text == sid || text == format!("{sid}@{region}")))
}

fn read_sid(
    reader: &mut Reader<'_>,
    section: &mut Section,
    place: &str,
    name: &'static str,
    prefix: &str,
) -> Option<String> {
    let was_there = section.has(name);
    let text = reader.text(section, name).map(|text| bare(&text).to_owned());
    let is_sid = |sid: &String| is_sid(sid, prefix);
    match text {
        Some(sid) if is_sid(&sid) => Some(sid),
        Some(sid) => {
            reader.problem(place, section.key(name), not_sid(&sid, prefix));
            None
        }
        None if !was_there => {
            let text = format!("is missing: expected {}", sid_of(prefix));
            reader.problem(place, section.key(name), text);
            None
        }
        None => None,
    }
}

/// What is said of a text that is no SID of a kind.
pub(super) fn not_sid(text: &str, prefix: &str) -> String {
    format!("expected {}, got {}", sid_of(prefix), shape::text(text))
}

fn sid_of(prefix: &str) -> String {
    let noun = if prefix == "SK" { "API key SID" } else { "Account SID" };
    format!("an {noun} (`{prefix}` and 32 hex digits)")
}

/// Whether a text is a SID of a kind.
pub(super) fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|digits| AccountSid::parse(&format!("AC{digits}")).is_ok())
}

fn read_credentials(
    reader: &mut Reader<'_>,
    section: &mut Section,
    place: &str,
    account_sid: Option<&str>,
    environment: &Environment,
) -> Option<Credentials> {
    let mut is_inline = false;
    for (inline, instead) in [("auth_token", "auth_token"), ("api_secret", "api_secret")] {
        if section.has(inline) {
            let text = format!(
                "secrets don't belong in this file: expected `{instead}_file`, `{instead}_env` or `{instead}_credential`"
            );
            reader.problem(place, section.key(inline), text);
            section.take(inline);
            is_inline = true;
        }
    }
    let uses_key = section.has("api_key");
    let key = uses_key.then(|| read_sid(reader, section, place, "api_key", "SK"));
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
        Some(key) => key?,
        None => account_sid?.to_owned(),
    };
    match source.read(environment) {
        Ok(secret) => Some(Credentials { username, secret, source }),
        Err(text) => {
            reader.problem(place, section.key(name), text);
            None
        }
    }
}

type MakeSource = fn(String) -> SecretSource;

/// The keys that name a secret: key, whether it goes with an API key, and what it makes.
const SECRET_KEYS: [(&str, bool, MakeSource); 6] = [
    ("auth_token_file", false, |path| SecretSource::File(path.into())),
    ("auth_token_env", false, SecretSource::Environment),
    ("auth_token_credential", false, SecretSource::Credential),
    ("api_secret_file", true, |path| SecretSource::File(path.into())),
    ("api_secret_env", true, SecretSource::Environment),
    ("api_secret_credential", true, SecretSource::Credential),
];

fn read_base_url(reader: &mut Reader<'_>, section: &mut Section, place: &str) -> (String, String) {
    let mut text = |name| reader.text(section, name).map(|text| bare(&text).to_owned());
    let (url, region, edge) = (text("base_url"), text("region"), text("edge"));
    resolve_base_url(url, region, edge).unwrap_or_else(|(name, text)| {
        reader.problem(place, section.key(name), text);
        (DEFAULT_BASE_URL.to_owned(), DEFAULT_REGION.to_owned())
    })
}

/// Base URL and region from what was given; else the key that is wrong, and why.
pub(super) fn resolve_base_url(
    url: Option<String>,
    region: Option<String>,
    edge: Option<String>,
) -> Result<(String, String), (&'static str, String)> {
    let is_label = |text: &String| {
        (1..=MAX_PLACE_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    for (name, text) in [("region", &region), ("edge", &edge)] {
        if let Some(text) = text.as_ref().filter(|text| !is_label(text)) {
            return Err((
                name,
                format!(
                    "expected up to {MAX_PLACE_BYTES} lower-case letters and digits, such as `ie1` or `dublin`, got {}",
                    shape::text(text)
                ),
            ));
        }
    }
    if let Some(url) = url {
        if edge.is_some() {
            return Err(("edge", "can't be used with `base_url`: expected one of them".to_owned()));
        }
        check_base_url(&url).map_err(|text| ("base_url", text))?;
        let region =
            region.or_else(|| region_of(&url)).unwrap_or_else(|| DEFAULT_REGION.to_owned());
        return Ok((url, region));
    }
    let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let home = HOME_EDGES.iter().find(|(of, _)| *of == region).map(|(_, edge)| (*edge).to_owned());
    match edge.or(home) {
        Some(edge) => Ok((format!("https://api.{edge}.{region}.twilio.com"), region)),
        None if region == DEFAULT_REGION => Ok((DEFAULT_BASE_URL.to_owned(), region)),
        None => Err((
            "edge",
            // The region may be a token that is short enough for one.
            "is missing: expected the edge of this region, such as `dublin` for `ie1`".to_owned(),
        )),
    }
}

fn check_base_url(text: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(text)
        .map_err(|_| "expected a URL such as `https://proxy.example.com`".to_owned())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("expected a URL without user and password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected a URL without query and fragment".to_owned());
    }
    if url.scheme() == "https"
        || (url.scheme() == "http" && crate::twilio::client::is_loopback(&url))
    {
        Ok(())
    } else {
        Err("expected https, or http to a loopback address: credentials go there".to_owned())
    }
}

/// The region of a host such as `api.dublin.ie1.twilio.com`.
fn region_of(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    let labels = url.host_str()?.strip_prefix("api.")?.strip_suffix(".twilio.com")?;
    labels.split('.').next_back().map(str::to_owned)
}

fn read_subaccounts(
    reader: &mut Reader<'_>,
    section: &mut Section,
    region: &str,
) -> SubaccountsConfig {
    let mut inner = reader.section(section, "subaccounts");
    let discover = reader.flag(&mut inner, "discover");
    let include = reader.texts(&mut inner, "include");
    let exclude = reader.texts(&mut inner, "exclude");
    let names = match inner.take("names") {
        None => Dict::new(),
        Some(Value::Dict(_, names)) => names,
        Some(other) => {
            reader.wrong(&inner, "names", &other, "a mapping of SIDs to names");
            Dict::new()
        }
    };
    let mut labels = BTreeMap::new();
    for (sid, name) in names {
        match name.as_str().filter(|_| is_sid(&sid, "AC")) {
            Some(text) if is_name(text, Some(&sid), region) => {
                labels.insert(sid, text.to_owned());
            }
            Some(_) => {
                let key = inner.key(&format!("names.{sid}"));
                let place = reader.place(&name, &key);
                reader.problem(&place, key, format!("expected {EXPECTED_NAME}"));
            }
            None => reader.wrong(&inner, "names", &name, "a mapping of SIDs (`AC…`) to names"),
        }
    }
    reader.show(&inner, "names", &show::json(&labels));
    reader.finish(inner);
    SubaccountsConfig { discover, include, exclude, names: labels }
}
