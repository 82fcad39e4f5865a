//! Stores whose disk refuses to write or hangs, and whose writer panics, when a test says so.

use rusqlite::functions::FunctionFlags;

use super::*;

/// A store whose writes fail while the flag is set: by SQLite's own refusal, at the very end of a commit.
pub(super) fn open_with_failing_writes(
    directory: &TempDir,
    health: Health,
) -> (Store, StoreThread, Arc<AtomicBool>) {
    let opened = schema::open(directory.path(), now()).expect("a new store");
    let writes_fail = Arc::new(AtomicBool::new(false));
    let (connection, flag) = (opened.database.read(), Arc::clone(&writes_fail));
    connection
        .create_scalar_function("writes_fail", 0, FunctionFlags::SQLITE_UTF8, move |_| {
            Ok(flag.load(Ordering::Relaxed))
        })
        .expect("a function");
    connection
        .execute_batch(
            "CREATE TEMP TABLE parent (id INTEGER PRIMARY KEY);
             CREATE TEMP TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
             CREATE TEMP TRIGGER failing AFTER UPDATE ON main.meta WHEN writes_fail()
             BEGIN INSERT INTO child VALUES (1); END",
        )
        .expect("a trigger");
    let (store, thread) = Store::start(opened, limits(), health, now).expect("a store");
    (store, thread, writes_fail)
}

type Order = Box<dyn FnOnce() + Send>;

/// Orders to a writer, which it carries out in its own thread.
pub(super) struct Orders(mpsc::SyncSender<Order>);

impl Orders {
    /// Waits until the writer begins to carry it out.
    pub(super) fn give(&self, order: impl FnOnce() + Send + 'static) {
        self.0.send(Box::new(order)).expect("the writer lives");
    }

    /// Holds the writer up, as a disk that hangs does, until what this returns is dropped.
    pub(super) fn hang(&self) -> mpsc::Sender<()> {
        let (hanging, until) = mpsc::channel();
        self.give(move || {
            let _over = until.recv();
        });
        hanging
    }
}

/// A store whose writer carries out orders when it asks the clock, which it does every half second.
pub(super) fn open_with_orders(directory: &TempDir) -> (Store, StoreThread, Orders) {
    let (orders, inbox) = mpsc::sync_channel::<Order>(0);
    let clock = move || {
        if let Ok(order) = inbox.try_recv() {
            order();
        }
        now()
    };
    let (store, thread) =
        Store::open(directory.path(), limits(), health(), clock).expect("a store");
    (store, thread, Orders(orders))
}
