//! Turns Twilio Call Events into Prometheus metrics.
//!
//! This is the architecture document: where things are, why they are there, and what is true of
//! them. The README is for people who run the program; this is for people who change it.
//!
//! # The loop
//!
//! Each account is one synchronous machine, [`domain::engine::Engine`], and a task around it
//! ([`poller`]) that turns one loop:
//!
//! ```text
//!        ┌──────────── Engine::next(places, now) ───────────────┐
//!        │             what is asked, and when to look again    │
//!        │                                                      v
//!   Effects told                                        Request ── twilio::client ──> Twilio
//!   (metrics, log)                                              one page, one call      │
//!        ^                                                                              │
//!        │                                                                              v
//!   store commits <── Effects { batch, measures, lines } <── Engine::on_answer <── Answer, judged
//!        │                                                                   (wire, domain::judge)
//!        v
//!   ledger ── metrics::snapshot ── metrics::exposition ──> text on /metrics
//! ```
//!
//! **Where is it decided what is asked next?** In [`Engine::next`](domain::engine::Engine::next), and
//! nowhere else: pace, retries, page sizes, whose turn it is.
//! **Where does an answer change anything?** In [`Engine::on_answer`](domain::engine::Engine::on_answer),
//! and nowhere else: it returns what is to be kept, measured and logged as
//! [`Effects`](domain::engine::effects::Effects). The poller commits the batch, and tells the rest only
//! then.
//!
//! One response, from its body to its metric: `twilio::client` reads it, `twilio::wire` cuts it into
//! items and decodes each, [`domain::judge::observe`] judges it and drops its text,
//! [`domain::engine::events_run`] joins the pages of a call, [`domain::track::progress`] tells which items
//! are new, [`store`] makes them durable, and only then [`metrics::ledger`] shows them.
//!
//! # The rooms
//!
//! - [`domain`]: what calls and Call Events mean, and what to do next. Pure, in four rooms of its own:
//!   - [`domain::engine`]: the account's machine: plan, pace, retries, pages.
//!   - [`domain::track`]: what is known of calls and lists: progress, listing, learning, digests.
//!   - [`domain::judge`]: what one Call Event means: kind, verdict, host and route.
//!   - [`domain::words`]: Twilio's nouns.
//! - [`metrics`]: what is counted and how it is written down: the catalogue of families, the ledger
//!   of all series, the exposition. Pure.
//! - [`twilio`]: the edge to Twilio. One function is one request and one answer; or takes apart what
//!   Twilio pushes.
//! - [`store`]: the edge to the disk: one SQLite file, one writer thread.
//! - [`poller`]: the shell around an account's engine: send, gather, commit, tell, wait.
//! - [`http`]: the edge to people and Prometheus. From memory, but for the recorded failures.
//! - [`config`], [`cli`], [`logging`], [`signal`], [`systemd`], [`clock`]: one thing each from outside.
//! - [`app`]: builds the parts, runs the tasks, drains them. [`demo`]: the same against the simulator.
//! - [`simulator`]: a Twilio of our own, whose truth is known. Imports nothing of the rest, so that
//!   its judgement is independent.
//!
//! Imports point one way: `app` may see all; `poller` sees `twilio`, `store`, `metrics`, `domain`;
//! `http` and `store` see `metrics` and `domain`, and `http` the read side of `store`; `metrics` and
//! `twilio` see `domain`; `config` sees `domain`, `twilio` and the bounds of the ledger, since it makes
//! the values that the parts take; `domain` sees nothing, and each of its rooms only those below it.
//! `tests/it/tidy.rs` holds the code to it.
//!
//! # What is always true
//!
//! **Invariant: what was counted, and that it was counted, commit together.** [`domain::engine::effects::Batch`]
//! carries facts and progress; the writer commits both in one transaction and publishes the delta
//! afterwards. So a `kill -9` at any instant neither loses nor doubles an event, and no scrape ever
//! sees a value that a crash could take back.
//!
//! **Invariant: identity, not time or position, removes duplicates.** A Call Event has no id, its
//! time has a resolution of a second, and the order of the list is not documented. Per call a
//! multiset of digests is kept; an event is new when a *complete* read shows more occurrences than
//! were counted. Several pages are a complete read only if the first is unchanged at the end.
//!
//! **Invariant: decisions are values.** Functions in `domain` and `metrics` take `now` and
//! randomness as arguments and return what to do. So the histories of `tests/it/histories.rs` step the
//! engine that ships through whole lives of an account, in virtual time, with the store that ships.
//!
//! **Invariant: a bad item never sinks its page, a bad page never sinks its call, a bad call never
//! sinks its account, a bad account never sinks another.**
//!
//! **Invariant: text of a Call Event dies with its page.** What survives is host and route as
//! labels, a keyed digest, and closed enums. `Debug` of the event types shows nothing. There is no
//! error type that carries text of an answer, but for the name of a missing permission.
//!
//! # Questions
//!
//! **Why is a call read several times?** Twilio documents Call Events as readable 15 minutes after
//! the end of the call; in practice some show earlier. Early reads make numbers fresh, the settling
//! read makes them right, and an audit of a sample tells what even that missed. Where early reads
//! never show anything, [`domain::track::learning`] thins them to one call in fifty.
//!
//! **Which read goes first?** Settling reads that are due, since the counters rest on them: [`domain::engine::plan`]
//! keeps the calls in the order of their turns, the backlog of a downtime apart from the present. Early
//! reads take what is left, the most recent first; one that would come too late is skipped.
//!
//! **When is something the account's fault?** When it happens to things unlike each other with nothing
//! read in between. One call that is refused, or fails, is that call's own matter: it backs off, and is
//! given up by a clock that runs only while other calls are read ([`domain::track::failing`]). One list that is
//! refused is tried again by itself ([`domain::engine::pace`]). A call that keeps failing is counted in
//! `calls_unreadable` and has one line in the log (`poller::log`).
//!
//! **When is an account catching up?** When what it counts is the past, so that pages must be held back:
//! from its start until its look-back or a downtime is read, while its cursor is old, and while a share of
//! the calls that are due is late ([`domain::engine::account::AccountLag`]). It takes several calls: no single one
//! may silence an account.
//!
//! **What is said when Twilio can't be read?** One WARN with a closed cause, once it is no hiccup, and
//! one INFO when it is over, apart for lists, single calls, Call Events and subaccounts
//! ([`domain::engine::trouble`]). The cause comes from the chain of sources of an error (`twilio::cause`), or
//! from the status and Twilio's error code, which picks the advice (`twilio::advice`). The landing page
//! and `check-config --online` show the same text.
//!
//! **When is a list complete?** Only at a page without a next page. A list that stops before moves no
//! cursor, so that what it did not show is still found ([`domain::engine::lists`]).
//!
//! **Why so many lists?** They are newest first by start time, shift while being read, may cut time
//! filters to the day, and may leave out calls without start or end time. No single one finds every
//! call; [`domain::engine::lists`] tells which finds what.
//!
//! **When is a call forgotten?** When no list can bring it back: it is settled, audited if it was to
//! be, and ended before the horizon that the last deep list has passed. A call that nobody knows and
//! that ended before the horizon is not taken up, so nothing forgotten is ever counted again.
//!
//! **Whose clock?** Twilio's, estimated per account from the `Date` headers of its own 200s
//! ([`domain::track::twilio_time`]) on top of a monotonic local clock ([`clock`]). Steps of the wall clock move
//! nothing, and neither does a single `Date`: an account begins once several answers agree. A correction
//! of the offset moves every schedule along, so that no wait changes. The local clock starts at whatever the
//! wall clock showed, so no time that a person sees comes from it alone: it is Twilio's, or the wall clock's now.
//!
//! **How gently is Twilio asked?** An account has at most `api.max_concurrency` requests in flight, and
//! after a 429 one at a time until one has succeeded that was made after it ([`domain::engine::pace`]). The
//! list of subaccounts is read by the account's engine, too, so it heeds the same. What all accounts
//! share is a number of places for requests: the poller takes places first and hands the engine how
//! many it has.
//!
//! **Why is the ledger apart from the `prometheus` crate's counters?** Those can only be changed and
//! seen at once. Here the change is computed, made durable, and then seen. The exporter's own health
//! are the crate's ordinary instruments; the ledger is written beside them, straight into the
//! exposition.
//!
//! **Why is a new route held at 0?** A series that appears with a value shows no increase to
//! Prometheus, so the first failure of a new route would page nobody. A new group is shown at 0 and
//! released a scrape interval later ([`metrics::ledger::Hold`]); its release is durable before any
//! value is shown. AnswerContent is what an answer contained that went out to its end: groups of hidden
//! accounts are not, and a renamed account's begin again.
//!
//! **Which way do pushed entries of the error log go?** `http::push` takes the request in, [`twilio::push`]
//! finds who signed it, [`poller::inbox`] hands its entries to the loops of their accounts, and there
//! [`Engine::on_push`](domain::engine::Engine::on_push) joins them with those that are read. Twilio is told that
//! they arrived once they are committed; until then it pushes them again.
//!
//! **What does a restart know of subaccounts?** Which there were when Twilio last listed them
//! (`store::accounts`). It shows and polls those that the configuration still wants, under the labels
//! that it gives them.
//!
//! **How does one come from the graph to the call?** By the exemplar of a failure or a bucket
//! ([`metrics::exemplar`], in OpenMetrics only), or by the line that each failing webhook has in the
//! log (`poller::log`), or by the record of it on `/failures` ([`store::failures`]), which is
//! written in the transaction that counts it.
//!
//! **What if the disk is full, or a sync fails?** The batch is neither counted nor shown, the poller
//! waits and commits it again, and asks Twilio nothing meanwhile. `store/schema.rs` tells why going
//! on after a failed sync is safe.
//!
//! **What if the store is damaged?** It is refused. Each table has a checksum of its rows, changed in
//! the transaction that changes them (`store/database.rs`); opening compares all of them, the schema,
//! the indexes, and whether the log belongs to the file (`store/whole.rs`), before anything is written.
//! A log that ends early is no damage: counters and progress go back to its last commit together.
//!
//! **How is a store copied that is in use?** Its files are read, not opened: SQLite's log makes a copy of both
//! consistent unless the log was begun again meanwhile, and then they are copied again (`store/backup.rs`).
//! The copy passes the same checks as a store that is opened.
//!
//! **What if the store is removed while it is open?** Writing goes on into a file that has no name. So
//! the writer compares names with open files before it commits (`store/files.rs`), commits nothing
//! while they differ, and readiness fails.
//!
//! **What goes, and when?** Calls that no list can bring back; pairs of host and route without events
//! for 35 days, and accounts that were removed that long ago. Only time in which an account was followed
//! counts: neither a wrong clock, nor an outage, nor a cursor that jumps makes anything old.
//!
//! **What does a reload do?** It ends the poll loops of the accounts whose configuration changed, and
//! begins new ones with what the store knows (`app::polling`): whatever was counted is durable, so that a
//! loop has nothing to hand over. All other accounts go on untouched. A loop that doesn't end in time is
//! abandoned ([`poller::loops`]): two never poll one account. Reloads come at most once in five seconds.
//! A file that is empty or was cut off is valid YAML, so what it took away is refused or named
//! ([`config::Origin`]).
//!
//! **What can slow clients hold up?** Themselves. One scrape is written at a time, for all who wait for
//! it; an answer is in memory once, for all who take it; and for a new connection goes whoever should
//! have moved on the longest ago (`http::scrape`, `http::server`).
//!
//! **Why a thread for the store?** SQLite blocks, and one writer needs no locks. Batches that wait
//! while one is written are committed together, so that hundreds of accounts share an fsync.
//!
//! # Where a change goes
//!
//! A new kind or reason: its variant in [`domain::judge::kind`] or [`domain::judge::verdict`], a row in the table
//! of its tests, a scenario in `simulator::everything`; METRICS.md follows by itself. A new metric:
//! [`metrics::catalog`], then [`metrics::snapshot`] or [`metrics::health`]. A new key: the example
//! file, which is the defaults; the field of the part that takes it; and where [`config`] reads its
//! section, which prints it, too. Another database: behind [`store::Store`].

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
pub mod systemd;
pub mod twilio;
pub mod web;
