//! What every implementation must do. A case takes handles to an empty store and panics when something is wrong.

pub(crate) mod follow;
pub(crate) mod leases;
pub(crate) mod log;
pub(crate) mod presence;
pub(crate) mod pubsub;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reactor_bus::{Ack, BusError, ChangeLog, Stored};
use reactor_model::TenantId;

/// For anything that takes no time when all is well.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What the logs of a case keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) retention: Duration,
    pub(crate) max_bytes: usize,
}

pub(crate) const ROOMY: Limits = Limits { retention: Duration::from_secs(300), max_bytes: 64 << 20 };
pub(crate) const SMALL: Limits = Limits { retention: Duration::from_secs(300), max_bytes: 100 << 10 };
pub(crate) const SHORT: Limits = Limits { retention: Duration::from_secs(1), max_bytes: 64 << 20 };

/// The same store as two processes see it.
pub(crate) struct Logs {
    pub(crate) log: Arc<dyn ChangeLog>,
    pub(crate) second: Arc<dyn ChangeLog>,
}

pub(crate) type Followed = BoxStream<'static, Result<Stored, BusError>>;

pub(crate) fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

pub(crate) fn payload(seq: u64) -> Bytes {
    format!("batch {seq}").into()
}

pub(crate) fn stored(seq: u64) -> Stored {
    Stored { seq, payload: payload(seq) }
}

pub(crate) async fn append(log: &dyn ChangeLog, payload: Bytes, expected_last: u64) -> Result<u64, BusError> {
    send(log, payload, expected_last).await?.await
}

pub(crate) async fn send(log: &dyn ChangeLog, payload: Bytes, expected_last: u64) -> Result<Ack, BusError> {
    log.append(&tenant(), "public", "order items", payload, expected_last).await
}

/// Opens, and appends `count` batches one after the other.
pub(crate) async fn filled(log: &dyn ChangeLog, count: u64) {
    log.open(&tenant()).await.unwrap();
    fill(log, 1, count).await;
}

pub(crate) async fn fill(log: &dyn ChangeLog, from: u64, to: u64) {
    for seq in from..=to {
        assert_eq!(append(log, payload(seq), seq - 1).await.unwrap(), seq);
    }
}

pub(crate) async fn follow(log: &dyn ChangeLog, after: u64) -> Followed {
    log.follow(&tenant(), after).await.unwrap()
}

pub(crate) async fn next(followed: &mut Followed) -> Result<Stored, BusError> {
    let next = tokio::time::timeout(SOON, followed.next()).await;
    next.expect("nothing came in time").expect("the log ended without an error")
}

/// Exactly these sequences come next, in order.
pub(crate) async fn expect(followed: &mut Followed, from: u64, to: u64) {
    for seq in from..=to {
        assert_eq!(next(followed).await.unwrap(), stored(seq));
    }
}

pub(crate) async fn expect_silence(followed: &mut Followed) {
    let quiet = tokio::time::timeout(Duration::from_millis(300), followed.next()).await;
    assert!(quiet.is_err(), "unexpected: {quiet:?}");
}

/// Runs every case of the log suite, each as a test of its own. `$make` takes [`Limits`] and gives [`Logs`] with what
/// must live as long.
macro_rules! log_suite {
    ($make:path) => {
        log_suite!($make, ROOMY, log: opening_creates_the_log, appends_are_numbered_in_order,
            pipelined_appends_are_stored_in_call_order, a_writer_that_was_replaced_is_refused,
            a_pipeline_of_a_replaced_writer_is_refused_whole, a_stored_batch_can_be_fetched,
            too_large_payloads_are_refused, opening_again_keeps_what_is_there, tenants_are_apart,
            any_name_of_schema_and_table_is_taken);
        log_suite!($make, SMALL, log: the_oldest_go_when_bytes_run_out);
        log_suite!($make, SHORT, log: batches_expire, sequences_go_on_after_all_have_expired);
        log_suite!($make, ROOMY, follow: from_the_start, from_the_middle, from_the_end_sees_what_comes,
            several_followers_see_the_same, a_backlog_and_what_comes_meanwhile, nothing_to_follow,
            a_place_that_was_never_reached);
        log_suite!($make, SMALL, follow: a_place_that_was_trimmed, a_follower_that_is_overtaken_is_told);
    };
    ($make:path, $limits:ident, $module:ident: $($case:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (logs, _parts) = $make($crate::suite::$limits).await;
                $crate::suite::$module::$case(&logs).await;
            }
        )+
    };
}
pub(crate) use log_suite;

/// Runs every case of the lease suite. `$make` gives two handles as of two processes, the time to live of a lease, and
/// what must live as long.
macro_rules! lease_suite {
    ($make:path) => {
        lease_suite!($make: one_holder_at_a_time, renewing_keeps_it, it_lapses_and_is_taken_over,
            a_released_lease_is_free_at_once, a_lost_lease_is_not_renewed, releasing_a_lost_lease_does_no_harm,
            keys_are_apart);
    };
    ($make:path: $($case:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (leases, _parts) = $make().await;
                $crate::suite::leases::$case(&leases).await;
            }
        )+
    };
}
pub(crate) use lease_suite;

/// Runs every case of the suite of messages. `$make` gives two handles as of two processes, and what must live as long.
macro_rules! pubsub_suite {
    ($make:path) => {
        suite_cases!($make, pubsub: a_message_reaches_every_subscription, messages_of_a_publisher_come_in_order,
            nobody_need_wait, a_subscription_is_active_when_told, channels_are_apart, any_topic_is_taken,
            too_large_messages_are_refused, a_reader_that_is_behind_is_told_how_much);
    };
}
pub(crate) use pubsub_suite;

/// Runs every case of the suite of presences. `$make` gives two handles as of two processes, and what must live as long.
macro_rules! presence_suite {
    ($make:path) => {
        suite_cases!($make, presence: the_state_comes_first_and_then_changes,
            changes_come_in_order_with_owner_and_revision, the_same_value_again_is_no_change,
            one_key_of_two_owners_is_two_entries, thousands_of_entries_are_one_state,
            channels_are_apart_and_a_tenant_sees_all, any_name_is_taken, too_large_values_are_refused,
            removing_what_is_not_there_is_no_error, an_owner_that_leaves_takes_all_with_it,
            an_owner_that_dies_is_gone_for_all, joining_while_others_come_and_go);
    };
}
pub(crate) use presence_suite;

macro_rules! suite_cases {
    ($make:path, $module:ident: $($case:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (handles, _parts) = $make().await;
                $crate::suite::$module::$case(&handles).await;
            }
        )+
    };
}
pub(crate) use suite_cases;
