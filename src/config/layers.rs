//! The layers of a configuration, as figment providers that know their name.

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

/// Prefix of the environment variables that stand for keys.
pub(crate) const PREFIX: &str = "TWILIO_EXPORTER_";
/// The defaults: the example file itself, so that the two can't differ.
pub(crate) const DEFAULTS: &str = include_str!("../../config/exporter.yml");
/// Name of the layer of defaults.
const DEFAULTS_NAME: &str = "defaults";
/// Name of the layer of the environment, never shown. No file has it: no path has a NUL.
pub(crate) const ENVIRONMENT_NAME: &str = "environment\0";
/// Most bytes of a configuration file: thousands of accounts.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Most levels of an environment variable, in its name or in its value: figment goes down by
/// recursion. The deepest key needs three.
const MAX_DEPTH: usize = 16;

/// YAML for figment, by serde-saphyr: figment's own YAML parser is deprecated.
#[derive(Debug)]
struct Yaml;

impl Format for Yaml {
    type Error = serde_saphyr::Error;
    const NAME: &'static str = "YAML";

    fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Self::Error> {
        serde_saphyr::from_str(text)
    }
}

/// A layer with a name for messages.
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

/// The layers, merged, and the keys that the file sets.
pub(crate) fn merge(
    file: Option<&Path>,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> (Figment, BTreeSet<String>) {
    let mut keep = |found: Result<Dict, Problem>| {
        found.unwrap_or_else(|problem| {
            problems.push(problem);
            Dict::new()
        })
    };
    let defaults = keep(parse(DEFAULTS, DEFAULTS_NAME));
    let mut of_file = Dict::new();
    if let Some(path) = file {
        of_file = keep(read_file("--config.file", path));
        drop_nulls(&mut of_file, &defaults);
    }
    let mut values = Dict::new();
    for (path, value) in environment.with_prefix(PREFIX) {
        insert(&mut values, &path.to_ascii_lowercase().replace("__", "."), value);
    }
    let name = file.map_or_else(String::new, |path| path.display().to_string());
    let mut keys = BTreeSet::new();
    note_keys(&Value::from(of_file.clone()), "", &mut keys);
    let figment = Figment::new()
        .merge(Layer { name: DEFAULTS_NAME.to_owned(), dict: defaults })
        .merge(Layer { name, dict: of_file })
        .merge(Layer { name: ENVIRONMENT_NAME.to_owned(), dict: values });
    (figment, keys)
}

/// Notes the keys of a layer, those of its sections as `poll.interval`, and those of an account as
/// `accounts[AC…].name`.
fn note_keys(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    match value {
        Value::Dict(_, dict) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (name, value) in dict {
                note_keys(value, &format!("{path}{dot}{name}"), keys);
            }
        }
        Value::Array(_, values) if values.iter().any(|value| value.as_dict().is_some()) => {
            for value in values {
                let sid = value.find_ref("account_sid").and_then(Value::as_str);
                note_keys(value, &format!("{path}[{}]", sid.unwrap_or_default().trim()), keys);
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

/// Drops the nulls of a layer whose keys have a value below: they stand for that value. Others
/// stay, to be told as unknown.
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
            // Numbers, lists and booleans are read as such, anything else is a text.
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

/// A file that is its own and only layer: where its values come from, and they.
pub(crate) fn alone(path: &Path) -> Result<(Figment, Dict), Problem> {
    let layer =
        Layer { name: path.display().to_string(), dict: read_file("--web.config.file", path)? };
    let figment = Figment::new().merge(layer);
    let data = figment.data().ok().and_then(|data| data.into_values().next());
    Ok((figment, data.unwrap_or_default()))
}

/// Reads a file as far as it is YAML with a mapping at the top.
fn read_file(flag: &str, path: &Path) -> Result<Dict, Problem> {
    let unread = |error: std::io::Error| Problem {
        place: format!("{flag}, {}", shape::path(path)),
        key: String::new(),
        text: format!("cannot be read: {error}"),
    };
    let bytes = file::read(path, MAX_FILE_BYTES).map_err(unread)?;
    let place = path.display().to_string();
    let problem = |text: String| Problem { place: place.clone(), key: String::new(), text };
    // Before UTF-8: the cut may go through a character.
    if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes > MAX_FILE_BYTES) {
        return Err(problem(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = file::text(bytes).map_err(|why| problem(format!("cannot be read: {why}")))?;
    parse(&text, &place)
}

/// Reads YAML with a mapping at the top, or nothing.
fn parse(text: &str, place: &str) -> Result<Dict, Problem> {
    let problem =
        |text: &str| Problem { place: place.to_owned(), key: String::new(), text: text.to_owned() };
    // Not by figment's `Data`, which turns an error into the parser's text, and so into the line.
    match Yaml::from_str::<Value>(text) {
        Ok(Value::Dict(_, dict)) => Ok(dict),
        Ok(Value::Empty(..)) => Ok(Dict::new()),
        Ok(_) => Err(problem("expected a mapping with keys such as `accounts:`")),
        // Only the place is told: the parser's own text quotes the line, which may hold a secret.
        Err(error) => Err(match error.location() {
            Some(at) => Problem {
                place: format!("{place}:{}:{}", at.line(), at.column()),
                key: String::new(),
                text: "is not valid YAML here".to_owned(),
            },
            None => problem("is not valid YAML"),
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

/// Whether a value comes from the environment.
pub(crate) fn is_from_environment(figment: &Figment, value: &Value) -> bool {
    figment.get_metadata(value.tag()).is_some_and(|metadata| metadata.name == ENVIRONMENT_NAME)
}

/// Null, as a value.
pub(crate) fn is_null(value: &Value) -> bool {
    matches!(value, Value::Empty(_, Empty::None | Empty::Unit))
}
