//! Sends the engine's requests through the client, and converts the responses for the engine.

use std::sync::Arc;

use crate::clock::Clock;
use crate::domain::engine::request::{Answer, AnswerContent, Request, RequestId, Target};
use crate::domain::judge::reported::Reported;
use crate::domain::judge::route::Routes;
use crate::domain::track::digest::Digests;
use crate::domain::track::reading::Item;
use crate::domain::words::error_log::LoggedError;
use crate::domain::words::sid::{AccountSid, CallSid};
use crate::twilio::wire::{RawItem, decode_call_event};
use crate::twilio::{self, Attempt, Client};

/// The parts needed to send requests of an account.
#[derive(Clone, Debug)]
pub(crate) struct RequestSender {
    pub(crate) client: Client,
    pub(crate) account: AccountSid,
    pub(crate) routes: Arc<Routes>,
    pub(crate) clock: Clock,
}

/// A completed request.
pub(crate) struct CompletedRequest {
    pub(crate) id: RequestId,
    /// The attempt, if a request was sent.
    pub(crate) attempt: Option<Attempt>,
    pub(crate) answer: Answer,
}

impl RequestSender {
    /// Sends a request, and waits for the response.
    pub(crate) async fn send(self, Request { id, target }: Request) -> CompletedRequest {
        let Self { client, account, routes, .. } = &self;
        let twilio::Answer { attempt, result } = match &target {
            Target::Calls { filter, page } => {
                client.list_calls(*account, *filter, page).await.map(AnswerContent::Calls)
            }
            Target::Call(call) => client.fetch_call(*account, *call).await.map(AnswerContent::Call),
            Target::CallEvents { call, digests, page } => {
                let judge = |item: &RawItem<'_>| judge(item, *call, *digests, routes);
                client
                    .call_events(*account, *call, page, judge)
                    .await
                    .map(AnswerContent::CallEvents)
            }
            Target::Accounts(page) => client.list_accounts(page).await.map(AnswerContent::Accounts),
            Target::ErrorLog { from, page } => {
                let judge = |entry: &LoggedError| Reported::judge(entry, routes);
                client.error_log(*from, page, judge).await.map(AnswerContent::ErrorLog)
            }
        };
        let sent = attempt.as_ref();
        let answer = Answer {
            answered_at: sent.and_then(|sent| sent.answered).map(|at| self.clock.at(at)),
            date: sent.and_then(|sent| sent.date),
            took: sent.map(|sent| sent.took).unwrap_or_default(),
            result: result.map_err(|error| error.failure(target.resource())),
        };
        CompletedRequest { id, attempt, answer }
    }
}

fn judge(item: &RawItem<'_>, call: CallSid, digests: Digests, routes: &Routes) -> Item {
    match decode_call_event(item) {
        Ok(event) => Item::judge(&event, call, digests, routes),
        Err(rejection) => Item::rejected(item.json().as_bytes(), digests, rejection),
    }
}
