//! Turns Twilio Call Events into Prometheus metrics.

pub mod clock;
pub mod domain;
pub mod metrics;
pub mod poller;
pub mod simulator;
pub mod store;
pub mod twilio;
