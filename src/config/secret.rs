//! Secrets: read straight from where they are into a type that doesn't print.
//!
//! No secret passes through figment, and no message here quotes one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::file;
use super::shape;

/// Most bytes of a file with a secret.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Where a secret is.
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
    /// What is wrong with the place, never with what stands there.
    pub(super) fn read(
        &self,
        environment: &BTreeMap<String, String>,
    ) -> Result<SecretString, String> {
        let secret = match self {
            Self::File(path) => read_file(path)?,
            Self::Environment(name) => environment.get(name).cloned().ok_or_else(|| {
                format!(
                    "expected the name of an environment variable that is set, got {}",
                    shape::text(name)
                )
            })?,
            Self::Credential(name) => {
                if ["", ".", ".."].contains(&name.as_str()) || name.contains('/') {
                    return Err("expected the name of a systemd credential, without `/`".to_owned());
                }
                let directory = environment.get("CREDENTIALS_DIRECTORY").ok_or(
                    "there are no systemd credentials (CREDENTIALS_DIRECTORY is not set): use LoadCredential= in the unit",
                )?;
                read_file(&Path::new(directory).join(name))?
            }
        };
        let secret = secret.trim_end_matches(['\n', '\r']);
        if secret.is_empty() {
            return Err(format!("{self} is empty"));
        }
        Ok(SecretString::from(secret))
    }
}

/// Reads a file whose path may be the secret itself.
fn read_file(path: &Path) -> Result<String, String> {
    let cannot =
        |error: &std::io::Error| format!("cannot read {}: {}", shape::path(path), file::why(error));
    let bytes = file::read(path, MAX_SECRET_BYTES).map_err(|error| cannot(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes > MAX_SECRET_BYTES) {
        return Err(format!("{} is larger than {MAX_SECRET_BYTES} bytes", shape::path(path)));
    }
    String::from_utf8(bytes).map_err(|_| format!("{} is not valid UTF-8", shape::path(path)))
}
