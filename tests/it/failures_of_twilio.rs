//! Failures of Twilio or the network never end the program or block another account.

use twilio_call_exporter::simulator::{Behaviour, Stall, WorldConfig};

use crate::harness::{Program, Twilio, eventually, everything, metric, world_of};

#[tokio::test(flavor = "multi_thread")]
async fn rejected_credentials_are_logged_once_and_block_no_other_account() {
    let twilio = Twilio::serving(WorldConfig { accounts: 2, ..world_of(20) }).await;
    let rejected = twilio.accounts()[0].account_sid.clone();
    let other = twilio.accounts()[1].account_sid.clone();
    twilio
        .set_behaviour(Behaviour { unauthorized: vec![rejected.clone()], ..Behaviour::default() });
    let program = Program::polling(&twilio).await;
    let scrape = eventually("both accounts are polled", async || {
        let scrape = program.scrape().await;
        let up = |account: &str| {
            metric("twilio_exporter_up").label("account", account).value_in(&scrape)
        };
        (up(&rejected) == Some(0.0) && up(&other) == Some(1.0)).then_some(scrape)
    })
    .await;
    let code = metric("twilio_exporter_api_requests_total")
        .label("account", &rejected)
        .label("code", "401");
    assert!(
        code.value_in(&scrape).is_some_and(|n| (1.0..3.0).contains(&n)),
        "401s: {:?}",
        code.value_in(&scrape)
    );
    let log = program.log();
    assert!(log.contains("(HTTP 401, Twilio error 20003): check the Account SID"), "{log}");
    assert_eq!(log.matches("cannot read from Twilio").count(), 1, "not logged exactly once: {log}");
    assert_eq!(program.get("/-/ready").await.0, 200);
    twilio.set_behaviour(Behaviour::default());
    eventually("the other account is counted", async || {
        let calls = metric("twilio_calls_total").label("account", &other);
        calls.value_in(&program.scrape().await).filter(|calls| *calls > 0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_logged_and_calls_are_still_listed() {
    let twilio = Twilio::serving(world_of(20)).await;
    twilio.set_behaviour(Behaviour { missing_permission: true, ..Behaviour::default() });
    let program = Program::polling(&twilio).await;
    eventually("the permission is logged", async || {
        program
            .log()
            .contains("lacks the permission `/twilio/voice/request-inspector/read`")
            .then_some(())
    })
    .await;
    let scrape = program.scrape().await;
    assert!(metric("twilio_exporter_up").is_in(&scrape, 1.0));
    assert!(metric("twilio_calls_total").value_in(&scrape).is_some_and(|calls| calls > 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_nothing() {
    let twilio = Twilio::serving(world_of(20)).await;
    twilio.set_behaviour(Behaviour { outage: true, ..Behaviour::default() });
    let mut program = Program::polling(&twilio).await;
    eventually("the outage is detected", async || {
        metric("twilio_exporter_up").is_in(&program.scrape().await, 0.0).then_some(())
    })
    .await;
    let (status, _) = program.get("/-/ready").await;
    assert_eq!(status, 200, "an outage of Twilio doesn't call for a restart");
    twilio.set_behaviour(Behaviour::default());
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_requests_time_out_and_are_retried() {
    let twilio = Twilio::serving(world_of(10)).await;
    let stall = Stall { permille: 1_000, seconds: 3 };
    twilio.set_behaviour(Behaviour { stall, ..Behaviour::default() });
    let variables = [("TWILIO_EXPORTER_API__TIMEOUT", "500ms")];
    let mut program = Program::polling_with(&twilio, &variables).await;
    eventually("timeouts are counted", async || {
        let scrape = program.scrape().await;
        let unanswered = metric("twilio_exporter_api_requests_total").label("code", "none");
        let timeouts = metric("twilio_exporter_api_retries_total").label("reason", "timeout");
        let timeouts = timeouts.value_in(&scrape).filter(|timeouts| *timeouts > 0.0);
        unanswered.value_in(&scrape).and(timeouts)
    })
    .await;
    twilio.set_behaviour(Behaviour::default());
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_or_foreign_next_page_leaves_lists_and_reads_incomplete() {
    for (behaviour, reason) in [
        (Behaviour { looping_next_page: true, ..Behaviour::default() }, "repeated_page"),
        (Behaviour { foreign_next_page: true, ..Behaviour::default() }, "foreign_next_page"),
    ] {
        let twilio = Twilio::serving(world_of(20)).await;
        twilio.set_behaviour(behaviour);
        let mut program = Program::polling(&twilio).await;
        eventually("calls are found", async || {
            let calls = metric("twilio_calls_total").value_in(&program.scrape().await);
            calls.filter(|calls| *calls > 0.0)
        })
        .await;
        // The pages that were read are counted.
        let scrape = twilio.wait_until_counted_by(&mut program).await;
        let retries = metric("twilio_exporter_api_retries_total").label("reason", reason);
        assert!(retries.value_in(&scrape).is_some_and(|retries| retries > 0.0), "{reason}");
        let success = metric("twilio_exporter_last_success_timestamp_seconds");
        assert_eq!(success.value_in(&scrape), None, "{reason}");
        let settled = metric("twilio_exporter_call_reads_total").label("stage", "settling");
        let found = settled.label("result", "found");
        assert!(found.is_in(&scrape, 0.0), "{reason}: {:?}", found.value_in(&scrape));
        assert!(program.log().contains("stopped before its end"), "{}", program.log());
        twilio.set_behaviour(Behaviour::default());
        eventually("lists and reads are complete again", async || {
            let scrape = program.scrape().await;
            success.value_in(&scrape)?;
            found.value_in(&scrape).filter(|found| *found > 0.0)
        })
        .await;
        eventually("the log reports that lists can be read again", async || {
            let log = program.log();
            let mut recoveries =
                log.lines().filter(|line| line.contains("can read from Twilio again"));
            recoveries.any(|line| line.contains(r#""resource":"calls""#)).then_some(())
        })
        .await;
        twilio.wait_until_counted_by(&mut program).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_events_list_is_abandoned_at_the_limit() {
    let page = |uri: &str, before: u64| {
        let next = uri.split('?').next().unwrap_or_default();
        uri.contains("/Events.json").then(|| {
            let event = format!(
                r#"{{"request":{{"method":"GET","url":"https://a.example/{before}"}},"response":{{"response_code":200}}}}"#
            );
            let page = format!(r#"{{"events":[{event}],"next_page_uri":"{next}?Page={before}"}}"#);
            (200, "application/json", page)
        })
    };
    let twilio = Twilio::answering(world_of(1), page).await;
    let mut program = Program::polling(&twilio).await;
    eventually("the endless list is abandoned", async || {
        let abandoned = metric("twilio_exporter_api_retries_total").label("reason", "endless");
        abandoned.value_in(&program.scrape().await).filter(|count| *count > 0.0)
    })
    .await;
    let scrape = program.scrape().await;
    assert_eq!(metric("twilio_webhook_requests_total").value_in(&scrape), None);
    program.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_one_event_pages_counts_the_event_once() {
    // Larger pages exceed the size limit, so pages of one event are requested.
    let page = |uri: &str, _| {
        let (path, query) = uri.split_once("/Events.json?")?;
        if !query.contains("PageSize=1&") && !query.ends_with("PageSize=1") {
            return Some((200, "application/json", " ".repeat(17 << 20)));
        }
        let event = r#"{"request":{"method":"GET","url":"https://a.example/x"},"response":{"response_code":200}}"#;
        let next = format!("{path}/Events.json?PageSize=1&Page=1");
        let page = format!(r#"{{"events":[{event}],"next_page_uri":"{next}"}}"#);
        Some((200, "application/json", page))
    };
    let twilio = Twilio::answering(world_of(1), page).await;
    let program = Program::polling(&twilio).await;
    let scrape = eventually("reads stop at the repeated page", async || {
        let scrape = program.scrape().await;
        let duplicate = metric("twilio_exporter_call_events_total").label("result", "duplicate");
        duplicate.value_in(&scrape).filter(|seen| *seen >= 3.0).map(|_| scrape)
    })
    .await;
    let calls = metric("twilio_calls_total").value_in(&scrape).expect("a call");
    let requests = metric("twilio_webhook_requests_total").value_in(&scrape);
    assert!(requests.is_some_and(|requests| requests <= calls), "{requests:?} of {calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_responses_are_counted_by_reason_and_lists_continue() {
    for (status, content_type, body, reason) in [
        (200, "text/html", "<html>Sorry</html>", "malformed"),
        (200, "application/json", "{\"events\":[{\"requ", "malformed"),
        (404, "application/json", "{}", "not_found"),
        (302, "text/html", "", "unexpected_status"),
        (429, "application/json", "{}", "throttled"),
        (500, "application/json", "{}", "server_error"),
    ] {
        let answer = move |uri: &str, _| {
            uri.contains("/Events.json").then(|| (status, content_type, body.to_owned()))
        };
        let twilio = Twilio::answering(world_of(3), answer).await;
        let mut program = Program::polling(&twilio).await;
        eventually(reason, async || {
            let failed = metric("twilio_exporter_api_retries_total").label("reason", reason);
            failed.value_in(&program.scrape().await).filter(|failed| *failed > 0.0)
        })
        .await;
        program.assert_running();
        let scrape = program.scrape().await;
        assert!(metric("twilio_exporter_up").is_in(&scrape, 1.0), "{reason}: lists fail");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persistently_failing_twilio_gets_few_requests() {
    let answer = |_: &str, _| Some((500, "application/json", "{}".to_owned()));
    let twilio = Twilio::answering(everything(1, 1), answer).await;
    let program = Program::polling(&twilio).await;
    let began = std::time::Instant::now();
    eventually("eight seconds of failures", async || {
        (began.elapsed().as_secs() >= 8).then_some(())
    })
    .await;
    // Backoffs of 0.5, 1, 2 and 4 s with at least half of each waited: at most eight attempts in eight seconds.
    let requests = twilio.requests();
    assert!((2..=8).contains(&requests), "{requests} requests in 8 s");
    drop(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_system_certificates_are_needed_over_plain_http() {
    let twilio = Twilio::serving(world_of(3)).await;
    let variables = [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")];
    let mut program = Program::polling_with(&twilio, &variables).await;
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subaccounts_are_found_and_polled() {
    let twilio = Twilio::serving(WorldConfig { subaccounts: 2, ..world_of(10) }).await;
    let parent = twilio.accounts()[0].clone();
    // One of them is also configured as an account: it must not be polled and counted twice.
    let own = twilio.accounts()[1].account_sid.clone();
    let text = format!(
        "accounts:\n  - {{ account_sid: {own}, auth_token_env: OWN, base_url: '{}' }}\n  - account_sid: {}\n    auth_token_env: TOKEN\n    base_url: {}\n    subaccounts: {{ discover: true }}\npoll: {{ interval: 1s, after_end: [1s], settle_delay: 3s }}\nlimits: {{ hold_back: 0s }}\n",
        twilio.url(),
        parent.account_sid,
        twilio.url()
    );
    let own_token = twilio.accounts()[1].auth_token.clone();
    let variables = [("TOKEN", parent.auth_token.as_str()), ("OWN", &own_token)];
    let mut program = Program::configured(&text, &variables).await;
    twilio.wait_until_counted_by(&mut program).await;
    let scrape = program.scrape().await;
    assert_eq!(metric("twilio_account_info").value_in(&scrape), Some(3.0));
}
