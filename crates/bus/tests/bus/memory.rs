//! The implementation in memory.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use reactor_bus::ChangeLog as _;
use reactor_bus::Leases as _;
use reactor_bus::memory::{MemoryLeases, MemoryLog, MemoryLogConfig, MemoryPresence, MemoryPubSub};

use crate::suite::leases::Held;
use crate::suite::presence::Rooms;
use crate::suite::pubsub::{BACKLOG, Talk};
use crate::suite::{
    Limits, Logs, filled, follow, lease_suite, log_suite, next, presence_suite, pubsub_suite, suite_cases, tenant,
};

const MAX_PAYLOAD_BYTES: usize = 1 << 20;

fn log(limits: Limits) -> MemoryLog {
    let Limits { retention, max_bytes } = limits;
    MemoryLog::new(MemoryLogConfig { retention, max_bytes, max_payload_bytes: MAX_PAYLOAD_BYTES })
}

fn logs(limits: Limits) -> Ready<(Logs, ())> {
    let log = Arc::new(log(limits));
    ready((Logs { second: Arc::clone(&log) as _, log }, ()))
}

fn leases() -> Ready<(Held, ())> {
    let leases = Arc::new(MemoryLeases::new());
    ready((Held { second: Arc::clone(&leases) as _, leases, ttl: Duration::from_secs(1) }, ()))
}

fn talk() -> Ready<(Talk, ())> {
    let bus = Arc::new(MemoryPubSub::new(MAX_PAYLOAD_BYTES, BACKLOG));
    ready((Talk { second: Arc::clone(&bus) as _, bus }, ()))
}

fn rooms() -> Ready<(Rooms, ())> {
    let presence = Arc::new(MemoryPresence::new(MAX_PAYLOAD_BYTES));
    ready((Rooms { second: Arc::clone(&presence) as _, first: presence }, ()))
}

mod log_suite_cases {
    use super::log_suite;
    log_suite!(super::logs);
}

mod lease_suite_cases {
    use super::lease_suite;
    lease_suite!(super::leases);
}

mod pubsub_suite_cases {
    use super::{pubsub_suite, suite_cases};
    pubsub_suite!(super::talk);
}

mod presence_suite_cases {
    use super::{presence_suite, suite_cases};
    presence_suite!(super::rooms);
}

#[tokio::test(start_paused = true)]
async fn batches_expire_by_the_clock_of_the_runtime() {
    let log = log(Limits { retention: Duration::from_secs(300), max_bytes: 1 << 20 });
    filled(&log, 3).await;
    let mut followed = follow(&log, 0).await;
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(log.bounds(&tenant()).await.unwrap().first, 1);
    assert_eq!(next(&mut followed).await.unwrap().seq, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(log.bounds(&tenant()).await.unwrap().first, 4);
    assert!(next(&mut followed).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_newest_batch_stays_whatever_its_size() {
    let log = log(Limits { retention: Duration::from_secs(300), max_bytes: 3 });
    filled(&log, 3).await;
    let bounds = log.bounds(&tenant()).await.unwrap();
    assert_eq!((bounds.first, bounds.last), (3, 3));
}

#[test]
fn other_processes_are_not_kept_out() {
    assert!(!MemoryLeases::new().spans_processes());
}
