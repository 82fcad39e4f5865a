//! Reads secrets directly from their source into a type that doesn't print.
//!
//! No secret passes through figment, and no message quotes one.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::environment::{Environment, bare};
use super::file;
use super::shape;

/// The maximum size of a file with a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// The quotes that users put around values.
const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file `{}`", path.display()),
            Self::Environment(name) => write!(f, "environment variable `{name}`"),
            Self::Credential(name) => write!(f, "systemd credential `{name}`"),
        }
    }
}

impl SecretSource {
    /// Reads the secret.
    ///
    /// # Errors
    /// Describes what is wrong, without quoting the content.
    pub(super) fn read(&self, environment: &Environment) -> Result<SecretString, String> {
        let secret = match self {
            Self::File(path) => read_file(path)?,
            Self::Environment(name) if environment.is_unreadable(name) => {
                return Err(format!("{self} is not valid UTF-8"));
            }
            Self::Environment(name) => {
                environment.raw(name).map(str::to_owned).ok_or_else(|| {
                    format!(
                        "expected the name of an environment variable that is set, got {}",
                        shape::text(name)
                    )
                })?
            }
            Self::Credential(name) => {
                if ["", ".", ".."].contains(&name.as_str()) || name.contains('/') {
                    return Err("expected the name of a systemd credential, without `/`".to_owned());
                }
                let directory = environment.raw("CREDENTIALS_DIRECTORY").ok_or(
                    "there are no systemd credentials (CREDENTIALS_DIRECTORY is not set): use LoadCredential= in the unit",
                )?;
                read_file(&Path::new(directory).join(name))?
            }
        };
        let secret = bare(&secret);
        match mistake(secret) {
            None => Ok(SecretString::from(secret)),
            Some(mistake) => Err(format!("{self} {mistake}")),
        }
    }
}

/// Why a text can't be a secret of Twilio's, which consists of letters and digits. A proxy in front of Twilio
/// may use other characters, so this only refuses text that no HTTP client could send as intended, and text
/// that was copied with more than the secret.
fn mistake(secret: &str) -> Option<&'static str> {
    let statement = secret.strip_prefix("export ").unwrap_or(secret);
    let is_assignment = ["=", ": "].iter().any(|sign| {
        let Some((name, value)) = statement.split_once(sign) else { return false };
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // The padding of base64 isn't a value.
        is_name && !value.trim_matches('=').is_empty()
    });
    if secret.is_empty() {
        Some("is empty")
    } else if secret.contains('\0') {
        Some("contains NUL characters: expected only the secret, in UTF-8")
    } else if secret.contains(['\n', '\r']) {
        Some("has more than one line: expected only the secret")
    } else if secret.contains(char::is_control) {
        Some("contains control characters: expected only the secret")
    } else if !secret.is_ascii() {
        Some("contains non-ASCII characters: expected only the secret")
    } else if is_assignment {
        Some("contains an assignment (`NAME=value`): expected only the value")
    } else if secret.starts_with(QUOTES) || secret.ends_with(QUOTES) {
        Some("has a quote at one end: expected the secret without quotes")
    } else if secret.starts_with("${") || secret.starts_with("$(") {
        Some("contains an unexpanded variable: expected the secret itself")
    } else {
        None
    }
}

/// Reads a file; its path may itself be a misplaced secret.
fn read_file(path: &Path) -> Result<String, String> {
    let cannot_read =
        |error: &std::io::Error| format!("cannot read {}: {}", shape::path(path), file::why(error));
    let bytes = file::read(path, MAX_SECRET_BYTES).map_err(|error| cannot_read(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes > MAX_SECRET_BYTES) {
        return Err(format!("{} is larger than {MAX_SECRET_BYTES} bytes", shape::path(path)));
    }
    file::text(bytes).map_err(|why| format!("{} {why}", shape::path(path)))
}
