//! The whole program under load, over loopback, as the operating system measures it.
//!
//! `cargo bench --bench load` runs every scenario; names after `--` select some, as in
//! `cargo bench --bench load -- scrapes`. The exporter, a Twilio with canned responses and the floor are separate
//! processes; CPU time and memory are the kernel's figures for each. The floor is a bare loop that fetches the same
//! pages over as many connections and parses them with serde_json.
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

mod exporter;
mod floor;
mod process;
mod scenarios;
mod slow;
mod twilio;

use anyhow::bail;

/// The environment variable that makes a process the Twilio or the floor of a scenario.
const ROLE: &str = "LOAD_ROLE";

fn main() -> anyhow::Result<()> {
    match std::env::var(ROLE).as_deref() {
        Ok("twilio") => return twilio::run(),
        Ok("floor") => return floor::run(),
        Ok(role) => bail!("unknown role `{role}`"),
        Err(_) => {}
    }
    twilio_call_exporter::twilio::client::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let selected: Vec<String> = std::env::args().skip(1).filter(|name| name != "--bench").collect();
    let is_selected =
        |name: &str| selected.is_empty() || selected.iter().any(|selected| selected == name);
    runtime.block_on(async {
        if is_selected("throughput") {
            scenarios::throughput("identity").await?;
        }
        if is_selected("gzip") {
            scenarios::throughput("gzip").await?;
        }
        if is_selected("memory") {
            scenarios::memory().await?;
        }
        if is_selected("scrapes") {
            scenarios::scrapes(50).await?;
            scenarios::scrapes(0).await?;
        }
        if is_selected("slow") {
            slow::slow_clients().await?;
        }
        if is_selected("start") {
            scenarios::start().await?;
        }
        Ok(())
    })
}
