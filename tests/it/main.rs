//! The program from outside: the real binary, a simulated Twilio over HTTP, a real store.

mod harness;
mod judgement;

mod accounts;
mod awkward_calls;
mod backup;
mod blocking_files;
mod command_line;
mod dashboards;
mod demo;
mod disk;
mod documents;
mod exactly_once;
mod failures;
mod failures_of_twilio;
mod first_scrape;
mod gentle;
mod histories;
mod hostile;
mod kills;
mod limits;
mod odd_dates;
mod odd_numbers;
mod online;
mod outside_judges;
mod pages;
mod privacy;
mod promql;
mod reload;
mod rules;
mod secrets_in_memory;
mod service;
mod stopping;
mod subaccounts;
mod tidy;
mod web;
