//! The domain logic: what calls and Call Events mean, and what to request next.
//!
//! Four modules, each of which imports only those below it: [`engine`] decides what to request next and how
//! a response changes the state, [`track`] holds the state of calls and lists, [`judge`] interprets a single
//! Call Event, and [`words`] defines Twilio's types.
//! Everything is pure: synchronous functions over values, with time and randomness as arguments. There is no
//! network, disk, JSON, clock or metric name in here.

pub mod engine;
pub mod judge;
pub mod track;
pub mod words;
