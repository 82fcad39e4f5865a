//! Replacing a configuration file: nothing may be lost silently.

use super::*;

const SECOND: &str = "AC00000000000000000000000000000002";

/// A file with two accounts, and settings before and after them.
fn whole() -> String {
    format!(
        "poll: {{ interval: 10s }}\naccounts:\n  - account_sid: {SID}\n    auth_token_env: T\n  - account_sid: {SECOND}\n    auth_token_env: T\nlimits:\n  hold_back: 1s\n  series: 500\n"
    )
}

/// Variables that name an account themselves, so that a file without accounts is valid.
fn variables() -> Environment {
    let mut variables = sdk_variables();
    variables.0.insert("T".to_owned(), MARK.to_owned());
    variables
}

fn origin(text: &str) -> Origin {
    load_text(text, &variables()).expect(text).origin
}

/// Replaces a file by another; returns the new origin or the problems.
fn replaced(previous: &str, text: &str) -> Result<Origin, String> {
    let (_directory, path) = written(text.as_bytes());
    let loaded = load_replacing(&origin(previous), Some(&path), &variables());
    let shown = path.display().to_string();
    let problems = loaded.map(|config| config.origin);
    problems.map_err(|problems| problems.to_string().replace(&shown, "FILE"))
}

#[test]
fn refuses_a_file_that_was_emptied() {
    let empty = "FILE: is empty and sets nothing; to run with the defaults, restart";
    for previous in [whole(), "poll: { interval: 10s }".to_owned(), "exemplars: false".to_owned()] {
        for text in [
            "",
            "\n",
            " \n",
            "# accounts",
            "---",
            "---\n...\n",
            "{}",
            "null",
            "~",
            "\u{feff}",
            "poll:",
            "accounts: ~",
            "limits: {}",
        ] {
            assert_eq!(replaced(&previous, text), Err(empty.to_owned()), "{text:?}");
        }
    }
    // A file that was empty at the start, as in a container, may stay empty.
    for previous in ["", "poll:\n", "{}"] {
        assert!(replaced(previous, "# nothing").is_ok(), "{previous:?}");
        assert!(replaced(previous, &whole()).is_ok(), "{previous:?}");
    }
    // Without accounts in the environment, this is the only problem.
    let (_directory, path) = written(b"");
    let problems = load_replacing(&origin(&whole()), Some(&path), &Environment::default());
    let problems = problems.expect_err("empty").to_string();
    assert!(problems.ends_with("restart") && problems.lines().count() == 1, "{problems}");
}

#[test]
fn the_environments_account_never_replaces_those_in_the_file() {
    let lost =
        "FILE: accounts: lists no accounts; to run with the account from the environment, restart";
    for text in ["accounts: []", "poll: { interval: 10s }", "accounts:\npoll: { interval: 10s }"] {
        assert_eq!(replaced(&whole(), text), Err(lost.to_owned()), "{text:?}");
        assert!(replaced("exemplars: true", text).is_ok(), "{text:?}");
    }
}

#[test]
fn a_truncated_file_is_refused_or_its_lost_keys_are_named() {
    let previous = whole();
    let before = origin(&previous);
    let mut accounts = Vec::new();
    for cut in 0..previous.len() {
        let text = &previous[..cut];
        match replaced(&previous, text) {
            Ok(origin) => {
                // Either a lost key is named, or only a line's end or part of the last value was cut off.
                let is_reported = !origin.removed_keys(&before).is_empty();
                assert!(is_reported || cut > previous.len() - 4, "{text}");
                accounts.push(load_text(text, &variables()).expect("valid").accounts.len());
            }
            Err(problems) => assert!(!problems.is_empty()),
        }
    }
    assert!(accounts.contains(&1) && accounts.contains(&2), "{accounts:?}");
    let lost = replaced(&previous, previous.split("limits").next().expect("a part"));
    assert_eq!(lost.expect("valid").removed_keys(&before), ["limits.hold_back", "limits.series"]);
    // A removed account loses no keys here; one that stays is reported with the keys it loses.
    let account =
        |sid: &str, keys: &str| format!("  - {{ account_sid: {sid}, auth_token_env: T{keys} }}\n");
    let one = account(SID, ", name: one, region: ie1, subaccounts: { discover: true }");
    let previous = format!("accounts:\n{one}{}", account(SECOND, ", name: two"));
    for (text, lost) in [
        (account(SECOND, ", name: two"), vec![]),
        (format!("{one}{}", account(SECOND, "")), vec![format!("accounts[{SECOND}].name")]),
        (
            account(SID, ", region: ie1"),
            vec![format!("accounts[{SID}].name"), format!("accounts[{SID}].subaccounts.discover")],
        ),
    ] {
        let replaced = replaced(&previous, &format!("accounts:\n{text}")).expect("valid");
        assert_eq!(replaced.removed_keys(&origin(&previous)), lost, "{text}");
    }
}
