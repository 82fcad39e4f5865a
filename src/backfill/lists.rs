//! Reads lists of calls.

use anyhow::{Context, bail};

use crate::domain::engine::lists::{AfterPage, ListRun};
use crate::domain::engine::request::{AnswerContent, Target};
use crate::domain::track::listing::{Filter, ListKind};
use crate::domain::words::call::Call;
use crate::poller::Account;

use super::requests::Requests;

/// Reads a list of calls to its end. `on_calls` gets the calls of each page; some may come more than once.
///
/// # Errors
/// Fails if Twilio refuses the list, or if it stops before its end.
pub(super) async fn read(
    requests: &Requests,
    account: &Account,
    filter: Filter,
    mut on_calls: impl FnMut(&[Call]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let label = &account.label;
    let new_run = || ListRun::new(ListKind::Recent, filter, requests.clock.now());
    let mut run = new_run();
    let target = |page| Target::Calls { filter, page };
    let on_page = |content: AnswerContent, is_first| {
        let page = content.calls().context("the response to another request")?;
        if is_first {
            run = new_run();
        }
        if page.rejected > 0 {
            tracing::warn!(
                account = label,
                calls = page.rejected,
                "calls without a valid SID are ignored"
            );
        }
        on_calls(&page.items)?;
        match run.advance(&page, requests.clock.now()) {
            AfterPage::Continue => Ok(run.next_page.clone()),
            AfterPage::Complete => Ok(None),
            AfterPage::Stopped(stop) => bail!(
                "account `{label}`: a list of calls stopped before its end ({stop}): run the same command again to \
                 read it again"
            ),
        }
    };
    requests.pages(account, target, on_page).await
}
