//! Tests of a store that was created while the machine's clock was wrong.

use super::*;

#[tokio::test]
async fn a_wrong_creation_time_is_corrected_by_twilios_clock() {
    let directory = directory();
    let registry = Registry::new();
    let health = Health::register(&registry).expect("instruments");
    let opened = Store::open(directory.path(), limits(), health.clone(), now);
    let (store, thread) = opened.expect("a store");
    health.store_opened(store.created_at());
    let id = attach(&store, "us1").await.id;
    let created = || value(&registry, "twilio_exporter_store_created_timestamp_seconds");
    assert_eq!(created(), 1_700_000_000.0);
    let commit = async |received_at| {
        let batch = Batch { facts: vec![event()], received_at, ..Batch::default() };
        store.commit(id, Arc::new(batch)).await.expect("committed");
    };
    commit(None).await;
    assert_eq!(created(), 1_700_000_000.0);
    // The local clock was two years behind.
    let twilio = Timestamp::from_second(1_763_072_000).expect("an instant");
    commit(Some(twilio)).await;
    assert_eq!(created(), 1_763_072_000.0);
    // It is corrected once: a later difference may be a step of Twilio's clock.
    commit(Some(now())).await;
    assert_eq!(created(), 1_763_072_000.0);
    drop(store);
    assert!(thread.join());
    let (store, _thread) = open(&directory).expect("the same store");
    assert_eq!(store.created_at(), twilio);
    let id = attach(&store, "us1").await.id;
    let batch = Batch { received_at: Some(now()), ..Batch::default() };
    store.commit(id, Arc::new(batch)).await.expect("committed");
    drop(store);
    let (store, _thread) = until_open(&directory).await;
    assert_eq!(store.created_at(), twilio, "an old store keeps its age");
}

async fn until_open(directory: &TempDir) -> (Store, StoreThread) {
    let mut opened = None;
    for _ in 0..600 {
        opened = open(directory).ok();
        if opened.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    opened.expect("a store within half a minute")
}
