//! Metrics: counts facts and writes metric families.
//!
//! Does no I/O and reads no clock: facts come in, families go out.

pub mod catalog;
pub mod exemplar;
pub mod exposition;
pub mod health;
pub mod ledger;
pub mod snapshot;
