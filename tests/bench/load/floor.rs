//! The floor: fetches the same pages over as many connections and parses them, but does nothing else.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::task::JoinSet;

use super::ROLE;
use super::process::{Process, Usage};
use super::twilio::{Shape, account_sid, call_sid};

/// The time and resources that a run took.
pub(crate) struct Run {
    pub took: Duration,
    pub usage: Usage,
}

/// Runs the floor as a process that reads from the Twilio at `url`.
pub(crate) fn measure(url: &str, shape: Shape, connections: u64) -> anyhow::Result<Run> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, "floor").env("LOAD_URL", url);
    for (name, value) in [
        ("LOAD_ACCOUNTS", shape.accounts),
        ("LOAD_CALLS", shape.calls),
        ("LOAD_CONNECTIONS", connections),
        ("LOAD_EVENTS", shape.total()),
    ] {
        command.env(name, value.to_string());
    }
    let began = Instant::now();
    let mut process = Process::start(&mut command)?;
    ensure!(process.line()? == "done", "the floor failed");
    Ok(Run { took: began.elapsed(), usage: process.usage()? })
}

/// Runs as the process of the floor.
pub(crate) fn run() -> anyhow::Result<()> {
    twilio_call_exporter::twilio::client::install_crypto();
    // The same kind of runtime as the exporter's.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(fetch_all())?;
    println!("done");
    // Stay alive until the parent has read the resources used and kills this process.
    loop {
        std::thread::park();
    }
}

async fn fetch_all() -> anyhow::Result<()> {
    let number = |name: &str| -> anyhow::Result<u64> {
        Ok(std::env::var(name).with_context(|| name.to_owned())?.parse()?)
    };
    let (accounts, calls) = (number("LOAD_ACCOUNTS")?, number("LOAD_CALLS")?);
    let (connections, expected) = (number("LOAD_CONNECTIONS")?, number("LOAD_EVENTS")?);
    let url = std::env::var("LOAD_URL")?;
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let (next, found) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for account in 0..accounts {
        let mut page = Some(format!("/2010-04-01/Accounts/{}/Calls.json", account_sid(account)));
        while let Some(path) = page {
            let list = fetch(&http, &format!("{url}{path}")).await?;
            page = list["next_page_uri"].as_str().map(str::to_owned);
        }
    }
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (http, url) = (http.clone(), url.clone());
        let (next, found) = (Arc::clone(&next), Arc::clone(&found));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= accounts * calls {
                    return Ok::<(), anyhow::Error>(());
                }
                let (account, call) = (number % accounts, number / accounts);
                let (account, call) = (account_sid(account), call_sid(account, call));
                let path = format!("/2010-04-01/Accounts/{account}/Calls/{call}/Events.json");
                let page = fetch(&http, &format!("{url}{path}?PageSize=1000")).await?;
                let events = page["events"].as_array().context("the page has no events")?.len();
                found.fetch_add(u64::try_from(events)?, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    ensure!(found.load(Ordering::Relaxed) == expected, "some events weren't fetched");
    Ok(())
}

async fn fetch(http: &reqwest::Client, url: &str) -> anyhow::Result<Value> {
    let request = http.get(url).basic_auth("AC", Some("secret"));
    let body = request.send().await?.error_for_status()?.bytes().await?;
    Ok(serde_json::from_slice(&body)?)
}
