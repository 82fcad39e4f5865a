//! The command line: exit codes, help, `check-config`, and errors at startup.

use crate::harness::{Program, Twilio, run, world_of};

const SID: &str = "AC00000000000000000000000000000001";
const TOKEN: &str = "marked-secret-0123456789";

#[test]
fn missing_credentials_exit_78_and_name_the_variables() {
    let ended = run(&[], &[]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("TWILIO_ACCOUNT_SID") && ended.stderr.contains("demo"));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn all_configuration_problems_are_reported_together_without_secrets() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config/many-problems.yml");
    let ended = run(&["--config.file", file, "check-config"], &[("TOKEN", TOKEN)]);
    assert_eq!(ended.code, Some(78));
    for key in [
        "poll.interval",
        "poll.intervall",
        "api.max_concurrency",
        "accounts[0].account_sid",
        "accounts[0].auth_token",
        "routes[0]",
    ] {
        assert!(
            ended.stderr.contains(&format!("many-problems.yml: {key}: ")),
            "{key} in {}",
            ended.stderr
        );
    }
    assert!(!ended.stderr.contains("marked-secret"), "{}", ended.stderr);
}

#[test]
fn check_config_prints_the_effective_configuration_without_secrets() {
    let variables = [("TWILIO_ACCOUNT_SID", SID), ("TWILIO_AUTH_TOKEN", TOKEN)];
    let ended = run(&["check-config"], &variables);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in [&format!("account_sid: {SID}"), "settle_delay: 16m", "<redacted>"] {
        assert!(ended.stdout.contains(line), "{line} in {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("marked-secret") && !ended.stderr.contains("marked-secret"));
}

#[test]
fn an_invalid_command_line_exits_64() {
    for arguments in
        [&["--nonsense"][..], &["nonsense"], &["--log.level=loud"], &["--web.listen-address=x"]]
    {
        assert_eq!(run(arguments, &[]).code, Some(64), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_printed() {
    let version = run(&["--version"], &[]);
    assert_eq!(version.code, Some(0));
    let expected = format!("twilio-call-exporter version {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version.stdout, expected);
    let help = run(&["--help"], &[]);
    for flag in [
        "--config.file",
        "--storage.path",
        "--web.listen-address",
        "--log.level",
        "check-config",
        "demo",
    ] {
        assert!(help.stdout.contains(flag), "{flag} in {}", help.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_program_on_the_same_store_names_the_process_that_uses_it() {
    let twilio = Twilio::serving(world_of(1)).await;
    let program = Program::polling(&twilio).await;
    let storage = format!("--storage.path={}", program.storage().display());
    let variables = [("TWILIO_ACCOUNT_SID", SID), ("TWILIO_AUTH_TOKEN", TOKEN)];
    let second = run(&[&storage, "--web.listen-address=127.0.0.1:0"], &variables);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("in use by process"), "{}", second.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named_and_exits_1() {
    let twilio = Twilio::serving(world_of(1)).await;
    let program = Program::polling(&twilio).await;
    let directory = tempfile::TempDir::new().expect("a directory");
    let storage = format!("--storage.path={}", directory.path().display());
    let listen = format!("--web.listen-address={}", program.address());
    let variables = [("TWILIO_ACCOUNT_SID", SID), ("TWILIO_AUTH_TOKEN", TOKEN)];
    let ended = run(&[&storage, &listen], &variables);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains(program.address()) && ended.stderr.contains("--web.listen-address"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_twilios_sdks_are_enough_to_run() {
    let twilio = Twilio::serving(world_of(5)).await;
    let account = &twilio.accounts()[0];
    let variables = [
        ("TWILIO_ACCOUNT_SID", account.account_sid.as_str()),
        ("TWILIO_AUTH_TOKEN", &account.auth_token),
        ("TWILIO_API_BASE_URL", twilio.url()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let directory = std::sync::Arc::new(tempfile::TempDir::new().expect("a directory"));
    let program = Program::start(directory, variables.into_iter().collect(), Vec::new()).await;
    crate::harness::eventually("calls are found", async || {
        let calls = crate::harness::metric("twilio_calls_total");
        calls.value_in(&program.scrape().await).filter(|calls| *calls > 0.0)
    })
    .await;
    assert!(!program.log().contains(&account.auth_token));
}
