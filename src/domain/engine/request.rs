//! Requests to Twilio, and their responses. A request is for one page or one call.

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

/// The id that matches a response to its request. Later requests have greater ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(u64);

impl RequestId {
    /// The id before that of the first request.
    pub(crate) const FIRST: Self = Self(0);

    /// Returns the id of the next request.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id, to be passed with the response.
    pub id: RequestId,
    /// The resource to request.
    pub target: Target,
}

/// The resource that a request is for.
#[derive(Clone, Debug)]
pub enum Target {
    /// A page of a list of calls.
    Calls {
        /// The filter of the list.
        filter: Filter,
        /// The page.
        page: PageRequest,
    },
    /// One call.
    Call(CallSid),
    /// A page of a call's events.
    CallEvents {
        /// The call.
        call: CallSid,
        /// The digests that identify its items.
        digests: Digests,
        /// The page.
        page: PageRequest,
    },
    /// A page of the list of accounts.
    Accounts(PageRequest),
    /// A page of the error log.
    ErrorLog {
        /// The time of the earliest entries.
        from: Timestamp,
        /// The page.
        page: PageRequest,
    },
}

/// The page of a list to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The maximum number of items of a page.
    pub size: u16,
    /// The path of the page, as given by Twilio; `None` for the first page.
    pub next: Option<String>,
}

label_enum! {
    /// The requested resource, as a label.
    pub enum Resource {
        /// A list of calls.
        Calls = "calls",
        /// One call.
        Call = "call",
        /// A call's events.
        CallEvents = "call_events",
        /// The list of accounts.
        Accounts = "accounts",
        /// The error log.
        ErrorLog = "error_log",
    }
}

impl Target {
    /// Returns the requested resource, as a label.
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

/// The result of a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When the head of the response arrived, in local time, if there was a response.
    pub answered_at: Option<Timestamp>,
    /// Twilio's time at the response (its `Date` header).
    pub date: Option<Timestamp>,
    /// How long the request took.
    pub took: Duration,
    /// The content, or the failure.
    pub result: Result<AnswerContent, Failure>,
}

/// The content of a response.
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
    /// Returns the page of calls, if it is one.
    pub(crate) fn calls(self) -> Option<Page<Call>> {
        if let Self::Calls(page) = self { Some(page) } else { None }
    }

    /// Returns the call, if it is one.
    pub(super) fn call(self) -> Option<Call> {
        if let Self::Call(call) = self { Some(call) } else { None }
    }

    /// Returns the page of Call Events, if it is one.
    pub(crate) fn call_events(self) -> Option<Page<Item>> {
        if let Self::CallEvents(page) = self { Some(page) } else { None }
    }

    /// Returns the page of accounts, if it is one.
    pub(crate) fn accounts(self) -> Option<Page<ListedAccount>> {
        if let Self::Accounts(page) = self { Some(page) } else { None }
    }

    /// Returns the page of the error log, if it is one.
    pub(super) fn error_log(self) -> Option<Page<Reported>> {
        if let Self::ErrorLog(page) = self { Some(page) } else { None }
    }
}

/// A page of a list, without the items that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// The number of items that could not be decoded.
    pub rejected: u64,
    /// The next page.
    pub next: NextPage,
}

/// The continuation of a list after a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPage {
    /// The list ends here.
    End,
    /// Another page.
    At {
        /// Its path, as given by Twilio.
        link: String,
        /// Its position in the list, independent of the path's spelling: equal positions are the same page.
        position: String,
    },
    /// A page on another host or of another list, which isn't requested: it must not get the credentials.
    Foreign,
}
