//! What calls and Call Events mean, and what to do next.
//!
//! Pure: synchronous functions over values, with the time and randomness as arguments.
//! Knows no network, no disk, no JSON, no clock and no metric names.

pub mod account;
pub mod call;
pub mod call_event;
pub mod concurrency;
pub mod content_type;
pub mod demand;
pub mod digest;
pub mod failing;
pub mod failure_log;
pub mod kind;
pub mod label;
pub mod learning;
pub mod listing;
pub mod observe;
pub mod outcome;
pub mod pace;
pub mod page_size;
pub mod parameters;
pub mod plan;
pub mod progress;
pub mod reading;
pub mod retry;
pub mod route;
pub mod sid;
pub mod trouble;
pub mod twilio_time;
pub mod twiml;
pub mod unreadable;
pub mod verdict;
pub mod webhook_url;
