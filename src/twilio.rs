//! The edge to Twilio: requests go out, our types come back.
//!
//! GET only. Does not know that metrics exist, and keeps nothing between two requests but
//! connections.

pub mod client;
pub mod error;
pub mod wire;

pub use client::{Answer, Attempt, Client, ClientOptions, Credentials, Resource};
pub use error::Error;
