//! What is known of calls and lists: how far each has come, and what of it was counted.
//!
//! Knows how things stand, and not what is asked next.

pub mod digest;
pub mod failing;
pub mod learning;
pub mod listing;
pub mod outcome;
pub mod progress;
pub mod reading;
pub mod twilio_time;
