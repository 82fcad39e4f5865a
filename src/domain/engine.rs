//! What is asked of Twilio next, and what its answers change.

pub mod account;
pub mod concurrency;
pub mod demand;
pub mod failure_log;
pub mod lists;
pub mod pace;
pub mod page_size;
pub mod plan;
pub mod retry;
pub mod trouble;
pub mod unreadable;
