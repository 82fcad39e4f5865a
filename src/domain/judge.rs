//! Interprets a single Call Event: its kind, its verdict, and the host and route it is counted under.
//!
//! Nothing here depends on other Call Events or on earlier counts.

pub mod content_type;
pub mod kind;
pub mod observe;
pub mod reported;
pub mod route;
pub mod twiml;
pub mod verdict;
