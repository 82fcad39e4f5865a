//! Checks of code conventions: imports between modules, file headers, file sizes.

use std::fs;
use std::path::{Path, PathBuf};

/// The maximum number of lines in a file.
const MAX_LINES: usize = 400;

/// The modules or items that each part of the crate may import from the crate.
const MAY_IMPORT: [(&str, &[&str]); 18] = [
    ("domain/engine", &["domain::engine", "domain::track", "domain::judge", "domain::words"]),
    ("domain/track", &["domain::track", "domain::judge", "domain::words"]),
    ("domain/judge", &["domain::judge", "domain::words"]),
    ("domain/words", &["domain::words"]),
    ("metrics", &["metrics", "domain"]),
    ("store", &["store", "metrics", "domain"]),
    ("twilio", &["twilio", "domain"]),
    ("poller", &["poller", "twilio", "store", "metrics", "domain", "clock"]),
    // It uses the parts of the poll loops, but neither their metrics nor the store, apart from its codec.
    (
        "backfill",
        &[
            "backfill",
            "cli",
            "config",
            "app::accounts",
            "poller::Account",
            "poller::sender",
            "poller::subaccount",
            "poller::random",
            "twilio",
            "store::AccountKey",
            "store::backup",
            "store::codec",
            "metrics::ledger",
            "metrics::snapshot",
            "metrics::exposition",
            "domain",
            "clock",
        ],
    ),
    ("http", &["http", "web", "metrics", "domain", "store::failures"]),
    // Its file is read the same way as the configuration.
    ("web", &["web", "config"]),
    ("simulator", &["simulator"]),
    // It produces the settings of the other modules, such as the limits of the ledger.
    ("config", &["config", "domain", "twilio", "metrics::ledger::LedgerLimits"]),
    ("cli", &["cli", "config"]),
    ("logging", &["cli"]),
    ("clock", &[]),
    ("signal", &[]),
    ("systemd", &[]),
];

/// Words that must not occur in the pure parts.
const IMPURE: [&str; 8] =
    ["tokio", "reqwest", "axum", "tracing", "rusqlite", "serde", "std::env::var", "Timestamp::now"];

#[test]
fn modules_import_only_allowed_modules() {
    for (part, allowed) in MAY_IMPORT {
        for file in files_of(part) {
            for (number, line) in code(&file) {
                for import in line.match_indices("crate::").map(|(at, _)| &line[at + 7..]) {
                    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
                    let path = import.split(|c| !is_name(c)).next().unwrap_or_default();
                    let is_within =
                        |module: &&str| format!("{path}::").starts_with(&format!("{module}::"));
                    assert!(
                        allowed.iter().any(is_within) || path.is_empty(),
                        "{}:{number}: {part} may not import {path}",
                        file.display()
                    );
                }
            }
        }
    }
}

#[test]
fn the_core_is_pure() {
    for part in ["domain", "metrics"] {
        for file in files_of(part) {
            for (number, line) in code(&file) {
                for word in IMPURE {
                    assert!(
                        !mentions(&line, word),
                        "{}:{number}: {part} mentions {word}",
                        file.display()
                    );
                }
            }
        }
    }
}

#[test]
fn every_file_has_a_header_and_is_not_too_long() {
    for file in all_files() {
        let text = fs::read_to_string(&file).expect("read");
        assert!(text.starts_with("//! "), "{} has no header", file.display());
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", file.display());
    }
}

#[test]
fn only_main_prints_or_exits() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_library = |file: &PathBuf| file.starts_with(&source) && *file != source.join("main.rs");
    for file in all_files().into_iter().filter(is_library) {
        for (number, line) in code(&file) {
            for word in ["println!", "eprintln!", "print!", "process::exit"] {
                assert!(!line.contains(word), "{}:{number}: {word}", file.display());
            }
        }
    }
}

/// The numbered lines of a file before its test module, without comments.
fn code(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).expect("read");
    let until_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = until_tests.lines().enumerate();
    let code = lines.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()));
    code.map(|(number, line)| (number, line.to_owned())).collect()
}

fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let is_name = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        !is_name(before) && !is_name(after)
    })
}

fn files_of(part: &str) -> Vec<PathBuf> {
    let files = all_files();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let found: Vec<PathBuf> = files
        .into_iter()
        .filter(|file| {
            !file.ends_with("tests.rs") && !file.components().any(|c| c.as_os_str() == "tests")
        })
        .filter(|file| {
            file.starts_with(source.join(part)) || *file == source.join(format!("{part}.rs"))
        })
        .collect();
    assert!(!found.is_empty(), "no files in {part}");
    found
}

fn all_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
