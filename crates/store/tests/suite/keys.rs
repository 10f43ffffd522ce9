//! Keys, transactions, limits.

use store::{Entry, Error, MAX_KEY_BYTES, MAX_TXN_OPERATIONS, MAX_VALUE_BYTES, Store, Txn};

use crate::server::{Server, within};

pub(crate) async fn put(store: &Store, key: &str, value: &str) -> i64 {
    let outcome = store.txn(Txn::new().put(key, value, None)).await.unwrap();
    assert!(outcome.succeeded);
    outcome.revision
}

/// The keys and values of entries.
pub(crate) fn pairs(entries: &[Entry]) -> Vec<(&str, &str)> {
    (entries.iter())
        .map(|entry| {
            (
                entry.key.as_str(),
                std::str::from_utf8(&entry.value).unwrap(),
            )
        })
        .collect()
}

pub(crate) async fn keys_are_put_read_listed_and_deleted(server: Server) {
    let store = server.store("a");
    assert_eq!(store.get("x/b").await.unwrap(), None);
    let empty = store.list("").await.unwrap();
    assert_eq!(empty.entries, []);

    let first = put(&store, "x/b", "1").await;
    assert!(first > empty.revision);
    put(&store, "x/a", "2").await;
    put(&store, "y", "3").await;
    put(&store, "x", "4").await;
    let last = put(&store, "x/b", "5").await;
    assert_eq!(last, first + 4, "each change is a revision");

    let entry = store.get("x/b").await.unwrap().unwrap();
    let expected = Entry {
        key: "x/b".into(),
        value: b"5".into(),
        create_revision: first,
        mod_revision: last,
        lease: None,
    };
    assert_eq!(entry, expected);
    let listing = store.list("x/").await.unwrap();
    assert_eq!(pairs(&listing.entries), [("x/a", "2"), ("x/b", "5")]);
    assert_eq!(listing.revision, last);
    let all = store.list("").await.unwrap().entries;
    assert_eq!(all.len(), 4);

    let gone = store
        .txn(Txn::new().delete("x/b").delete("none"))
        .await
        .unwrap();
    assert_eq!((gone.succeeded, gone.revision), (true, last + 1));
    assert_eq!(store.get("x/b").await.unwrap(), None);
    let nothing = store.txn(Txn::new().delete("x/b")).await.unwrap();
    assert_eq!(nothing.revision, last + 1, "nothing is no revision");
    let again = put(&store, "x/b", "6").await;
    let entry = store.get("x/b").await.unwrap().unwrap();
    assert_eq!(
        entry.create_revision, again,
        "it is another key than before"
    );
}

pub(crate) async fn clusters_do_not_see_each_other(server: Server) {
    // A name that the other one's begins with.
    let (one, other) = (server.store("lab"), server.store("lab-2"));
    put(&one, "k", "1").await;
    put(&other, "k", "2").await;
    put(&other, "z", "2").await;
    assert_eq!(pairs(&one.list("").await.unwrap().entries), [("k", "1")]);
    let seen = other.get("k").await.unwrap().unwrap();
    assert_eq!(
        (one.prefix(), seen.value),
        ("/conclave/lab/", b"2".to_vec())
    );
}

pub(crate) async fn a_key_is_created_once(server: Server) {
    let store = server.store("a");
    let create = |value: &str| Txn::new().if_absent("k").put("k", value, None);
    assert!(store.txn(create("1")).await.unwrap().succeeded);
    assert!(!store.txn(create("2")).await.unwrap().succeeded);
    assert_eq!(store.get("k").await.unwrap().unwrap().value, b"1");
    store.txn(Txn::new().delete("k")).await.unwrap();
    assert!(store.txn(create("3")).await.unwrap().succeeded);
}

pub(crate) async fn a_key_is_swapped_at_its_revision(server: Server) {
    let store = server.store("a");
    let first = put(&store, "k", "1").await;
    let swap = |revision, value: &str| {
        Txn::new()
            .if_modified_at("k", revision)
            .put("k", value, None)
    };
    let second = store.txn(swap(first, "2")).await.unwrap();
    assert!(second.succeeded);
    assert!(!store.txn(swap(first, "3")).await.unwrap().succeeded);
    assert!(
        store
            .txn(swap(second.revision, "4"))
            .await
            .unwrap()
            .succeeded
    );
    assert_eq!(store.get("k").await.unwrap().unwrap().value, b"4");
    // A key that is not there was modified at no revision.
    let other = Txn::new()
        .if_modified_at("none", first)
        .put("none", "", None);
    assert!(!store.txn(other).await.unwrap().succeeded);
}

pub(crate) async fn a_key_is_swapped_under_its_lease(server: Server) {
    let store = server.store("a");
    let ttl = std::time::Duration::from_secs(60);
    let (mine, other) = (
        store.lease(ttl).await.unwrap(),
        store.lease(ttl).await.unwrap(),
    );
    assert_ne!(mine.id(), other.id());
    let claim = Txn::new().put("k", "1", Some(mine.id()));
    store.txn(claim).await.unwrap();
    assert_eq!(
        store.get("k").await.unwrap().unwrap().lease,
        Some(mine.id())
    );
    let change = |lease| Txn::new().if_held_by("k", lease).put("k", "2", Some(lease));
    assert!(!store.txn(change(other.id())).await.unwrap().succeeded);
    assert!(store.txn(change(mine.id())).await.unwrap().succeeded);
}

pub(crate) async fn a_transaction_that_fails_reads_and_changes_nothing(server: Server) {
    let store = server.store("a");
    let put_at = put(&store, "k", "1").await;
    let txn = Txn::new()
        .if_absent("x")
        .if_absent("k")
        .put("x", "2", None)
        .delete("k")
        .else_get("none")
        .else_get("k");
    let outcome = store.txn(txn.clone()).await.unwrap();
    assert_eq!((outcome.succeeded, outcome.revision), (false, put_at));
    let [None, Some(read)] = &outcome.read[..] else {
        panic!("{outcome:?}");
    };
    assert_eq!((read.key.as_str(), read.mod_revision), ("k", put_at));
    assert_eq!(store.get("x").await.unwrap(), None);

    store.txn(Txn::new().delete("k")).await.unwrap();
    let outcome = store.txn(txn).await.unwrap();
    assert!(outcome.succeeded);
    assert_eq!(outcome.read, [], "what was asked for in the other case");
}

pub(crate) async fn a_transaction_has_one_revision(server: Server) {
    let store = server.store("a");
    let before = put(&store, "gone", "").await;
    let txn = Txn::new()
        .put("a", "1", None)
        .put("b", "2", None)
        .delete("gone");
    let revision = store.txn(txn).await.unwrap().revision;
    assert_eq!(revision, before + 1);
    let entries = store.list("").await.unwrap().entries;
    let revisions: Vec<i64> = entries.iter().map(|entry| entry.mod_revision).collect();
    assert_eq!(revisions, [revision, revision]);
}

pub(crate) async fn of_two_clients_one_wins(server: Server) {
    let (one, other) = (server.store("a"), server.store("a"));
    let mut won = [0, 0];
    for round in 0..50 {
        let claim = |who: &str| {
            let key = format!("lead/{round}");
            Txn::new()
                .if_absent(&key)
                .put(&key, who, None)
                .else_get(key)
        };
        let (first, second) = tokio::join!(one.txn(claim("0")), other.txn(claim("1")));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(first.succeeded ^ second.succeeded, "round {round}");
        won[usize::from(second.succeeded)] += 1;
        // The one that lost sees who won.
        let (winner, seen) = match first.succeeded {
            true => (b"0", second.read),
            false => (b"1", first.read),
        };
        assert_eq!(seen[0].as_ref().unwrap().value, winner);
    }
    assert_eq!(won[0] + won[1], 50);
}

pub(crate) async fn a_thousand_keys_come_in_order(server: Server) {
    let store = server.store("a");
    let mut revision = 0;
    for hundred in (0..10).rev() {
        let mut txn = Txn::new();
        for key in (0..100).rev() {
            let key = format!("k/{hundred}{key:02}");
            txn = txn.put(&key, key.as_bytes(), None);
        }
        revision = store.txn(txn).await.unwrap().revision;
    }
    let listing = store.list("k/").await.unwrap();
    assert_eq!((listing.revision, listing.entries.len()), (revision, 1000));
    assert!(listing.entries.is_sorted_by_key(|entry| entry.key.clone()));
    assert!(
        listing
            .entries
            .iter()
            .all(|entry| entry.value == entry.key.as_bytes())
    );
}

pub(crate) async fn values_have_all_bytes(server: Server) {
    let store = server.store("a");
    let all: Vec<u8> = (0..=255).collect();
    let txn = Txn::new()
        .put("all", all.clone(), None)
        .put("empty", "", None);
    store.txn(txn).await.unwrap();
    assert_eq!(store.get("all").await.unwrap().unwrap().value, all);
    assert_eq!(store.get("empty").await.unwrap().unwrap().value, b"");
    let odd = "members/10.0.0.1:7200/ä €\u{1f980} \n";
    put(&store, odd, "1").await;
    assert_eq!(
        pairs(&store.list("members/").await.unwrap().entries),
        [(odd, "1")]
    );
}

pub(crate) async fn limits_are_kept(server: Server) {
    let store = server.store("a");
    let largest = vec![7; MAX_VALUE_BYTES];
    let txn = Txn::new().put("k", largest.clone(), None);
    store.txn(txn).await.unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap().value, largest);
    let mut many = Txn::new();
    for key in 0..MAX_TXN_OPERATIONS {
        many = many.put(key.to_string(), "", None);
    }
    store.txn(many.clone()).await.unwrap();
    let longest = "k".repeat(MAX_KEY_BYTES - store.prefix().len());
    put(&store, &longest, "").await;

    let too_large = [
        Txn::new().put("k", vec![7; MAX_VALUE_BYTES + 1], None),
        Txn::new()
            .put("k", largest.clone(), None)
            .put("l", largest, None),
        many.put("one more", "", None),
    ];
    for txn in too_large {
        let error = store.txn(txn).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        assert!(
            !error.is_transient() && error.to_string().contains("more than"),
            "{error}"
        );
    }
    for key in ["", ".store", &format!("{longest}k")] {
        let error = store.get(key).await.unwrap_err();
        assert!(matches!(error, Error::Key { .. }), "{error}");
    }
    let short = store.lease(std::time::Duration::from_millis(1)).await;
    assert!(matches!(short, Err(Error::Ttl { .. })));
}

pub(crate) async fn refusals_have_words(server: Server) {
    let store = server.store("a");
    let gone = store
        .lease(std::time::Duration::from_secs(60))
        .await
        .unwrap();
    let id = gone.id();
    within(gone.revoke()).await.unwrap();
    let held = store
        .txn(Txn::new().put("members/a", "", Some(id)))
        .await
        .unwrap_err();
    let twice = Txn::new().put("k", "1", None).put("k", "2", None);
    let twice = store.txn(twice).await.unwrap_err();
    for (error, code, words) in [
        (held, tonic::Code::NotFound, "put members/a"),
        (twice, tonic::Code::InvalidArgument, "change k and 1 more"),
    ] {
        assert!(
            matches!(error, Error::Refused { code: found, .. } if found == code),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.is_transient(), "{error}");
    }
    // A refusal is an answer.
    assert!(store.health().borrow().connected);
}

pub(crate) async fn clusters_are_listed_by_name(server: Server) {
    let nobody = server.store("none");
    assert_eq!(nobody.clusters().await.unwrap(), Vec::<String>::new());
    for name in ["b", "a", "a-b", "a.c", "a0"] {
        let store = server.store(name);
        put(&store, "x", "1").await;
        put(&store, "y", "2").await;
    }
    let mut names = nobody.clusters().await.unwrap();
    names.sort();
    assert_eq!(names, ["a", "a-b", "a.c", "a0", "b"]);
}
