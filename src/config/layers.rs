//! The layers of a configuration, as figment providers that know their name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use figment::providers::{Data, Format};
use figment::value::{Dict, Empty, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Prefix of the environment variables that stand for keys.
pub(super) const PREFIX: &str = "TWILIO_EXPORTER_";
/// The defaults: the example file itself, so that the two can't differ.
const DEFAULTS: &str = include_str!("../../config/exporter.yml");
/// Name of the layer of defaults.
const DEFAULTS_NAME: &str = "defaults";
/// Name of the layer of the environment.
const ENVIRONMENT_NAME: &str = "environment";
/// Most bytes of a configuration file: thousands of accounts.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// YAML for figment, by serde-saphyr.
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
struct Layer<P> {
    name: String,
    provider: P,
}

impl<P: Provider> Provider for Layer<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        self.provider.data()
    }
}

/// Values that were put together here.
struct Values(Dict);

impl Provider for Values {
    fn metadata(&self) -> Metadata {
        Metadata::named(ENVIRONMENT_NAME)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

/// The layers, merged.
pub(super) fn merge(
    file: Option<&Path>,
    environment: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Figment {
    let mut figment = Figment::new()
        .merge(Layer { name: DEFAULTS_NAME.to_owned(), provider: Data::<Yaml>::string(DEFAULTS) });
    if let Some(path) = file {
        match read_file(path) {
            Ok(text) => {
                let name = path.display().to_string();
                figment = figment.merge(Layer { name, provider: Data::<Yaml>::string(&text) });
            }
            Err(problem) => problems.push(problem),
        }
    }
    let variables = environment.iter().filter_map(|(name, value)| {
        let path = name.strip_prefix(PREFIX).filter(|path| !is_service_link(path, environment))?;
        Some((path.to_ascii_lowercase().replace("__", "."), value))
    });
    let mut values = Dict::new();
    for (path, value) in variables {
        insert(&mut values, &path, value);
    }
    figment.merge(Values(values))
}

/// Whether Kubernetes has set a variable for a Service named `twilio-exporter`: it has our prefix,
/// and is none of our keys.
fn is_service_link(path: &str, environment: &BTreeMap<String, String>) -> bool {
    environment.contains_key(&format!("{PREFIX}SERVICE_HOST"))
        && (path.starts_with("SERVICE_") || path == "PORT" || path.starts_with("PORT_"))
}

fn insert(dict: &mut Dict, path: &str, text: &str) {
    match path.split_once('.') {
        None => {
            // Numbers, lists and booleans are read as such, anything else is a text.
            let value = text.parse::<Value>().unwrap_or_else(|_| Value::from(text));
            dict.insert(path.to_owned(), value);
        }
        Some((head, tail)) => {
            let entry = dict.entry(head.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert(inner, tail, text);
            }
        }
    }
}

/// Reads a file as far as it is YAML with a mapping at the top.
fn read_file(path: &Path) -> Result<String, Problem> {
    let place = path.display().to_string();
    let problem = |text: String| Problem { place: place.clone(), key: String::new(), text };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| problem(format!("cannot be read: {error}")))?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > MAX_FILE_BYTES) {
        return Err(problem(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    match serde_saphyr::from_str::<Value>(&text) {
        Ok(Value::Dict(..)) => Ok(text),
        Ok(Value::Empty(..)) => Ok("{}".to_owned()),
        Ok(_) => Err(problem("found no mapping, wanted keys such as `accounts:`".to_owned())),
        // Only the place is told: the parser's own text quotes the line, which may hold a secret.
        Err(error) => Err(match error.location() {
            Some(at) => Problem {
                place: format!("{place}:{}:{}", at.line(), at.column()),
                key: String::new(),
                text: "is not valid YAML here".to_owned(),
            },
            None => problem("is not valid YAML".to_owned()),
        }),
    }
}

/// Where a value comes from, for a message.
pub(super) fn place_of(figment: &Figment, value: &Value, key: &str) -> String {
    let name = figment.get_metadata(value.tag()).map_or(DEFAULTS_NAME, |metadata| &metadata.name);
    if name == ENVIRONMENT_NAME {
        let variable = key.to_ascii_uppercase().replace('.', "__");
        format!("environment variable {PREFIX}{variable}")
    } else {
        name.to_owned()
    }
}

/// Whether a value comes from the environment.
pub(super) fn is_from_environment(figment: &Figment, value: &Value) -> bool {
    figment.get_metadata(value.tag()).is_some_and(|metadata| metadata.name == ENVIRONMENT_NAME)
}

/// Null, as a value.
pub(super) fn is_null(value: &Value) -> bool {
    matches!(value, Value::Empty(_, Empty::None | Empty::Unit))
}
