//! Reads keys from the merged layers. Collects all problems, and prints each key that is read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use figment::Figment;
use figment::value::{Dict, Value};

use super::duration;
use super::environment::bare;
use super::layers::{DEFAULTS, is_null, place_of};
use super::problem::Problem;
use super::shape;
use super::show;

/// Collects problems and printed keys while reading.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    figment: &'a Figment,
    pub(crate) problems: Vec<Problem>,
    /// The keys read so far with their values, as YAML; never a key that may hold a secret.
    pub(crate) shown: String,
}

/// A mapping whose keys are taken out one by one; those left at the end are unknown.
#[derive(Debug)]
pub(crate) struct Section {
    path: String,
    dict: Dict,
    known: Vec<&'static str>,
    given: BTreeSet<String>,
}

impl Section {
    pub(crate) fn new(path: &str, dict: Dict) -> Self {
        let given = dict.keys().cloned().collect();
        Self { path: path.to_owned(), dict, known: Vec::new(), given }
    }

    pub(crate) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a key out; null counts as missing.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.dict.remove(name).filter(|value| !is_null(value))
    }

    /// Whether a key was present, taken or not.
    pub(crate) fn was_given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.dict.get(name).is_some_and(|value| !is_null(value))
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(figment: &'a Figment) -> Self {
        Self { figment, problems: Vec::new(), shown: String::new() }
    }

    /// Records a problem with a value; shows only its shape.
    pub(crate) fn wrong(&mut self, section: &Section, name: &str, value: &Value, expected: &str) {
        self.expected(section, name, value, expected, &shape::describe(value));
    }

    /// Records a problem with the value of a key that can't hold a secret.
    fn wrong_plain(&mut self, section: &Section, name: &str, value: &Value, expected: &str) {
        self.expected(section, name, value, expected, &shape::plain(value));
    }

    fn expected(
        &mut self,
        section: &Section,
        name: &str,
        value: &Value,
        expected: &str,
        got: &str,
    ) {
        let key = section.key(name);
        let place = place_of(self.figment, value, &key);
        self.problems.push(Problem { place, key, text: format!("expected {expected}, got {got}") });
    }

    /// Records a problem that isn't about a single value.
    pub(crate) fn problem(&mut self, place: &str, key: String, text: String) {
        self.problems.push(Problem { place: place.to_owned(), key, text });
    }

    /// Prints a key.
    pub(crate) fn show(&mut self, section: &Section, name: &str, value: &str) {
        let levels = section.path.split(['.', '[']).filter(|part| !part.is_empty()).count();
        let line = format!("{}{name}: {value}", "  ".repeat(levels));
        self.shown += line.trim_end();
        self.shown += "\n";
    }

    /// Where a value comes from.
    pub(crate) fn place(&self, value: &Value, key: &str) -> String {
        place_of(self.figment, value, key)
    }

    pub(crate) fn section(&mut self, from: &mut Section, name: &'static str) -> Section {
        let path = from.key(name);
        let dict = match from.take(name) {
            None => Dict::new(),
            Some(Value::Dict(_, dict)) => dict,
            Some(other) => {
                self.wrong(from, name, &other, "a mapping");
                Dict::new()
            }
        };
        self.show(from, name, "");
        Section::new(&path, dict)
    }

    pub(crate) fn text(&mut self, section: &mut Section, name: &'static str) -> Option<String> {
        let value = section.take(name)?;
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(section, name, &value, "a string");
        }
        text
    }

    pub(crate) fn path(&mut self, section: &mut Section, name: &'static str) -> Option<PathBuf> {
        let value = section.take(name);
        let path = value.as_ref().and_then(Value::as_str).filter(|path| !path.is_empty());
        if let Some(value) = value.as_ref().filter(|_| path.is_none()) {
            self.wrong(section, name, value, "a path");
        }
        self.show(section, name, &show::json(&path));
        path.map(PathBuf::from)
    }

    pub(crate) fn flag(&mut self, section: &mut Section, name: &'static str) -> bool {
        let flag = match section.take(name) {
            None => false,
            Some(Value::Bool(_, flag)) => flag,
            Some(other) => {
                self.wrong_plain(section, name, &other, "`true` or `false`");
                false
            }
        };
        self.show(section, name, &flag.to_string());
        flag
    }

    pub(crate) fn number(
        &mut self,
        section: &mut Section,
        name: &'static str,
        min: usize,
        max: usize,
    ) -> usize {
        let mut read = min;
        if let Some(value) = section.take(name) {
            let number = value.to_u128().and_then(|number| usize::try_from(number).ok());
            match number.filter(|number| (min..=max).contains(number)) {
                Some(number) => read = number,
                None => {
                    let expected = format!("a whole number from {min} to {max}");
                    self.wrong_plain(section, name, &value, &expected);
                }
            }
        }
        self.show(section, name, &read.to_string());
        read
    }

    pub(crate) fn duration(
        &mut self,
        section: &mut Section,
        name: &'static str,
        min: Duration,
        max: Duration,
    ) -> Duration {
        let value = section.take(name);
        let read = value.and_then(|value| self.parse_duration(section, name, &value, min, max));
        let read = read.unwrap_or(min);
        self.show(section, name, &duration::show(read));
        read
    }

    fn parse_duration(
        &mut self,
        section: &Section,
        name: &str,
        value: &Value,
        min: Duration,
        max: Duration,
    ) -> Option<Duration> {
        let duration = value.as_str().and_then(duration::parse);
        let fits = duration.filter(|duration| (min..=max).contains(duration));
        if fits.is_none() {
            let mut expected = "a duration such as `30s`, `16m` or `24h`".to_owned();
            if duration.is_some() {
                expected =
                    format!("a duration from {} to {}", duration::show(min), duration::show(max));
            }
            self.wrong_plain(section, name, value, &expected);
        }
        fits
    }

    pub(crate) fn durations(
        &mut self,
        section: &mut Section,
        name: &'static str,
        min: Duration,
        max: Duration,
    ) -> Vec<Duration> {
        let values = self.list(section, name, "a list of durations such as `[15s, 2m]`");
        let each = values.iter();
        let read: Vec<Duration> =
            each.filter_map(|value| self.parse_duration(section, name, value, min, max)).collect();
        let shown: Vec<String> = read.iter().copied().map(duration::show).collect();
        self.show(section, name, &format!("[{}]", shown.join(", ")));
        read
    }

    pub(crate) fn texts(&mut self, section: &mut Section, name: &'static str) -> Vec<String> {
        let mut texts = Vec::new();
        for value in self.list(section, name, "a list of strings") {
            match value.as_str() {
                Some(text) => texts.push(bare(text).to_owned()),
                None => self.wrong(section, name, &value, "a list of strings"),
            }
        }
        self.show(section, name, &show::json(&texts));
        texts
    }

    pub(crate) fn list(
        &mut self,
        section: &mut Section,
        name: &'static str,
        expected: &str,
    ) -> Vec<Value> {
        match section.take(name) {
            None => Vec::new(),
            Some(Value::Array(_, values)) => values,
            Some(other) => {
                self.wrong(section, name, &other, expected);
                Vec::new()
            }
        }
    }

    /// Reports the keys that are left. A key that resembles a known one is a typo and is shown; any other may
    /// itself be a secret.
    pub(crate) fn finish(&mut self, section: Section) {
        let known: Vec<String> = section.known.iter().map(|name| format!("`{name}`")).collect();
        for (name, value) in &section.dict {
            let words = DEFAULTS.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            let is_typo = shape::is_misspelled(name, words.chain(section.known.iter().copied()));
            let place =
                place_of(self.figment, value, &section.key(if is_typo { name } else { "…" }));
            let (key, unknown) = if is_typo {
                (section.key(name), "unknown key".to_owned())
            } else {
                (section.path.clone(), format!("unknown key of {}", shape::text(name)))
            };
            let text = format!("{unknown}, expected one of {}", known.join(", "));
            self.problems.push(Problem { place, key, text });
        }
    }
}
