//! Watches: everything, in order, once.

use store::{Change, Entry, Store, Txn, Watch};

use crate::keys::{pairs, put};
use crate::server::{Server, within};

/// A watch, and what is known from it.
pub(crate) struct Follow {
    watch: Watch,
    pub(crate) first: Vec<Entry>,
    pub(crate) revision: i64,
}

impl Follow {
    /// Starts a watch and waits until it has begun.
    pub(crate) async fn of(store: &Store, prefix: &str) -> Self {
        let mut watch = store.watch(prefix).unwrap();
        assert_eq!(within(watch.next()).await, Some(Change::Connected));
        match within(watch.next()).await.unwrap() {
            Change::Reset(first, revision) => Self {
                watch,
                first,
                revision,
            },
            other => panic!("{other:?} before everything"),
        }
    }

    pub(crate) async fn next(&mut self) -> Change {
        within(self.watch.next()).await.unwrap()
    }

    /// The next change, in few words.
    async fn said(&mut self) -> String {
        match self.next().await {
            Change::Put(entry) => {
                format!("{}={}", entry.key, String::from_utf8(entry.value).unwrap())
            }
            Change::Delete(key, _) => format!("-{key}"),
            Change::Reset(entries, _) => format!("reset {:?}", pairs(&entries)),
            other => format!("{other:?}"),
        }
    }

    /// The changes up to the put of a key.
    async fn until(&mut self, key: &str) -> Vec<String> {
        let (mut all, last) = (Vec::new(), format!("{key}="));
        loop {
            all.push(self.said().await);
            if all.last().unwrap().starts_with(&last) {
                return all;
            }
        }
    }
}

pub(crate) async fn a_watch_begins_with_everything_and_goes_on(server: Server) {
    let store = server.store("a");
    put(&store, "x/a", "1").await;
    put(&store, "y", "1").await;
    let mut watch = Follow::of(&store, "x/").await;
    assert_eq!(pairs(&watch.first), [("x/a", "1")]);
    let revision = put(&store, "x/b", "2").await;
    assert!(revision > watch.revision);
    put(&store, "y", "2").await;
    put(&store, "x/a", "3").await;
    store.txn(Txn::new().delete("x/a")).await.unwrap();
    let entry = store.get("x/b").await.unwrap().unwrap();
    assert_eq!(watch.next().await, Change::Put(entry));
    assert_eq!(watch.said().await, "x/a=3");
    assert_eq!(
        watch.next().await,
        Change::Delete("x/a".into(), revision + 3)
    );

    // One of everything shows callers' keys alone.
    let mut all = Follow::of(&store, "").await;
    assert_eq!(pairs(&all.first), [("x/b", "2"), ("y", "2")]);
    put(&store, "z", "4").await;
    assert_eq!(all.said().await, "z=4");
}

pub(crate) async fn a_watch_sees_the_changes_of_a_transaction_in_order(server: Server) {
    let store = server.store("a");
    put(&store, "gone", "").await;
    let mut watch = Follow::of(&store, "").await;
    let txn = Txn::new()
        .put("b", "1", None)
        .put("a", "2", None)
        .delete("gone");
    let revision = store.txn(txn).await.unwrap().revision;
    for _ in 0..3 {
        let at = match watch.next().await {
            Change::Put(entry) => entry.mod_revision,
            Change::Delete(_, revision) => revision,
            other => panic!("{other:?}"),
        };
        assert_eq!(at, revision);
    }
}

pub(crate) async fn a_watch_that_is_not_read_loses_nothing(server: Server) {
    let store = server.store("a");
    let mut slow = Follow::of(&store, "k/").await;
    // Far more than its queue holds, and far more bytes than a connection does.
    let value = vec![b'x'; 8000];
    for hundred in 0..20 {
        let mut txn = Txn::new();
        for key in 0..100 {
            txn = txn.put(format!("k/{hundred:02}{key:02}"), value.clone(), None);
        }
        store.txn(txn).await.unwrap();
    }
    // It holds up nobody else.
    let mut other = Follow::of(&store, "other").await;
    put(&store, "other", "1").await;
    assert_eq!(other.said().await, "other=1");
    for number in 0..2000 {
        match slow.next().await {
            Change::Put(entry) => {
                assert_eq!(
                    (entry.key, &entry.value),
                    (format!("k/{number:04}"), &value)
                );
            }
            change => panic!("{change:?} in the place of {number}"),
        }
    }
}

pub(crate) async fn a_watch_misses_nothing_that_happens_behind_its_back(server: Server) {
    let (store, other) = (server.store("a"), server.behind("a"));
    put(&store, "k", "0").await;
    let mut watch = Follow::of(&store, "").await;
    for round in 0..3 {
        put(&other, "k", "seen").await;
        assert_eq!(watch.said().await, "k=seen");
        server.proxy.cut();
        assert_eq!(watch.said().await, "Disconnected");
        put(&other, "k", "1").await;
        other.txn(Txn::new().delete("k")).await.unwrap();
        put(&other, "k", "2").await;
        put(&other, "l", &round.to_string()).await;
        server.proxy.mend();
        let last = format!("l={round}");
        assert_eq!(
            watch.until("l").await,
            ["Connected", "k=1", "-k", "k=2", &last]
        );
    }
}

pub(crate) async fn a_watch_survives_its_server(mut server: Server) {
    let store = server.store("a");
    put(&store, "k", "0").await;
    let mut watch = Follow::of(&store, "").await;
    for round in 0..2 {
        // One that is seen before the end, perhaps, and certainly after it.
        put(&store, "k", &format!("a{round}")).await;
        server.crash().await;
        within(store.ready()).await;
        assert_eq!(
            store.get("k").await.unwrap().unwrap().value,
            format!("a{round}").as_bytes()
        );
        put(&store, "l", &format!("b{round}")).await;
        let mut seen = watch.until("l").await;
        seen.retain(|said| said != "Connected" && said != "Disconnected");
        assert_eq!(seen, [format!("k=a{round}"), format!("l=b{round}")]);
    }
}

pub(crate) async fn a_watch_of_a_compacted_store_begins_again(server: Server) {
    let (store, other) = (server.store("a"), server.behind("a"));
    put(&store, "k", "0").await;
    put(&store, "stays", "0").await;
    let mut watch = Follow::of(&store, "").await;
    server.proxy.cut();
    assert_eq!(watch.said().await, "Disconnected");
    put(&other, "k", "1").await;
    other.txn(Txn::new().delete("k")).await.unwrap();
    let last = put(&other, "l", "2").await;
    server.direct().await.compact(last, None).await.unwrap();
    server.proxy.mend();
    let mut said = watch.said().await;
    while said == "Connected" || said == "Disconnected" {
        said = watch.said().await;
    }
    assert_eq!(said, r#"reset [("l", "2"), ("stays", "0")]"#);
    put(&store, "k", "3").await;
    assert_eq!(watch.said().await, "k=3");
}

pub(crate) async fn a_watch_of_a_wiped_store_begins_again(mut server: Server) {
    let store = server.store("a");
    put(&store, "k", "0").await;
    let mut watch = Follow::of(&store, "").await;
    let mut revision = watch.revision;
    // A store that is behind the old one, and one that is far ahead of it.
    for ahead in [0, 100] {
        server.wipe().await;
        let other = server.behind("a");
        within(other.ready()).await;
        for key in 0..=ahead {
            put(&other, "l", &key.to_string()).await;
        }
        let reached = other.list("").await.unwrap().revision;
        assert_eq!(reached > revision, ahead > 0);
        server.proxy.mend();
        let mut said = watch.said().await;
        while said == "Connected" || said == "Disconnected" {
            said = watch.said().await;
        }
        assert_eq!(said, format!(r#"reset [("l", "{ahead}")]"#));
        revision = put(&store, "m", "1").await;
        assert_eq!(watch.said().await, "m=1");
    }
}
