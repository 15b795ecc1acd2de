//! The implementation on a real NATS server.

use std::sync::Arc;
use std::time::Duration;

use reactor_bus::nats::{LEASE_TTL, NatsBus, NatsConfig};
use reactor_bus::{ChangeLog, Leases as _};
use reactor_testkit::{Nats, NatsOptions, wait};

use crate::suite::leases::Held;
use crate::suite::presence::Rooms;
use crate::suite::pubsub::{BACKLOG, Talk};
use crate::suite::{
    Limits, Logs, ROOMY, append, expect, fill, filled, follow, lease_suite, log_suite, payload, presence_suite,
    pubsub_suite, suite_cases, tenant,
};

pub(crate) async fn bus(url: String, limits: Limits) -> NatsBus {
    let Limits { retention, max_bytes } = limits;
    let config = NatsConfig { retention, max_bytes: max_bytes as u64, backlog: BACKLOG, ..NatsConfig::new(url) };
    NatsBus::connect(config).await.unwrap()
}

pub(crate) async fn connected(url: String, limits: Limits) -> Arc<NatsBus> {
    let bus = bus(url, limits).await;
    available(&bus, Duration::from_secs(10)).await;
    Arc::new(bus)
}

pub(crate) async fn available(bus: &NatsBus, within: Duration) {
    wait::until(within, "a connection", || async { Ok(bus.unavailable().is_none()) }).await.unwrap();
}

async fn logs(limits: Limits) -> (Logs, Nats) {
    let nats = Nats::start().await.unwrap();
    let log = connected(nats.url(), limits).await;
    let second = connected(nats.url(), limits).await;
    (Logs { log, second }, nats)
}

async fn leases() -> (Held, Nats) {
    let nats = Nats::start().await.unwrap();
    let leases = connected(nats.url(), ROOMY).await;
    let second = connected(nats.url(), ROOMY).await;
    (Held { leases, second, ttl: LEASE_TTL }, nats)
}

async fn talk() -> (Talk, Nats) {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    let second = connected(nats.url(), ROOMY).await;
    (Talk { bus, second }, nats)
}

async fn rooms() -> (Rooms, Nats) {
    let nats = Nats::start().await.unwrap();
    let first = connected(nats.url(), ROOMY).await;
    let second = connected(nats.url(), ROOMY).await;
    (Rooms { first, second }, nats)
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

#[tokio::test]
async fn a_server_that_comes_later_is_waited_for() {
    let nats = Nats::start().await.unwrap();
    nats.stop().await.unwrap();
    let bus = bus(nats.url(), ROOMY).await;
    assert!(bus.unavailable().is_some());
    assert_eq!(bus.max_payload_bytes(), (1 << 20) - 4096);
    assert!(bus.bounds(&tenant()).await.is_err());
    reactor_testkit::wait::elapse(Duration::from_secs(2), "for what must not come").await;
    assert!(bus.unavailable().unwrap().contains("not connected to NATS: "), "{:?}", bus.unavailable());
    nats.start_again().await.unwrap();
    available(&bus, Duration::from_secs(3)).await;
    filled(&bus, 3).await;
}

#[tokio::test]
async fn the_servers_limit_of_a_payload_counts() {
    let options = NatsOptions { config: "max_payload: 65536".into(), ..NatsOptions::default() };
    let nats = Nats::start_with(options).await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    assert_eq!(bus.max_payload_bytes(), 65536 - 4096);
    bus.open(&tenant()).await.unwrap();
    let largest = vec![b'x'; bus.max_payload_bytes()].into();
    assert_eq!(append(&*bus, largest, 0).await.unwrap(), 1);
}

#[tokio::test]
async fn a_password_in_the_url_is_used() {
    let config = "authorization { user: \"me\", password: \"p@ss\" }".to_owned();
    let nats = Nats::start_with(NatsOptions { config, ..NatsOptions::default() }).await.unwrap();
    let url = |who: &str| nats.url().replace("//", &format!("//{who}@"));
    let bus = connected(url("me:p%40ss"), ROOMY).await;
    filled(&*bus, 1).await;

    let stranger = self::bus(url("me:wrong"), ROOMY).await;
    reactor_testkit::wait::elapse(Duration::from_secs(1), "for what must not come").await;
    let reason = stranger.unavailable().unwrap();
    assert!(reason.contains("authorization violation"), "{reason}");
}

#[tokio::test]
async fn a_token_in_the_url_is_used() {
    let config = "authorization { token: \"t0k\" }".to_owned();
    let nats = Nats::start_with(NatsOptions { config, ..NatsOptions::default() }).await.unwrap();
    let bus = connected(nats.url().replace("//", "//t0k@"), ROOMY).await;
    filled(&*bus, 1).await;
}

#[tokio::test]
async fn a_refusal_says_why() {
    let options = NatsOptions { jetstream: "max_file_store: 1MB".into(), ..NatsOptions::default() };
    let nats = Nats::start_with(options).await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    let error = bus.open(&tenant()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("insufficient storage"), "{source}");
}

#[tokio::test]
async fn opening_applies_changed_limits() {
    let nats = Nats::start().await.unwrap();
    let roomy = connected(nats.url(), ROOMY).await;
    filled(&*roomy, 3).await;
    let short = Limits { retention: Duration::from_secs(1), ..ROOMY };
    let short = connected(nats.url(), short).await;
    short.open(&tenant()).await.unwrap();
    let expired = || async { Ok(short.bounds(&tenant()).await?.first == 4) };
    wait::until(Duration::from_secs(5), "the new retention", expired).await.unwrap();
}

/// The ids that chain appends outlive the window in which the server recognises duplicates.
#[tokio::test]
async fn a_writer_that_pauses_goes_on() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    filled(&*bus, 2).await;
    reactor_testkit::wait::elapse(Duration::from_millis(1_500), "for what must not come").await;
    fill(&*bus, 3, 4).await;
}

#[tokio::test]
async fn leases_keep_out_other_processes() {
    let nats = Nats::start().await.unwrap();
    assert!(connected(nats.url(), ROOMY).await.spans_processes());
}

/// Consumers of followers that went away must not pile up on the server.
#[tokio::test]
async fn a_follower_leaves_nothing_behind() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    filled(&*bus, 1).await;
    let mut followed = follow(&*bus, 0).await;
    expect(&mut followed, 1, 1).await;
    let server = async_nats::connect(nats.url()).await.unwrap();
    let stream = async_nats::jetstream::new(server).get_stream("RT_acme").await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.consumer_count, 1);
    drop(followed);
    let gone = || async { Ok(stream.get_info().await?.state.consumer_count == 0) };
    wait::until(Duration::from_secs(20), "the end of the consumer", gone).await.unwrap();
    append(&*bus, payload(2), 1).await.unwrap();
}
