//! Turns Twilio Call Events into Prometheus metrics.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod domain;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod poller;
pub mod signal;
pub mod simulator;
pub mod store;
pub mod twilio;
