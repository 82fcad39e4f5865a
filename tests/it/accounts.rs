//! Renaming, removing and restoring accounts on the same store, and many subaccounts.

use twilio_call_exporter::simulator::WorldConfig;

use crate::harness::{Program, Twilio, eventually, metric, ongoing_calls, world_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_account_keeps_its_values_under_the_new_name() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let mut program = Program::polling(&twilio).await;
    let before = wait_for_calls(&program, &sid(&twilio, 0), 10.0).await;
    program = program.restart_with(&twilio, &[(0, "acme"), (1, "beta")]).await;
    let after = eventually("the account is loaded", async || {
        let scrape = program.scrape().await;
        metric("twilio_calls_total").label("account", "acme").value_in(&scrape).map(|_| scrape)
    })
    .await;
    let calls = |name: &str| metric("twilio_calls_total").label("account", name);
    assert!(calls("acme").value_in(&after) >= Some(before));
    assert_eq!(calls(&sid(&twilio, 0)).value_in(&after), None);
    // With the old names, everything is counted once, including the calls since the rename.
    let mut program = program.restart_with(&twilio, &[(0, ""), (1, "")]).await;
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_account_disappears_and_resumes_from_its_values_when_restored() {
    let twilio = Twilio::serving(ongoing_calls(2, 60)).await;
    let mut program = Program::polling(&twilio).await;
    let removed = sid(&twilio, 1);
    let before = wait_for_calls(&program, &removed, 10.0).await;
    program = program.restart_with(&twilio, &[(0, "")]).await;
    let kept = sid(&twilio, 0);
    wait_for_calls(&program, &kept, 20.0).await;
    let scrape = program.scrape().await;
    assert!(!scrape.text.contains(&removed), "the removed account still has series");
    let mut program = program.restart_with(&twilio, &[(0, ""), (1, "")]).await;
    assert!(wait_for_calls(&program, &removed, 1.0).await >= before);
    twilio.wait_until_counted_by(&mut program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_subaccounts_are_counted_with_a_concurrency_of_4() {
    let world = WorldConfig { subaccounts: 250, ..world_of(2) };
    let twilio = Twilio::serving(world).await;
    let parent = twilio.accounts()[0].clone();
    let text = format!(
        "accounts:\n  - {{ account_sid: {}, auth_token_env: TOKEN, base_url: '{}', subaccounts: {{ discover: true }} }}\napi: {{ max_total_concurrency: 4 }}\npoll: {{ interval: 5s, after_end: [1s], settle_delay: 3s }}\nlimits: {{ hold_back: 0s }}\n",
        parent.account_sid,
        twilio.url()
    );
    let mut program = Program::configured(&text, &[("TOKEN", &parent.auth_token)]).await;
    twilio.wait_until_counted_by(&mut program).await;
    let scrape = program.scrape().await;
    assert_eq!(metric("twilio_account_info").value_in(&scrape), Some(251.0));
    assert_eq!(metric("twilio_exporter_up").value_in(&scrape), Some(251.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_subaccounts_in_two_regions_have_distinct_labels() {
    let twilio = Twilio::serving(WorldConfig { subaccounts: 2, ..world_of(2) }).await;
    let parent = twilio.accounts()[0].clone();
    let account = format!(
        "account_sid: {}, auth_token_env: TOKEN, base_url: '{}', subaccounts: {{ discover: true }}",
        parent.account_sid,
        twilio.url()
    );
    let text = format!(
        "accounts:\n  - {{ name: home, {account} }}\n  - {{ name: ireland, region: ie1, {account} }}\npoll: {{ interval: 1s, after_end: [1s], settle_delay: 3s }}\n"
    );
    let program = Program::configured(&text, &[("TOKEN", &parent.auth_token)]).await;
    eventually("all accounts are polled", async || {
        metric("twilio_exporter_up").is_in(&program.scrape().await, 6.0).then_some(())
    })
    .await;
    let scrape = program.scrape().await;
    let shown: Vec<&str> = scrape
        .text
        .lines()
        .filter(|line| line.starts_with("twilio_account_info{"))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    let [_, one, other] = &twilio.accounts()[..] else { panic!("three accounts") };
    let (one, other) = (&one.account_sid, &other.account_sid);
    let mut expected =
        ["home", "ireland", one, &format!("{one}@ie1"), other, &format!("{other}@ie1")];
    expected.sort_unstable();
    assert_eq!(shown, expected);
}

/// Waits until at least `calls` calls of an account are counted; returns the count.
async fn wait_for_calls(program: &Program, account: &str, calls: f64) -> f64 {
    eventually("calls are counted", async || {
        let metric = metric("twilio_calls_total").label("account", account);
        metric.value_in(&program.scrape().await).filter(|count| *count >= calls)
    })
    .await
}

fn sid(twilio: &Twilio, index: usize) -> String {
    twilio.accounts()[index].account_sid.clone()
}
