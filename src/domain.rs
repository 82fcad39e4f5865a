//! What calls and Call Events mean, and what to do next.
//!
//! Four rooms, each of which imports only those below it: [`engine`] decides what is asked next and what
//! an answer changes, [`track`] is what is known of calls and lists, [`judge`] says what one Call Event
//! means, [`words`] are Twilio's nouns.
//! Pure: synchronous functions over values, with the time and randomness as arguments.
//! Knows no network, no disk, no JSON, no clock and no metric names.

pub mod engine;
pub mod judge;
pub mod track;
pub mod words;
