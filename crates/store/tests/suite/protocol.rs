//! etcd's API itself, where our client does not show it all.

use etcd_client::{EventType, LeaseTimeToLiveOptions, WatchOptions};
use tonic::Code;

use crate::server::{Server, within};

fn code(error: etcd_client::Error) -> Code {
    match error {
        etcd_client::Error::GRpcStatus(status) => status.code(),
        other => panic!("{other}"),
    }
}

pub(crate) async fn single_puts_and_deletes_are_served(server: Server) {
    let mut client = server.direct().await;
    let put = client.put("k", "1", None).await.unwrap();
    let again = client.put("k", "2", None).await.unwrap();
    let revision = |header: Option<&etcd_client::ResponseHeader>| header.unwrap().revision();
    assert_eq!(revision(again.header()), revision(put.header()) + 1);
    let read = client.get("k", None).await.unwrap();
    assert_eq!((read.count(), read.kvs()[0].version()), (1, 2));
    let header = read.header().unwrap();
    assert!(header.cluster_id() != 0 && header.member_id() != 0);
    assert_eq!(client.delete("k", None).await.unwrap().deleted(), 1);
    assert_eq!(client.delete("k", None).await.unwrap().deleted(), 0);
    assert_eq!(
        code(client.put("", "", None).await.unwrap_err()),
        Code::InvalidArgument
    );
    let held = etcd_client::PutOptions::new().with_lease(12345);
    assert_eq!(
        code(client.put("k", "", Some(held)).await.unwrap_err()),
        Code::NotFound
    );
}

pub(crate) async fn a_watch_says_where_it_is_and_can_be_canceled(server: Server) {
    let mut client = server.direct().await;
    let mut stream = client.watch("k", None).await.unwrap();
    let created = within(stream.message()).await.unwrap().unwrap();
    assert!(created.created() && created.events().is_empty());
    let revision = client
        .put("k", "1", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    let changed = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(changed.watch_id(), created.watch_id());
    assert_eq!(changed.events()[0].event_type(), EventType::Put);

    stream.request_progress().await.unwrap();
    let progress = within(stream.message()).await.unwrap().unwrap();
    assert!(progress.events().is_empty() && !progress.canceled());
    assert_eq!(
        (progress.watch_id(), progress.header().unwrap().revision()),
        (-1, revision)
    );

    // Another one on the same stream, from the past.
    let past = WatchOptions::new().with_start_revision(revision);
    stream.watch("k", Some(past)).await.unwrap();
    let second = within(stream.message()).await.unwrap().unwrap();
    assert!(second.created() && second.watch_id() != created.watch_id());
    let seen = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(seen.watch_id(), second.watch_id());
    assert_eq!(seen.events()[0].kv().unwrap().mod_revision(), revision);

    stream.cancel(created.watch_id()).await.unwrap();
    let canceled = within(stream.message()).await.unwrap().unwrap();
    assert!(canceled.canceled() && canceled.compact_revision() == 0);
    assert_eq!(canceled.watch_id(), created.watch_id());
    client.delete("k", None).await.unwrap();
    let last = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(last.watch_id(), second.watch_id());
    assert_eq!(last.events()[0].event_type(), EventType::Delete);
}

pub(crate) async fn a_compacted_revision_cannot_be_watched(server: Server) {
    let mut client = server.direct().await;
    let mut last = 0;
    for _ in 0..5 {
        last = client
            .put("k", "1", None)
            .await
            .unwrap()
            .header()
            .unwrap()
            .revision();
    }
    client.compact(last - 1, None).await.unwrap();
    assert_eq!(
        code(client.compact(last - 1, None).await.unwrap_err()),
        Code::OutOfRange
    );
    assert_eq!(
        code(client.compact(last + 1, None).await.unwrap_err()),
        Code::OutOfRange
    );
    let from = |revision| Some(WatchOptions::new().with_start_revision(revision));
    let mut stream = client.watch("k", from(last - 2)).await.unwrap();
    assert!(within(stream.message()).await.unwrap().unwrap().created());
    let canceled = within(stream.message()).await.unwrap().unwrap();
    assert!(canceled.canceled());
    assert_eq!(canceled.compact_revision(), last - 1);
    // The revision of the compaction itself is kept.
    let mut stream = client.watch("k", from(last - 1)).await.unwrap();
    assert!(within(stream.message()).await.unwrap().unwrap().created());
    let kept = within(stream.message()).await.unwrap().unwrap();
    let revisions: Vec<i64> = kept
        .events()
        .iter()
        .map(|event| event.kv().unwrap().mod_revision())
        .collect();
    assert_eq!(revisions, [last - 1, last]);
}

pub(crate) async fn leases_tell_what_they_have_left(server: Server) {
    let mut client = server.direct().await;
    let id = client.lease_grant(60, None).await.unwrap().id();
    let held = etcd_client::PutOptions::new().with_lease(id);
    client.put("k", "", Some(held)).await.unwrap();
    let keys = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(id, Some(keys)).await.unwrap();
    assert_eq!((left.granted_ttl(), left.keys().len()), (60, 1));
    assert!((50..=60).contains(&left.ttl()), "{}", left.ttl());
    let (mut keeper, mut stream) = client.lease_keep_alive(id).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(within(stream.message()).await.unwrap().unwrap().ttl(), 60);
    client.lease_revoke(id).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(within(stream.message()).await.unwrap().unwrap().ttl(), 0);
    assert_eq!(client.lease_time_to_live(id, None).await.unwrap().ttl(), -1);
    assert_eq!(
        code(client.lease_revoke(id).await.unwrap_err()),
        Code::NotFound
    );
    let taken = etcd_client::LeaseGrantOptions::new().with_id(77);
    assert_eq!(
        client
            .lease_grant(60, Some(taken.clone()))
            .await
            .unwrap()
            .id(),
        77
    );
    let again = client.lease_grant(60, Some(taken)).await.unwrap_err();
    assert_eq!(code(again), Code::FailedPrecondition);
}
