//! A simulated Twilio: Accounts, Calls and Call Events over HTTP, generated from a seed. It also serves the
//! values that an observer must have counted. It reads no clock directly, runs no tasks, and shares no
//! judgement with the rest of the program.

mod answer;
mod api;
mod auth;
mod behaviour;
mod demo;
mod draft;
mod error_log;
mod everything;
mod late_and_redacted;
mod listing;
mod purpose;
mod push;
mod random;
mod resource;
mod scenario;
mod script;
mod truth;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use jiff::Timestamp;

use self::api::Shared;
pub use self::behaviour::{Behaviour, Stall};
pub use self::demo::FAILING;
pub use self::push::{Push, PushForm};
pub use self::scenario::Mix;
pub use self::truth::{Truth, TruthSeries};
use self::world::World;
pub use self::world::WorldConfig;

/// Returns the current time: the wall clock's in the program, any instant in a test.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A simulated Twilio. Clones share one world and one behaviour.
#[derive(Clone)]
pub struct Simulator {
    shared: Arc<Shared>,
}

/// An account of the simulated Twilio, with its made-up credentials.
#[derive(Clone)]
pub struct SimulatedAccount {
    /// The Account SID.
    pub account_sid: String,
    /// The password for the Account SID.
    pub auth_token: String,
    /// The SID of the account's API key.
    pub api_key_sid: String,
    /// The password for the API key.
    pub api_key_secret: String,
    /// A name to use as the label `account`.
    pub name: String,
    /// For a subaccount, the Account SID of its owner.
    pub parent_account_sid: Option<String>,
}

impl Simulator {
    /// Creates a world that starts at the clock's current time.
    pub fn new(config: WorldConfig, clock: Clock) -> Simulator {
        let world = World::new(config, clock());
        Simulator { shared: Arc::new(Shared::new(world, clock)) }
    }

    /// Returns the HTTP routes: Twilio's API under `/2010-04-01/` and `/v1/Alerts`, and `/_simulator/truth`
    /// and `/_simulator/behaviour`, which need no credentials: serve them on loopback only.
    pub fn router(&self) -> Router {
        api::router(Arc::clone(&self.shared))
    }

    /// All accounts, each followed by its subaccounts.
    pub fn accounts(&self) -> Vec<SimulatedAccount> {
        let accounts = self.shared.world.accounts();
        accounts
            .iter()
            .map(|account| SimulatedAccount {
                account_sid: account.sid.clone(),
                auth_token: account.auth_token.clone(),
                api_key_sid: account.api_key_sid.clone(),
                api_key_secret: account.api_key_secret.clone(),
                name: account.name.clone(),
                parent_account_sid: account.parent.map(|parent| accounts[parent].sid.clone()),
            })
            .collect()
    }

    /// What an observer that missed nothing has counted at this instant, with the current `events_after`.
    pub fn truth(&self, now: Timestamp) -> Truth {
        self.shared.truth(now)
    }

    /// What an observer that has read the error logs since an instant has counted: the number of entries by
    /// the values of the labels account (the Account SID), product, host, route, error code and level.
    pub fn error_log(&self, since: Timestamp, now: Timestamp) -> BTreeMap<[String; 6], u64> {
        let mut counts = BTreeMap::new();
        let (world, behaviour) = (&self.shared.world, self.behaviour());
        for (index, account) in world.accounts().iter().enumerate() {
            for entry in error_log::entries(world, index, since, now, &behaviour) {
                let ([product, host, route], [code, level]) =
                    (entry.endpoint.clone(), entry.code_and_level());
                let labels = [account.sid.clone(), product, host, route, code, level];
                *counts.entry(labels).or_default() += 1;
            }
        }
        counts
    }

    /// The current behaviour.
    pub fn behaviour(&self) -> Behaviour {
        self.shared.behaviour()
    }

    /// Sets the behaviour from the next request on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.set_behaviour(behaviour);
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").field("accounts", &self.accounts()).finish_non_exhaustive()
    }
}

impl fmt::Debug for SimulatedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedAccount")
            .field("account_sid", &self.account_sid)
            .field("auth_token", &"[redacted]")
            .field("api_key_sid", &self.api_key_sid)
            .field("api_key_secret", &"[redacted]")
            .field("name", &self.name)
            .field("parent_account_sid", &self.parent_account_sid)
            .finish()
    }
}

#[cfg(test)]
mod tests;
