//! What is asked of Twilio, and what comes back. One request is one page, or one call.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::judge::reported::Reported;
use crate::domain::track::digest::Digests;
use crate::domain::track::listing::Filter;
use crate::domain::track::reading::Item;
use crate::domain::words::account::ListedAccount;
use crate::domain::words::call::Call;
use crate::domain::words::label::label_enum;
use crate::domain::words::sid::CallSid;

use super::failure::Failure;

/// Which request an answer belongs to. Later requests have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(u64);

impl RequestId {
    /// The id before that of any request.
    pub(super) const FIRST: Self = Self(0);

    /// The id of the request after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// What its answer is handed in with.
    pub id: RequestId,
    /// What it asks for.
    pub ask: Ask,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A page of a list of calls.
    Calls {
        /// Which calls.
        filter: Filter,
        /// Which page.
        page: PageRequest,
    },
    /// One call.
    Call(CallSid),
    /// A page of a call's events.
    CallEvents {
        /// The call.
        call: CallSid,
        /// How its items are told apart.
        digests: Digests,
        /// Which page.
        page: PageRequest,
    },
    /// A page of the list of accounts.
    Accounts(PageRequest),
    /// A page of the error log.
    ErrorLog {
        /// The earliest entries.
        from: Timestamp,
        /// Which page.
        page: PageRequest,
    },
}

/// Which page of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// How many items the pages of the list have at most.
    pub size: u16,
    /// The path of a next page, as Twilio gave it; `None` for the first page.
    pub next: Option<String>,
}

label_enum! {
    /// What is asked for, as a label.
    pub enum Resource {
        /// A list of calls.
        Calls = "calls",
        /// One call.
        Call = "call",
        /// A call's events.
        CallEvents = "call_events",
        /// The accounts.
        Accounts = "accounts",
        /// The error log.
        ErrorLog = "error_log",
    }
}

impl Ask {
    /// What is asked for, as a label.
    pub fn resource(&self) -> Resource {
        match self {
            Self::Calls { .. } => Resource::Calls,
            Self::Call(_) => Resource::Call,
            Self::CallEvents { .. } => Resource::CallEvents,
            Self::Accounts(_) => Resource::Accounts,
            Self::ErrorLog { .. } => Resource::ErrorLog,
        }
    }
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When the head of the answer arrived, in local time, if there was an answer.
    pub answered_at: Option<Timestamp>,
    /// Twilio's time at the answer (its `Date` header).
    pub date: Option<Timestamp>,
    /// How long the request took.
    pub took: Duration,
    /// What it shows, or why it shows nothing.
    pub result: Result<AnswerContent, Failure>,
}

/// What an answer shows.
#[derive(Clone, Debug)]
pub enum AnswerContent {
    /// A page of calls.
    Calls(Page<Call>),
    /// A call.
    Call(Call),
    /// A page of Call Events, judged.
    CallEvents(Page<Item>),
    /// A page of accounts.
    Accounts(Page<ListedAccount>),
    /// A page of the error log, judged.
    ErrorLog(Page<Reported>),
}

impl AnswerContent {
    /// The page of calls, if it is one.
    pub(super) fn calls(self) -> Option<Page<Call>> {
        if let Self::Calls(page) = self { Some(page) } else { None }
    }

    /// The call, if it is one.
    pub(super) fn call(self) -> Option<Call> {
        if let Self::Call(call) = self { Some(call) } else { None }
    }

    /// The page of Call Events, if it is one.
    pub(super) fn call_events(self) -> Option<Page<Item>> {
        if let Self::CallEvents(page) = self { Some(page) } else { None }
    }

    /// The page of accounts, if it is one.
    pub(super) fn accounts(self) -> Option<Page<ListedAccount>> {
        if let Self::Accounts(page) = self { Some(page) } else { None }
    }

    /// The page of the error log, if it is one.
    pub(super) fn error_log(self) -> Option<Page<Reported>> {
        if let Self::ErrorLog(page) = self { Some(page) } else { None }
    }
}

/// A page of a list, as far as it could be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// How many further items could not be decoded.
    pub rejected: u64,
    /// What follows it.
    pub next: NextPage,
}

/// What follows a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPage {
    /// Nothing: the list ends here.
    End,
    /// Another page.
    At {
        /// Its path, as Twilio gives it.
        link: String,
        /// Where in the list it is, however its path is written: equal positions are the same page.
        position: String,
    },
    /// A page on another host or of another list: credentials go nowhere else.
    Foreign,
}
