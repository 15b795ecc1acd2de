//! Leases.

use std::sync::Arc;
use std::time::Duration;

use reactor_bus::{BusError, Lease, Leases};
use tokio::time::Instant;

/// The same leases as two processes see them.
pub(crate) struct Held {
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) second: Arc<dyn Leases>,
    pub(crate) ttl: Duration,
}

const KEY: &str = "replicator.acme";

impl Held {
    async fn first_takes(&self) -> Option<Lease> {
        self.leases.try_acquire(KEY, "a-1", self.ttl).await.unwrap()
    }

    async fn second_takes(&self) -> Option<Lease> {
        self.second.try_acquire(KEY, "b-1", self.ttl).await.unwrap()
    }
}

pub(crate) async fn one_holder_at_a_time(held: &Held) {
    let lease = held.first_takes().await.unwrap();
    assert_eq!((lease.key.as_str(), lease.holder.as_str()), (KEY, "a-1"));
    assert_eq!(held.second_takes().await, None);
    // Nor by the same holder, whose lease may be used elsewhere.
    assert_eq!(held.first_takes().await, None);
}

pub(crate) async fn renewing_keeps_it(held: &Held) {
    let mut lease = held.first_takes().await.unwrap();
    let until = Instant::now() + held.ttl * 2;
    while Instant::now() < until {
        reactor_testkit::wait::elapse(held.ttl / 4, "between renewals").await;
        held.leases.renew(&mut lease).await.unwrap();
        assert_eq!(held.second_takes().await, None);
    }
}

pub(crate) async fn it_lapses_and_is_taken_over(held: &Held) {
    let mut lease = held.first_takes().await.unwrap();
    held.leases.renew(&mut lease).await.unwrap();
    let renewed_at = Instant::now();
    while held.second_takes().await.is_none() {
        reactor_testkit::wait::elapse(Duration::from_millis(50), "between attempts").await;
    }
    let waited = renewed_at.elapsed();
    assert!(waited >= held.ttl - Duration::from_millis(500), "too early: {waited:?}");
    assert!(waited <= held.ttl + Duration::from_secs(2), "too late: {waited:?}");
}

pub(crate) async fn a_released_lease_is_free_at_once(held: &Held) {
    let mut lease = held.first_takes().await.unwrap();
    held.leases.renew(&mut lease).await.unwrap();
    held.leases.release(lease).await.unwrap();
    let mut lease = held.second_takes().await.unwrap();
    assert_eq!(held.first_takes().await, None);
    held.second.renew(&mut lease).await.unwrap();
    held.second.release(lease).await.unwrap();
    assert!(held.first_takes().await.is_some());
}

pub(crate) async fn a_lost_lease_is_not_renewed(held: &Held) {
    let mut lost = held.first_takes().await.unwrap();
    reactor_testkit::wait::elapse(held.ttl + Duration::from_secs(1), "for the lease to lapse").await;
    let lapsed = held.leases.renew(&mut lost).await;
    assert!(matches!(lapsed, Err(BusError::LeaseLost)), "{lapsed:?}");
    let mut taken = held.second_takes().await.unwrap();
    let lapsed = held.leases.renew(&mut lost).await;
    assert!(matches!(lapsed, Err(BusError::LeaseLost)), "{lapsed:?}");
    held.second.renew(&mut taken).await.unwrap();
}

pub(crate) async fn releasing_a_lost_lease_does_no_harm(held: &Held) {
    let lost = held.first_takes().await.unwrap();
    held.leases.release(lost.clone()).await.unwrap();
    let mut taken = held.second_takes().await.unwrap();
    held.leases.release(lost).await.unwrap();
    held.second.renew(&mut taken).await.unwrap();
}

pub(crate) async fn keys_are_apart(held: &Held) {
    held.first_takes().await.unwrap();
    let other = held.second.try_acquire("replicator.other_2", "b-1", held.ttl).await.unwrap();
    assert!(other.is_some());
}
