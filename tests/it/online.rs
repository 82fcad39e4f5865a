//! `check-config --online`: whether the credentials can read each resource.

use std::time::Duration;

use tempfile::TempDir;
use twilio_call_exporter::simulator::{Behaviour, WorldConfig};

use crate::harness::{Ended, Twilio, run, world_of};

#[tokio::test(flavor = "multi_thread")]
async fn reports_a_readable_account_and_its_request_rate() {
    let twilio = Twilio::serving(world_of(30)).await;
    let ended = check(&twilio, &twilio.accounts()[0].auth_token).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (_, rest) = ended.stdout.split_once("calls         readable: ").expect(&ended.stdout);
    let calls: u32 = rest.split(' ').next().and_then(|text| text.parse().ok()).expect(rest);
    assert!((30..60).contains(&calls), "{calls} calls and their child legs");
    let (least, most) = ((calls * 110).div_ceil(100), calls * 5);
    for expected in [
        "one call      readable",
        "Call Events   readable",
        "error log     readable: ",
        &format!(
            "150 lists, 240 error log reads and {least} to {most} Call Event reads an hour, at most 4 at a time"
        ),
        "concurrency   0.0 to 0.0 concurrent requests needed, at ",
    ] {
        assert!(ended.stdout.contains(expected), "{expected}: {}", ended.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_wrong_credentials_and_missing_permissions() {
    let twilio = Twilio::serving(world_of(3)).await;
    let ended = check(&twilio, "a wrong token").await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stdout
            .contains("calls         NOT readable: Twilio refuses the credentials (HTTP 401, Twilio error 20003): check the Account SID"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("a wrong token") && !ended.stderr.contains("a wrong token"));
    let refuse = |uri: &str, _| {
        let body = r#"{"code":70051,"message":"Authorization Error: required permission twilio/voice/request-inspector/read is missing","status":401}"#;
        uri.contains("/Events.json").then_some((401, "application/json", body))
    };
    let twilio = Twilio::answering(world_of(3), refuse).await;
    let ended = check(&twilio, &twilio.accounts()[0].auth_token).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("calls         readable: "), "{}", ended.stdout);
    let expected = "Call Events   NOT readable: the API key lacks the permission `/twilio/voice/request-inspector/read`";
    assert!(ended.stdout.contains(expected), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_an_unreadable_error_log_but_succeeds() {
    let twilio = Twilio::serving(world_of(3)).await;
    twilio.set_behaviour(Behaviour { error_log_refused: true, ..Behaviour::default() });
    let ended = check(&twilio, &twilio.accounts()[0].auth_token).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    let expected = "error log     NOT readable, so pages come up to 16 minutes late: the API key lacks the permission `/twilio/monitor/alerts/list`";
    assert!(ended.stdout.contains(expected), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_calls_of_the_last_hour_even_if_filters_are_truncated_to_days() {
    let world = WorldConfig {
        calls_per_minute: 1.0,
        max_calls: Some(300),
        backlog: Duration::from_secs(5 * 3600),
        ..world_of(1)
    };
    let twilio = Twilio::serving(world).await;
    let token = twilio.accounts()[0].auth_token.clone();
    let calls = async || {
        let ended = check(&twilio, &token).await;
        let (_, rest) = ended.stdout.split_once("calls         readable: ").expect(&ended.stdout);
        rest.split(' ').next().and_then(|text| text.parse::<u32>().ok()).expect("a number")
    };
    let exactly = calls().await;
    twilio.set_behaviour(Behaviour { day_filters: true, ..Behaviour::default() });
    assert!(calls().await.abs_diff(exactly) <= 2, "counts calls outside the last hour");
    assert!((30..130).contains(&exactly), "{exactly}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_subaccounts_if_discovery_is_enabled() {
    let twilio = Twilio::serving(WorldConfig { subaccounts: 3, ..world_of(3) }).await;
    let account = twilio.accounts()[0].clone();
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("exporter.yml");
    let text = format!(
        "accounts: [ {{ name: prod, account_sid: {}, auth_token_env: TOKEN, base_url: '{}', subaccounts: {{ discover: true }} }} ]",
        account.account_sid,
        twilio.url()
    );
    std::fs::write(&file, text).expect("written");
    let flag = format!("--config.file={}", file.display());
    let checked = tokio::task::spawn_blocking(move || {
        run(&[&flag, "check-config", "--online"], &[("TOKEN", &account.auth_token)])
    });
    let ended = checked.await.expect("no panic");
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.stdout.contains("account `prod` ("), "{}", ended.stdout);
    assert!(ended.stdout.contains("subaccounts   readable: 3\n"), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_a_refused_connection() {
    let twilio = Twilio::serving(world_of(1)).await;
    let account = twilio.accounts()[0].clone();
    let variables = [
        ("TWILIO_ACCOUNT_SID", account.account_sid.as_str()),
        ("TWILIO_AUTH_TOKEN", "x"),
        ("TWILIO_API_BASE_URL", "http://127.0.0.1:9"),
    ];
    let ended = run(&["check-config", "--online"], &variables);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("NOT readable: cannot connect"), "{}", ended.stdout);
}

async fn check(twilio: &Twilio, token: &str) -> Ended {
    let (sid, token, url) =
        (twilio.accounts()[0].account_sid.clone(), token.to_owned(), twilio.url().to_owned());
    let checked = tokio::task::spawn_blocking(move || {
        let variables = [
            ("TWILIO_ACCOUNT_SID", sid.as_str()),
            ("TWILIO_AUTH_TOKEN", &token),
            ("TWILIO_API_BASE_URL", &url),
        ];
        run(&["check-config", "--online"], &variables)
    });
    checked.await.expect("no panic")
}
