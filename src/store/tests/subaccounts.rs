//! Tests of remembered subaccounts, which a restart shows at once.

use super::*;

#[tokio::test]
async fn the_latest_subaccounts_survive_a_restart() {
    let directory = directory();
    let (store, thread) = open(&directory).expect("a new store");
    assert_eq!(attach(&store, "us1").await.subaccounts, []);
    let (one, other) = (subaccount(2, "active"), subaccount(3, "suspended"));
    store.remember_subaccounts(key(1), vec![one.clone(), other]).await.expect("remembered");
    // The same SID in another region is another account.
    let foreign = AccountKey { region: "ie1".to_owned(), ..key(1) };
    store.remember_subaccounts(foreign, vec![subaccount(4, "active")]).await.expect("remembered");
    let other = subaccount(3, "active");
    let found = vec![one, other.clone()];
    store.remember_subaccounts(key(1), found.clone()).await.expect("remembered");
    assert_eq!(attach(&store, "us1").await.subaccounts, found);
    store.remember_subaccounts(key(1), vec![other.clone()]).await.expect("remembered");
    drop(store);
    assert!(thread.join());
    let (store, _thread) = open(&directory).expect("the same store");
    assert_eq!(attach(&store, "us1").await.subaccounts, [other]);
    assert_eq!(attach(&store, "ie1").await.subaccounts, [subaccount(4, "active")]);
}

#[tokio::test]
async fn a_known_account_is_shown_before_it_is_loaded() {
    let directory = directory();
    let (store, _thread) = open(&directory).expect("a new store");
    store.remember_subaccounts(key(1), vec![subaccount(2, "active")]).await.expect("remembered");
    let labels = [(key(2), "acme".to_owned()), (key(9), "unknown".to_owned())];
    store.show(BTreeMap::from(labels)).await.expect("shown");
    let shown: Vec<String> = store.committed().read().accounts().values().cloned().collect();
    assert_eq!(shown, ["acme"]);
    let loaded = store.attach(key(2), "acme".to_owned()).await.expect("attached");
    assert!(store.committed().read().accounts().contains_key(&loaded.id));
}

#[tokio::test]
async fn a_failed_write_keeps_the_previous_subaccounts() {
    let directory = directory();
    let (store, _thread, writes_fail) = open_with_failing_writes(&directory, health());
    let found = vec![subaccount(2, "active")];
    store.remember_subaccounts(key(1), found.clone()).await.expect("remembered");
    writes_fail.store(true, Ordering::Relaxed);
    assert!(store.remember_subaccounts(key(1), Vec::new()).await.is_err());
    writes_fail.store(false, Ordering::Relaxed);
    assert_eq!(attach(&store, "us1").await.subaccounts, found);
}

fn key(number: u8) -> AccountKey {
    AccountKey { sid: subaccount(number, "").sid, region: "us1".to_owned() }
}

fn subaccount(number: u8, status: &str) -> Subaccount {
    let sid = AccountSid::parse(&format!("AC{number:032}")).expect("a SID");
    Subaccount { sid, status: status.to_owned() }
}
