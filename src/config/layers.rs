//! The layers of the configuration as named figment providers.

use std::collections::BTreeSet;
use std::path::Path;

use figment::providers::Format;
use figment::value::{Dict, Empty, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::environment::Environment;
use super::file;
use super::problem::Problem;
use super::shape;

/// The prefix of environment variables that set configuration keys.
pub(crate) const PREFIX: &str = "TWILIO_EXPORTER_";
/// The defaults, read from the example file so that the two can't differ.
pub(crate) const DEFAULTS: &str = include_str!("../../config/exporter.yml");
/// The name of the layer of defaults.
const DEFAULTS_NAME: &str = "defaults";
/// The name of the environment's layer, never shown. No file can have it: no path contains a NUL.
pub(crate) const ENVIRONMENT_NAME: &str = "environment\0";
/// The maximum size of a configuration file, in bytes: enough for thousands of accounts.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The maximum nesting depth of an environment variable's name or value: figment recurses into it. The
/// deepest key needs three levels.
const MAX_DEPTH: usize = 16;

/// YAML for figment, parsed by serde-saphyr: figment's own YAML parser is deprecated.
#[derive(Debug)]
struct Yaml;

impl Format for Yaml {
    type Error = serde_saphyr::Error;
    const NAME: &'static str = "YAML";

    fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Self::Error> {
        serde_saphyr::from_str(text)
    }
}

/// A layer with a name to show in messages.
struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// Merges the layers; also returns the keys that the file sets.
pub(crate) fn merge(
    file: Option<&Path>,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> (Figment, BTreeSet<String>) {
    let mut or_report = |found: Result<Dict, Problem>| {
        found.unwrap_or_else(|problem| {
            problems.push(problem);
            Dict::new()
        })
    };
    let defaults = or_report(parse(DEFAULTS, DEFAULTS_NAME));
    let mut file_values = Dict::new();
    if let Some(path) = file {
        file_values = or_report(read_file("--config.file", path));
        drop_nulls(&mut file_values, &defaults);
    }
    let mut environment_values = Dict::new();
    for (path, value) in environment.with_prefix(PREFIX) {
        insert(&mut environment_values, &path.to_ascii_lowercase().replace("__", "."), value);
    }
    let name = file.map_or_else(String::new, |path| path.display().to_string());
    let mut keys = BTreeSet::new();
    collect_keys(&Value::from(file_values.clone()), "", &mut keys);
    let figment = Figment::new()
        .merge(Layer { name: DEFAULTS_NAME.to_owned(), dict: defaults })
        .merge(Layer { name, dict: file_values })
        .merge(Layer { name: ENVIRONMENT_NAME.to_owned(), dict: environment_values });
    (figment, keys)
}

/// Collects the keys of a layer: those of a section as `poll.interval`, those of an account as
/// `accounts[AC…].name`.
fn collect_keys(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    match value {
        Value::Dict(_, dict) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (name, value) in dict {
                collect_keys(value, &format!("{path}{dot}{name}"), keys);
            }
        }
        Value::Array(_, values) if values.iter().any(|value| value.as_dict().is_some()) => {
            for value in values {
                let sid = value.find_ref("account_sid").and_then(Value::as_str);
                collect_keys(value, &format!("{path}[{}]", sid.unwrap_or_default().trim()), keys);
            }
        }
        Value::Array(..)
        | Value::String(..)
        | Value::Char(..)
        | Value::Bool(..)
        | Value::Num(..)
        | Value::Empty(..) => {
            keys.insert(path.to_owned());
        }
    }
}

/// Drops nulls whose keys have a value in the layer below: they stand for that value. Other nulls are kept,
/// to be reported as unknown keys.
fn drop_nulls(dict: &mut Dict, below: &Dict) {
    dict.retain(|key, value| match (below.get(key), value) {
        (Some(_), value) if is_null(value) => false,
        (Some(Value::Dict(_, below)), Value::Dict(_, inner)) => {
            drop_nulls(inner, below);
            true
        }
        _ => true,
    });
}

fn insert(dict: &mut Dict, path: &str, text: &str) {
    let inner = path.split_once('.').filter(|_| path.matches('.').count() < MAX_DEPTH);
    match inner {
        None => {
            // Numbers, lists and booleans are parsed; anything else is a string.
            let is_shallow = text.matches(['[', '{']).count() < MAX_DEPTH;
            let value = if is_shallow { text.parse().ok() } else { None };
            dict.insert(path.to_owned(), value.unwrap_or_else(|| Value::from(text)));
        }
        Some((head, tail)) => {
            let entry = dict.entry(head.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert(inner, tail, text);
            }
        }
    }
}

/// Reads a file that is the only layer; returns the figment, to look up where values come from, and the
/// values.
pub(crate) fn alone(path: &Path) -> Result<(Figment, Dict), Problem> {
    let layer =
        Layer { name: path.display().to_string(), dict: read_file("--web.config.file", path)? };
    let figment = Figment::new().merge(layer);
    let data = figment.data().ok().and_then(|data| data.into_values().next());
    Ok((figment, data.unwrap_or_default()))
}

/// Reads a YAML file with a mapping at the top level.
fn read_file(flag: &str, path: &Path) -> Result<Dict, Problem> {
    let unread = |error: std::io::Error| Problem {
        place: format!("{flag}, {}", shape::path(path)),
        key: String::new(),
        text: format!("cannot be read: {error}"),
    };
    let bytes = file::read(path, MAX_FILE_BYTES).map_err(unread)?;
    let place = path.display().to_string();
    let problem = |text: String| Problem { place: place.clone(), key: String::new(), text };
    // Check the size before decoding: the cut may split a character.
    if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes > MAX_FILE_BYTES) {
        return Err(problem(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = file::text(bytes).map_err(|why| problem(format!("cannot be read: {why}")))?;
    parse(&text, &place)
}

/// Parses YAML with a mapping at the top level, or an empty document.
fn parse(text: &str, place: &str) -> Result<Dict, Problem> {
    let problem =
        |text: &str| Problem { place: place.to_owned(), key: String::new(), text: text.to_owned() };
    // Don't use figment's `Data`: it turns an error into the parser's text, which quotes the line.
    match Yaml::from_str::<Value>(text) {
        Ok(Value::Dict(_, dict)) => Ok(dict),
        Ok(Value::Empty(..)) => Ok(Dict::new()),
        Ok(_) => Err(problem("expected a mapping with keys such as `accounts:`")),
        // Report only the position: the parser's text quotes the line, which may contain a secret.
        Err(error) => Err(match error.location() {
            Some(at) => Problem {
                place: format!("{place}:{}:{}", at.line(), at.column()),
                key: String::new(),
                text: "invalid YAML".to_owned(),
            },
            None => problem("invalid YAML"),
        }),
    }
}

/// Where a value comes from, for a message.
pub(crate) fn place_of(figment: &Figment, value: &Value, key: &str) -> String {
    let name = figment.get_metadata(value.tag()).map_or(DEFAULTS_NAME, |metadata| &metadata.name);
    if name == ENVIRONMENT_NAME {
        let variable = key.to_ascii_uppercase().replace('.', "__");
        format!("environment variable {PREFIX}{variable}")
    } else {
        name.to_owned()
    }
}

pub(crate) fn is_from_environment(figment: &Figment, value: &Value) -> bool {
    figment.get_metadata(value.tag()).is_some_and(|metadata| metadata.name == ENVIRONMENT_NAME)
}

pub(crate) fn is_null(value: &Value) -> bool {
    matches!(value, Value::Empty(_, Empty::None | Empty::Unit))
}
