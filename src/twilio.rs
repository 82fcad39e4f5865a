//! The interface to Twilio: sends requests, decodes responses into the domain's types, and verifies pushes.
//!
//! It only sends GET requests, knows nothing about metrics, and keeps no state between requests except
//! connections.

mod advice;
mod answer;
mod base_url;
mod cause;
pub mod client;
pub mod error;
pub mod proxy;
pub mod push;
mod resolver;
mod response;
pub mod wire;

pub use answer::{Answer, Attempt};
pub use base_url::{BaseUrl, InvalidBaseUrl};
pub use cause::ConnectFailure;
pub use client::{Client, ClientOptions, Credentials};
pub use error::{Error, Status};
pub use proxy::Proxy;
pub use response::LargeBodies;
