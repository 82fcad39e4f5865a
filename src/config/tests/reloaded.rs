//! A file that takes the place of another one: what must not get lost in silence.

use super::*;

const SECOND: &str = "AC00000000000000000000000000000002";

/// A file with two accounts, and settings before and after them.
fn whole() -> String {
    format!(
        "poll: {{ interval: 10s }}\naccounts:\n  - account_sid: {SID}\n    auth_token_env: T\n  - account_sid: {SECOND}\n    auth_token_env: T\nlimits:\n  hold_back: 1s\n  series: 500\n"
    )
}

/// Variables that name an account of their own, so that a file without accounts is valid.
fn variables() -> Environment {
    let mut variables = sdk_variables();
    variables.0.insert("T".to_owned(), MARK.to_owned());
    variables
}

fn origin(text: &str) -> Origin {
    load_text(text, &variables()).expect(text).origin
}

/// What is said of a file that takes the place of another one; its origin, if nothing is.
fn replaced(former: &str, text: &str) -> Result<Origin, String> {
    let (_directory, path) = written(text.as_bytes());
    let loaded = load_after(&origin(former), Some(&path), &variables());
    let shown = path.display().to_string();
    let problems = loaded.map(|config| config.origin);
    problems.map_err(|problems| problems.to_string().replace(&shown, "FILE"))
}

#[test]
fn a_file_that_is_emptied_replaces_nothing() {
    let empty = "FILE: is empty: it sets nothing any more; to run with the defaults, restart";
    for former in [whole(), "poll: { interval: 10s }".to_owned(), "exemplars: false".to_owned()] {
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
            assert_eq!(replaced(&former, text), Err(empty.to_owned()), "{text:?}");
        }
    }
    // One that was empty at the start, as a container's may be, may stay so.
    for former in ["", "poll:\n", "{}"] {
        assert!(replaced(former, "# nothing").is_ok(), "{former:?}");
        assert!(replaced(former, &whole()).is_ok(), "{former:?}");
    }
    // Without other accounts that alone is said.
    let (_directory, path) = written(b"");
    let problems = load_after(&origin(&whole()), Some(&path), &Environment::default());
    let problems = problems.expect_err("empty").to_string();
    assert!(problems.ends_with("restart") && problems.lines().count() == 1, "{problems}");
}

#[test]
fn the_account_of_the_environment_takes_no_place_of_those_of_the_file() {
    let lost = "FILE: accounts: has no account any more; to run with the account of the environment, restart";
    for text in ["accounts: []", "poll: { interval: 10s }", "accounts:\npoll: { interval: 10s }"] {
        assert_eq!(replaced(&whole(), text), Err(lost.to_owned()), "{text:?}");
        assert!(replaced("exemplars: true", text).is_ok(), "{text:?}");
    }
}

#[test]
fn wherever_a_file_is_cut_off_something_is_said() {
    let former = whole();
    let before = origin(&former);
    let mut accounts = Vec::new();
    for cut in 0..former.len() {
        let text = &former[..cut];
        match replaced(&former, text) {
            Ok(origin) => {
                // Either a key is missing, or all that is cut off is a line's end or a part of the
                // last value.
                let is_told = !origin.lost(&before).is_empty();
                assert!(is_told || cut > former.len() - 4, "{text}");
                accounts.push(load_text(text, &variables()).expect("valid").accounts.len());
            }
            Err(problems) => assert!(!problems.is_empty()),
        }
    }
    assert!(accounts.contains(&1) && accounts.contains(&2), "{accounts:?}");
    let lost = replaced(&former, former.split("limits").next().expect("a part"));
    assert_eq!(lost.expect("valid").lost(&before), ["limits.hold_back", "limits.series"]);
    // An account that goes is told as such; of one that stays, what it loses.
    let account =
        |sid: &str, keys: &str| format!("  - {{ account_sid: {sid}, auth_token_env: T{keys} }}\n");
    let one = account(SID, ", name: one, region: ie1, subaccounts: { discover: true }");
    let former = format!("accounts:\n{one}{}", account(SECOND, ", name: two"));
    for (text, lost) in [
        (account(SECOND, ", name: two"), vec![]),
        (format!("{one}{}", account(SECOND, "")), vec![format!("accounts[{SECOND}].name")]),
        (
            account(SID, ", region: ie1"),
            vec![format!("accounts[{SID}].name"), format!("accounts[{SID}].subaccounts.discover")],
        ),
    ] {
        let replaced = replaced(&former, &format!("accounts:\n{text}")).expect("valid");
        assert_eq!(replaced.lost(&origin(&former)), lost, "{text}");
    }
}
