//! The web configuration file, in the format of Prometheus' exporter-toolkit.
//!
//! Format: <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>.
//! Unknown and unsupported keys are errors: ignoring them could silently weaken the protection that the file's author
//! expects. Certificates and keys are read at the same time, so that all problems are reported together.

use std::collections::BTreeMap;
use std::path::Path;

use figment::value::{Dict, Value};
use secrecy::{ExposeSecret, SecretString};

use crate::config::reader::{Reader, Section};
use crate::config::{Problem, Problems, file, layers, shape};

/// The maximum size of a PEM file.
const MAX_PEM_BYTES: u64 = 1 << 20;
/// The headers that may be set, as in the exporter-toolkit.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];
/// The prefixes of bcrypt hashes.
const BCRYPT: [&str; 4] = ["$2a$", "$2b$", "$2x$", "$2y$"];
/// The permitted costs of bcrypt hashes. Each step doubles the time; a cost of 14 takes a second.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;

/// The contents of a web configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebConfig {
    /// TLS, if configured.
    pub tls: Option<TlsConfig>,
    /// The users with their bcrypt hashes. Without users, no credentials are needed.
    pub users: BTreeMap<String, String>,
    /// Headers for every response.
    pub headers: Vec<(&'static str, String)>,
}

impl WebConfig {
    /// Returns the protection that would be lost if this replaced `former`. A truncated file may be valid but
    /// lack some.
    pub fn removed_protection(&self, former: &Self) -> Option<&'static str> {
        let requires = |config: &Self| {
            let clients = config.tls.as_ref().map(|tls| &tls.clients);
            matches!(clients, Some(ClientCertificates::Required(_)))
        };
        if self.users.is_empty() && !former.users.is_empty() {
            Some("basic_auth_users: no longer has any users")
        } else if self.tls.is_none() && former.tls.is_some() {
            Some("tls_server_config: is missing, so TLS would be off")
        } else if requires(former) && !requires(self) {
            Some("tls_server_config.client_auth_type: would no longer require client certificates")
        } else {
            None
        }
    }
}

/// TLS settings.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate chain, as PEM.
    pub certificates: String,
    /// The private key, as PEM.
    pub key: SecretString,
    /// Which clients may connect.
    pub clients: ClientCertificates,
    /// Whether TLS 1.2 is enabled.
    pub allows_tls_1_2: bool,
    /// Whether TLS 1.3 is enabled.
    pub allows_tls_1_3: bool,
}

/// Which clients may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// All clients. Certificates aren't requested.
    NotRequested,
    /// Clients without a certificate, or with one from these authorities (PEM).
    VerifiedIfGiven(String),
    /// Only clients with a certificate from these authorities (PEM).
    Required(String),
}

impl PartialEq for TlsConfig {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
            && self.key.expose_secret() == other.key.expose_secret()
            && self.clients == other.clients
            && self.allows_tls_1_2 == other.allows_tls_1_2
            && self.allows_tls_1_3 == other.allows_tls_1_3
    }
}

impl Eq for TlsConfig {}

/// Reads a web configuration file and the files that it names. Their paths are relative to it.
///
/// # Errors
/// Lists all problems, without quoting keys or hashes.
pub fn load_web(file: &Path) -> Result<WebConfig, Problems> {
    let (figment, dict) = layers::alone(file).map_err(|problem| Problems(vec![problem]))?;
    let mut reader = Reader::new(&figment);
    let place = file.display().to_string();
    if dict.is_empty() {
        // The file may be half-written, and must not remove protection.
        let text =
            "is empty: expected `tls_server_config`, `basic_auth_users` or `http_server_config`";
        return Err(Problems(vec![Problem { place, key: String::new(), text: text.to_owned() }]));
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut top = Section::new("", dict);
    let tls = top.has("tls_server_config").then(|| read_tls(&mut reader, &mut top, &place, folder));
    let _known = top.take("tls_server_config");
    let headers = read_http(&mut reader, &mut top);
    let users = read_users(&mut reader, &mut top);
    unsupported(
        &mut reader,
        &mut top,
        "rate_limit",
        "is not supported: limit the rate in a reverse proxy",
    );
    reader.finish(top);
    let mut problems = reader.problems;
    match tls {
        Some(None) if problems.is_empty() => {
            problems.push(Problem {
                place,
                key: "tls_server_config".to_owned(),
                text: "is incomplete".to_owned(),
            });
            Err(Problems(problems))
        }
        tls if problems.is_empty() => Ok(WebConfig { tls: tls.flatten(), users, headers }),
        _ => {
            problems.sort();
            problems.dedup();
            Err(Problems(problems))
        }
    }
}

fn read_tls(
    reader: &mut Reader<'_>,
    top: &mut Section,
    place: &str,
    folder: &Path,
) -> Option<TlsConfig> {
    let mut section = reader.section(top, "tls_server_config");
    let certificates = read_pem(reader, &mut section, place, folder, ["cert", "cert_file"]);
    let key = read_pem(reader, &mut section, place, folder, ["key", "key_file"]);
    let authorities =
        read_pem(reader, &mut section, place, folder, ["client_ca", "client_ca_file"]);
    for (name, pem) in [("cert_file", certificates.is_some()), ("key_file", key.is_some())] {
        let inline = name.trim_end_matches("_file");
        if !pem && !section.was_given(name) && !section.was_given(inline) {
            let text = format!("is missing: expected a PEM file (or `{inline}` with the PEM text)");
            reader.problem(place, section.key(name), text);
        }
    }
    let clients = read_clients(reader, &mut section, place, authorities);
    let least = read_version(reader, &mut section, "min_version", Version::Tls12);
    let most = read_version(reader, &mut section, "max_version", Version::Tls13);
    if least > most {
        let text = "is newer than max_version".to_owned();
        reader.problem(place, section.key("min_version"), text);
    }
    for name in ["cipher_suites", "curve_preferences"] {
        unsupported(
            reader,
            &mut section,
            name,
            "is not supported: safe values are chosen automatically",
        );
    }
    // Go ignores this, too.
    let _ignored = reader.flag(&mut section, "prefer_server_cipher_suites");
    unsupported(
        reader,
        &mut section,
        "client_allowed_sans",
        "is not supported: use a `client_ca_file` that signs only the permitted clients",
    );
    reader.finish(section);
    Some(TlsConfig {
        certificates: certificates?,
        key: SecretString::from(key?),
        clients,
        allows_tls_1_2: least == Version::Tls12,
        allows_tls_1_3: most == Version::Tls13,
    })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Tls12,
    Tls13,
}

fn read_version(
    reader: &mut Reader<'_>,
    section: &mut Section,
    name: &'static str,
    default: Version,
) -> Version {
    match section.take(name) {
        None => default,
        Some(value) => match value.as_str() {
            Some("TLS12") => Version::Tls12,
            Some("TLS13") => Version::Tls13,
            Some(_) | None => {
                reader.wrong(
                    section,
                    name,
                    &value,
                    "`TLS12` or `TLS13`: older versions are insecure",
                );
                default
            }
        },
    }
}

fn read_clients(
    reader: &mut Reader<'_>,
    section: &mut Section,
    place: &str,
    authorities: Option<String>,
) -> ClientCertificates {
    let value = section.take("client_auth_type");
    let text = value.as_ref().and_then(|value| value.as_str().map(str::to_owned));
    match (text.as_deref(), authorities) {
        (None | Some("" | "NoClientCert"), None) if value.is_none() || text.is_some() => {
            ClientCertificates::NotRequested
        }
        (Some("VerifyClientCertIfGiven"), Some(pem)) => ClientCertificates::VerifiedIfGiven(pem),
        (Some("RequireAndVerifyClientCert"), Some(pem)) => ClientCertificates::Required(pem),
        (Some("VerifyClientCertIfGiven" | "RequireAndVerifyClientCert"), None) => {
            if !section.was_given("client_ca_file") && !section.was_given("client_ca") {
                let text = "is missing: client_auth_type needs it".to_owned();
                reader.problem(place, section.key("client_ca_file"), text);
            }
            ClientCertificates::NotRequested
        }
        (None | Some("" | "NoClientCert"), Some(_)) => {
            let text = "doesn't use client_ca, which is set".to_owned();
            reader.problem(place, section.key("client_auth_type"), text);
            ClientCertificates::NotRequested
        }
        (Some(_) | None, _) => {
            let text = "expected `NoClientCert`, `VerifyClientCertIfGiven` or `RequireAndVerifyClientCert`: an unverified certificate doesn't authenticate a client";
            reader.problem(place, section.key("client_auth_type"), text.to_owned());
            ClientCertificates::NotRequested
        }
    }
}

/// Reads PEM text from the configuration or from a file that it names.
fn read_pem(
    reader: &mut Reader<'_>,
    section: &mut Section,
    place: &str,
    folder: &Path,
    [inline, file]: [&'static str; 2],
) -> Option<String> {
    let text = reader.text(section, inline);
    let path = reader.path(section, file);
    match (text, path) {
        (Some(_), Some(_)) => {
            let text = format!("can't be used with `{inline}`: set only one of them");
            reader.problem(place, section.key(file), text);
            None
        }
        (Some(text), None) => Some(text),
        (None, Some(path)) => match read_file(&folder.join(path)) {
            Ok(text) => Some(text),
            Err(text) => {
                reader.problem(place, section.key(file), text);
                None
            }
        },
        (None, None) => None,
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let cannot =
        |error: &std::io::Error| format!("cannot read {}: {}", shape::path(path), file::why(error));
    let bytes = file::read(path, MAX_PEM_BYTES).map_err(|error| cannot(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes > MAX_PEM_BYTES) {
        return Err(format!("{} is larger than {MAX_PEM_BYTES} bytes", shape::path(path)));
    }
    file::text(bytes).map_err(|why| format!("{} {why}", shape::path(path)))
}

fn read_http(reader: &mut Reader<'_>, top: &mut Section) -> Vec<(&'static str, String)> {
    let mut section = reader.section(top, "http_server_config");
    // The server always uses HTTP/1.1, which all clients support.
    let _either = reader.flag(&mut section, "http2");
    let mut inner = reader.section(&mut section, "headers");
    let mut headers = Vec::new();
    for name in HEADERS {
        if let Some(text) = reader.text(&mut inner, name) {
            let is_value = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
            if is_value {
                headers.push((name, text));
            } else {
                reader.wrong(&inner, name, &Value::from(text), "a string of printable ASCII");
            }
        }
    }
    reader.finish(inner);
    reader.finish(section);
    headers
}

fn read_users(reader: &mut Reader<'_>, top: &mut Section) -> BTreeMap<String, String> {
    let dict = match top.take("basic_auth_users") {
        None => Dict::new(),
        Some(Value::Dict(_, users)) => users,
        Some(other) => {
            reader.wrong(top, "basic_auth_users", &other, "a mapping of names to bcrypt hashes");
            Dict::new()
        }
    };
    let mut users = BTreeMap::new();
    for (name, value) in dict {
        match value.as_str().filter(|hash| is_bcrypt(hash)) {
            Some(hash) if !name.is_empty() && !name.contains(':') => {
                users.insert(name, hash.to_owned());
            }
            Some(_) => reader.wrong(top, "basic_auth_users", &value, "names without `:`"),
            None => {
                let expected =
                    "a bcrypt hash of each password, of cost 4 to 14 (`htpasswd -nBC 10 name`)";
                reader.wrong(top, "basic_auth_users", &value, expected);
            }
        }
    }
    users
}

fn is_bcrypt(hash: &str) -> bool {
    let cost = hash.get(4..6).and_then(|cost| cost.parse().ok());
    hash.len() == 60
        && hash.is_ascii()
        && BCRYPT.iter().any(|prefix| hash.starts_with(prefix))
        && cost.is_some_and(|cost| BCRYPT_COSTS.contains(&cost))
}

fn unsupported(reader: &mut Reader<'_>, section: &mut Section, name: &'static str, text: &str) {
    if let Some(value) = section.take(name) {
        let place = reader.place(&value, name);
        reader.problem(&place, section.key(name), text.to_owned());
    }
}
