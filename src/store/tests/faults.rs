//! Stores whose disk fails or hangs, or whose writer panics, when a test asks for it.

use rusqlite::functions::FunctionFlags;

use super::*;

/// Opens a store whose writes fail while the flag is set: SQLite refuses the commit at its very end.
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

type Task = Box<dyn FnOnce() + Send>;

/// Runs tasks in the thread of a writer.
pub(super) struct FaultInjector(mpsc::SyncSender<Task>);

impl FaultInjector {
    /// Runs a task. Returns when the writer has received it.
    pub(super) fn run(&self, task: impl FnOnce() + Send + 'static) {
        self.0.send(Box::new(task)).expect("a running writer");
    }

    /// Blocks the writer, as a hanging disk does, until the returned value is dropped.
    pub(super) fn hang(&self) -> mpsc::Sender<()> {
        let (hanging, dropped) = mpsc::channel();
        self.run(move || {
            let _closed = dropped.recv();
        });
        hanging
    }
}

/// Opens a store whose writer runs tasks when it reads the clock, which it does every half second.
pub(super) fn open_with_fault_injector(directory: &TempDir) -> (Store, StoreThread, FaultInjector) {
    let (tasks, inbox) = mpsc::sync_channel::<Task>(0);
    let clock = move || {
        if let Ok(task) = inbox.try_recv() {
            task();
        }
        now()
    };
    let (store, thread) =
        Store::open(directory.path(), limits(), health(), clock).expect("a store");
    (store, thread, FaultInjector(tasks))
}
