//! What the memory store does not have, it says by name.

use etcd_client::{
    DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions,
};
use tonic::Code;

use crate::server::{Kind, Server, run, within};

#[test]
fn what_the_memory_store_does_not_serve_is_said_by_name() {
    run(Kind::Memory, names);
}

async fn names(server: Server) {
    let mut client = server.direct().await;
    let past = Some(GetOptions::new().with_revision(1));
    let sorted = Some(GetOptions::new().with_sort(SortTarget::Value, SortOrder::Ascend));
    let previous = Some(PutOptions::new().with_prev_key());
    let deleted = Some(DeleteOptions::new().with_prev_key());
    let nested = Txn::new().and_then(vec![TxnOp::txn(Txn::new())]);
    let refused = [
        (client.get("k", past).await.err(), "RangeRequest.revision"),
        (
            client.get("k", sorted).await.err(),
            "RangeRequest.sort_order",
        ),
        (
            client.put("k", "", previous).await.err(),
            "PutRequest.prev_kv",
        ),
        (
            client.delete("k", deleted).await.err(),
            "DeleteRangeRequest.prev_kv",
        ),
        (client.txn(nested).await.err(), "RequestOp.request_txn"),
        (client.leases().await.err(), "Lease.LeaseLeases"),
        (
            client.status().await.err(),
            "etcdserverpb.Maintenance/Status",
        ),
        (
            client.member_list().await.err(),
            "etcdserverpb.Cluster/MemberList",
        ),
        (client.user_list().await.err(), "etcdserverpb.Auth/UserList"),
    ];
    for (error, name) in refused {
        named(error, name);
    }
    let filtered = Some(WatchOptions::new().with_prev_key());
    let mut stream = client.watch("k", filtered).await.unwrap();
    let ended = within(stream.message()).await;
    named(ended.err(), "WatchCreateRequest.prev_kv");
}

fn named(error: Option<etcd_client::Error>, name: &str) {
    match error {
        Some(etcd_client::Error::GRpcStatus(status)) => {
            assert_eq!(status.code(), Code::Unimplemented, "{name}: {status}");
            assert!(status.message().contains(name), "{status}");
        }
        other => panic!("{name}: {other:?}"),
    }
}
