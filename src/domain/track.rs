//! The state of calls and lists: the progress of each, and what has been counted.
//!
//! This module doesn't decide what to request next; `engine` does.

pub mod digest;
pub mod failing;
pub mod learning;
pub mod listing;
pub mod outcome;
pub mod progress;
pub mod reading;
pub mod twilio_time;
