//! Counts facts and writes them as metric families.
//!
//! Does no I/O and reads no clock.

pub mod catalog;
pub mod exemplar;
pub mod exposition;
pub mod health;
pub mod ledger;
pub mod snapshot;
