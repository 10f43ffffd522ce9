//! One suite for both stores: what holds of etcd holds of the memory store.
//!
//! Each case runs on a store of its own, behind a proxy that can be cut or frozen. The tests on etcd
//! need its program; `cargo xtask test` brings it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod keys;
mod leases;
mod observed;
mod outages;
mod protocol;
mod proxy;
mod server;
mod unserved;
mod watches;

macro_rules! suite {
    ($($area:ident: $($case:ident)*;)*) => {
        mod on_memory {
            $($(
                #[test]
                fn $case() {
                    crate::server::run(crate::server::Kind::Memory, crate::$area::$case);
                }
            )*)*
        }

        mod on_etcd {
            $($(
                #[test]
                fn $case() {
                    crate::server::run(crate::server::Kind::Etcd, crate::$area::$case);
                }
            )*)*
        }
    };
}

suite! {
    keys:
        keys_are_put_read_listed_and_deleted
        clusters_do_not_see_each_other
        clusters_are_listed_by_name
        a_key_is_created_once
        a_key_is_swapped_at_its_revision
        a_key_is_swapped_under_its_lease
        a_transaction_that_fails_reads_and_changes_nothing
        a_transaction_has_one_revision
        of_two_clients_one_wins
        a_thousand_keys_come_in_order
        values_have_all_bytes
        limits_are_kept
        refusals_have_words;
    leases:
        keys_end_with_their_lease_and_watches_see_it
        a_lease_is_kept_alive
        a_revoked_lease_takes_its_keys_with_it
        a_lease_is_lost_with_its_store
        a_lease_is_lost_with_a_store_that_stands_still
        a_lease_is_lost_when_the_store_says_so
        a_lease_outlives_a_short_outage;
    watches:
        a_watch_begins_with_everything_and_goes_on
        a_watch_sees_the_changes_of_a_transaction_in_order
        a_watch_that_is_not_read_loses_nothing
        a_watch_misses_nothing_that_happens_behind_its_back
        a_watch_survives_its_server
        a_watch_of_a_compacted_store_begins_again
        a_watch_of_a_wiped_store_begins_again;
    outages:
        a_store_that_is_not_there_is_waited_for
        a_dead_endpoint_is_passed_over
        a_silent_endpoint_is_passed_over
        a_transaction_without_an_answer_is_not_sent_again
        a_lease_of_a_wiped_store_is_lost;
    observed:
        requests_leases_and_broken_watches_are_told;
    protocol:
        single_puts_and_deletes_are_served
        a_watch_says_where_it_is_and_can_be_canceled
        a_compacted_revision_cannot_be_watched
        leases_tell_what_they_have_left;
}
