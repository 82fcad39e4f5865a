//! The edge to Twilio: requests go out, our types come back; and what Twilio pushes comes in.
//!
//! GET only. Does not know that metrics exist, and keeps nothing between two requests but
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
pub use cause::NoConnection;
pub use client::{Client, ClientOptions, Credentials};
pub use error::{Error, Status};
pub use proxy::Proxy;
pub use response::LargeBodies;
