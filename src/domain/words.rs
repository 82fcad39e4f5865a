//! Twilio's types: calls, Call Events, their parameters, URLs and SIDs, and the text that becomes labels.

pub mod account;
pub mod call;
pub mod call_event;
pub mod error_log;
pub mod label;
pub mod parameters;
pub mod sid;
pub mod subaccounts;
pub mod webhook_url;
