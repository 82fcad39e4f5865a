//! What one Call Event means: its kind, its verdict, and the host and route it is counted by.
//!
//! Knows nothing of other Call Events, nor of what was counted before.

pub mod content_type;
pub mod kind;
pub mod observe;
pub mod reported;
pub mod route;
pub mod twiml;
pub mod verdict;
