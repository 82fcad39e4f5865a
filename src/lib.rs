//! Turns Twilio Call Events into Prometheus metrics.
//!
//! This is the architecture document, for people who change the program: where things are, why, and which
//! invariants hold. The README is for people who run it.
//!
//! # The loop
//!
//! Each account has a synchronous state machine, [`domain::engine::Engine`], and a task around it
//! ([`poller`]) that runs one loop:
//!
//! ```text
//!        ┌──────────── Engine::next(permits, now) ──────────────┐
//!        │             what to request, and when to check again │
//!        │                                                      v
//!   Effects applied                                     Request ── twilio::client ──> Twilio
//!   (metrics, log)                                              one page, one call      │
//!        ^                                                                              │
//!        │                                                                              v
//!   store commits <── Effects { batch, metric_updates, lines } <── Engine::on_answer <── Answer, judged
//!        │                                                                   (wire, domain::judge)
//!        v
//!   ledger ── metrics::snapshot ── metrics::exposition ──> text on /metrics
//! ```
//!
//! **Where is the next request chosen?** Only in [`Engine::next`](domain::engine::Engine::next): pace,
//! retries, page sizes and order.
//! **Where does an answer change state?** Only in
//! [`Engine::on_answer`](domain::engine::Engine::on_answer), which returns what to store, count and log as
//! [`Effects`](domain::engine::effects::Effects). The poller commits the batch before it updates metrics and
//! writes the log.
//!
//! The path of a response, from its body to its metric: `twilio::client` reads it, `twilio::wire` splits it
//! into items and decodes each one, [`domain::judge::observe`] judges it and drops its text,
//! [`domain::engine::events_run`] joins the pages of a call, [`domain::track::progress`] finds the items that
//! are new, [`store`] makes them durable, and then [`metrics::ledger`] shows them.
//!
//! # The modules
//!
//! - [`domain`]: the meaning of calls and Call Events, and what to do next. Pure, in four modules:
//!   - [`domain::engine`]: an account's state machine: plan, pace, retries, pages.
//!   - [`domain::track`]: what is known about calls and lists: progress, listing, learning, digests.
//!   - [`domain::judge`]: the meaning of one Call Event: kind, verdict, host and route.
//!   - [`domain::words`]: Twilio's terms.
//! - [`metrics`]: what is counted and how it is exposed: the catalogue of families, the ledger of all series,
//!   the exposition. Pure.
//! - [`twilio`]: access to Twilio. Each function makes one request and returns one response, or decodes a push.
//! - [`store`]: access to the disk: one SQLite file, one writer thread.
//! - [`poller`]: the I/O around an account's engine: sends requests, commits, updates metrics and the log,
//!   waits.
//! - [`http`]: serves people and Prometheus. From memory, except for the recorded failures.
//! - [`config`], [`cli`], [`logging`], [`signal`], [`systemd`], [`clock`]: one external concern each.
//! - [`backfill`]: the history of past calls, for `backfill`: the same requests, judgement and ledger, but in the order of
//!   time and into files.
//! - [`app`]: builds the parts, runs the tasks, drains them. [`demo`]: the same against the simulator.
//! - [`simulator`]: a simulated Twilio with known ground truth. Imports nothing from the other modules, so that its
//!   judgement is independent.
//!
//! Imports point one way: `app` may import everything; `backfill` uses `poller`'s requests and `store`'s codec; `poller` imports `twilio`, `store`, `metrics`, `domain`;
//! `http` and `store` import `metrics` and `domain`, and `http` the read side of `store`; `metrics` and
//! `twilio` import `domain`; `config` imports `domain`, `twilio` and the limits of the ledger, as it creates
//! the values that these parts take; `domain` imports nothing, and each of its modules only those below it.
//! `tests/it/tidy.rs` enforces this.
//!
//! # Invariants
//!
//! **Invariant: what was counted and the fact that it was counted commit together.**
//! [`domain::engine::effects::Batch`] carries facts and progress; the writer commits both in one transaction
//! and then publishes the delta. So a `kill -9` at any instant neither loses nor double-counts an event, and
//! no scrape ever sees a value that a crash could take back.
//!
//! **Invariant: identity, not time or position, removes duplicates.** A Call Event has no id, its time has a
//! resolution of one second, and the order of the list isn't documented. Each call keeps a multiset of digests;
//! an event is new when a *complete* read shows more occurrences than were counted. A read of several pages is
//! complete only if its first page, fetched again at the end, is unchanged.
//!
//! **Invariant: decisions are values.** Functions in `domain` and `metrics` take `now` and randomness as
//! arguments and return what to do. So the histories in `tests/it/histories.rs` can run the production engine
//! and store through the whole life of an account, in virtual time.
//!
//! **Invariant: a bad item never fails its page, a bad page never fails its call, a bad call never fails its
//! account, and a bad account never fails another.**
//!
//! **Invariant: the text of a Call Event is dropped with its page.** Only host and route labels, a keyed
//! digest and closed enums survive. `Debug` of the event types shows nothing. No error type carries text of
//! an answer, except the name of a missing permission.
//!
//! # Questions
//!
//! **Why is a call read several times?** Twilio documents Call Events as readable 15 minutes after the end of
//! the call; in practice some appear earlier. Early reads keep metrics fresh. The *settling read*, made once
//! `poll.settle_delay` has passed after the end, makes them complete. An *audit* rereads a sample of calls later,
//! to measure what even the settling read missed. Where early reads never show anything,
//! [`domain::track::learning`] reduces them to one call in fifty.
//!
//! **Which read goes first?** Settling reads that are due, since the counters depend on them:
//! [`domain::engine::plan`] keeps the calls ordered by due time, and separates the backlog of a downtime from
//! current calls. Early reads use the remaining requests, most recent first; one that would be too late is
//! skipped.
//!
//! **When does a failure concern the whole account?** When different resources fail with no successful read in
//! between. A single call whose reads are refused or fail affects only itself: its reads back off, and it is
//! given up after a time that only advances while other calls can be read ([`domain::track::failing`]). A
//! single list that is refused is retried on its own ([`domain::engine::pace`]). A call that keeps failing is
//! counted in `calls_unreadable` and logged once (`poller::log`).
//!
//! **When is an account catching up?** When it counts past calls, so that alerts must be suppressed: from its
//! start until it has read its look-back period or the period it missed while down, while its cursor is old,
//! and while a share of the due calls is late ([`domain::engine::account::AccountLag`]). It takes several late
//! calls: no single call may suppress an account's alerts.
//!
//! **What is logged when Twilio can't be read?** One WARN with a cause from a closed set, once the problem
//! lasts, and one INFO when it is over, separately for lists, individual calls, Call Events and subaccounts
//! ([`domain::engine::trouble`]). The cause comes from an error's chain of sources (`twilio::cause`), or from
//! the status and Twilio's error code, which selects the advice (`twilio::advice`). The landing page and
//! `check-config --online` show the same text.
//!
//! **When is a list complete?** Only at a page without a next page. A list that stops earlier moves no
//! cursor, so that the rest is still found ([`domain::engine::lists`]).
//!
//! **Why so many lists?** They are newest first by start time, shift while being read, may truncate time
//! filters to the day, and may omit calls without a start or end time. No single list finds every call;
//! [`domain::engine::lists`] documents which list finds which calls.
//!
//! **When is a call forgotten?** When no list can return it any more: it is settled, audited if it was
//! selected for an audit, and ended before the account's *horizon*, the time before which no later list looks. An
//! unknown call
//! that ended before the horizon isn't added, so nothing forgotten is ever counted again.
//!
//! **Which clock is used?** Twilio's, estimated per account from the `Date` headers of the account's own 200
//! responses ([`domain::track::twilio_time`]) relative to a monotonic local clock ([`clock`]). Neither a step
//! of the wall clock nor a single `Date` changes anything: an account starts once several answers agree. When
//! the offset is corrected, every schedule shifts by the same amount, so that no wait changes. The local clock
//! starts at the wall clock's time, which may be wrong, so every time shown to users is Twilio's time or the
//! wall clock's current time.
//!
//! **How is the load on Twilio limited?** An account has at most `api.max_concurrency` requests in flight;
//! after a 429, it has one at a time until a later request has succeeded ([`domain::engine::pace`]). The
//! account's engine also reads the list of subaccounts, within the same limits. All accounts share a number
//! of request permits: the poller acquires permits first and passes their number to the engine.
//!
//! **Why is the ledger separate from the `prometheus` crate's counters?** A change to those is visible
//! immediately. Here, a change is computed, made durable, and only then made visible. The exporter's own
//! health uses the crate's ordinary instruments; the ledger is written next to them, directly into the
//! exposition.
//!
//! **Why is a new route held at 0?** A series that appears with a value shows no increase to Prometheus, so
//! the first failure of a new route would page no one. A new group is shown at 0 and released a scrape
//! interval later ([`metrics::ledger::Hold`]); its release is durable before any value is shown. A group
//! counts as shown only if it was in a response that was sent completely: groups of hidden accounts are not
//! shown, and those of a renamed account start again.
//!
//! **How are pushed error log entries processed?** `http::push` accepts the request, [`twilio::push`] finds
//! the account that signed it, [`poller::inbox`] passes its entries to the loops of their accounts, and
//! [`Engine::on_push`](domain::engine::Engine::on_push) merges them with those that are polled. Twilio gets a
//! success response once they are committed; until then it pushes them again.
//!
//! **What does a restart know about subaccounts?** Those that existed when Twilio last listed them
//! (`store::accounts`). It shows and polls those that the configuration still includes, under their
//! configured labels.
//!
//! **How does a user get from a graph to a call?** Through the exemplar of a failure or a bucket
//! ([`metrics::exemplar`], in OpenMetrics only), through the log line of each failing webhook
//! (`poller::log`), or through its record on `/failures` ([`store::failures`]), which is written in the
//! transaction that counts it.
//!
//! **What if the disk is full, or a sync fails?** The batch is neither counted nor shown. The poller waits,
//! commits it again, and sends no requests to Twilio in the meantime. `store/schema.rs` explains why
//! continuing after a failed sync is safe.
//!
//! **What if the store is damaged?** It is refused. Each table has a checksum of its rows, updated in the
//! transaction that changes them (`store/database.rs`). Opening the store checks all checksums, the schema,
//! the indexes, and whether the log belongs to the file (`store/whole.rs`), before anything is written. A log
//! that ends early isn't damage: counters and progress both go back to its last commit.
//!
//! **How is a store copied while in use?** Its files are read, not opened: SQLite's log makes a copy of both
//! consistent unless the log was restarted during the copy, in which case they are copied again
//! (`store/backup.rs`). The copy passes the same checks as a store that is opened.
//!
//! **What if the store is removed while it is open?** Writes would go to an unlinked file. So before
//! each commit, the writer checks that the paths still lead to the open files (`store/files.rs`); while they
//! don't, it commits nothing and readiness fails.
//!
//! **What is deleted, and when?** Calls that no list can return any more; pairs of host and route without
//! events for 35 days, and accounts that were removed 35 days ago. Age is measured in Twilio's time, and an
//! endpoint ages only while its account is polled: neither a wrong local clock, nor an outage, nor a jump of a
//! cursor makes anything older.
//!
//! **What does a reload do?** It ends the poll loops of the accounts whose configuration changed, and starts
//! new ones from the store (`app::polling`): everything counted is durable, so a loop has no state to hand
//! over. The other accounts keep running. A loop that doesn't end in time is abandoned ([`poller::loops`]): two
//! loops never poll one account. Reloads happen at most once every five seconds. An empty or truncated file can
//! be valid YAML, so a reload that would remove all accounts is rejected, and other removed keys are named in a
//! warning ([`config::Origin`]).
//!
//! **What can slow clients block?** Only themselves. Scrapes in progress and connections are limited: a further
//! scrape gets a 503, and a further connection is closed at once. Headers and responses have deadlines
//! (`http::scrape`, `http::server`).
//!
//! **Why a thread for the store?** SQLite blocks, and a single writer needs no locks. Batches that wait while
//! one is written are committed together, so that hundreds of accounts share an fsync.
//!
//! # How to change things
//!
//! A new kind or reason: add its variant in [`domain::judge::kind`] or [`domain::judge::verdict`], a row in
//! the table of its tests, and a scenario in `simulator::everything`; METRICS.md is generated. A new metric:
//! [`metrics::catalog`], then [`metrics::snapshot`] or [`metrics::health`]. A new key: the example file, which
//! contains the defaults; the field of the part that takes it; and the place in [`config`] that reads its
//! section, which also prints it. Another database: behind [`store::Store`].

pub mod app;
pub mod backfill;
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
