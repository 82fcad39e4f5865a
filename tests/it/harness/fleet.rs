//! A stand-in for the `/metrics` of an exporter with hundreds of accounts: every family of the catalogue
//! with its labels, and counters that a test moves.
//!
//! No exporter runs and no calls are simulated. Other tests check what the numbers mean; this one is
//! for testing rules and Alertmanager.

mod labels;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::header;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) use world::World;

/// The number of accounts and routes, and their hosts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub accounts: usize,
    /// Routes that expect TwiML, per account; each account also has one for status callbacks.
    pub routes: usize,
    pub hosts: Hosts,
}

/// Which hosts serve the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// All accounts share one host.
    Shared,
    /// Each account has its own host.
    OnePerAccount,
}

/// A server for these metrics, in the test process.
pub(crate) struct Fleet {
    address: String,
    world: Arc<Mutex<World>>,
    server: JoinHandle<()>,
}

impl Fleet {
    /// Serves a fleet of this shape with initial values.
    pub(crate) async fn serve(shape: Shape) -> Self {
        let world = Arc::new(Mutex::new(World::new(shape)));
        let served = Arc::clone(&world);
        let answer = move || {
            let text = locked(&served).text();
            async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
        };
        let router = Router::new().route("/metrics", axum::routing::get(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let server =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self { address, world, server }
    }

    /// The `account` label of an account.
    pub(crate) fn account(account: usize) -> String {
        format!("AC{account:032x}")
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Locks the world for changes. Scrapes wait for the guard, so none shows half of a change.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        locked(&self.world)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn locked(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
