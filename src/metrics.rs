//! What is counted, and how it is written down.
//!
//! Knows no network, no disk and no clock: facts come in, families go out.

pub mod catalog;
pub mod exemplar;
pub mod exposition;
pub mod health;
pub mod ledger;
pub mod snapshot;
