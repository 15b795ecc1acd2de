//! Servers that die, pause, come back empty, and logs that are deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use reactor_bus::nats::{LEASE_TTL, NatsBus};
use reactor_bus::{BusError, ChangeLog as _, Leases as _};
use reactor_testkit::{Nats, wait};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::nats::{available, connected};
use crate::suite::{ROOMY, append, expect, fill, filled, follow, next, payload, send, tenant};

const IN_FLIGHT: usize = 200;

/// A writer that goes on whatever happens, as the replicator does: after a failure it opens again and goes on behind what
/// is stored.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(u64, u64)>,
}

impl Writer {
    pub(crate) fn start(bus: Arc<NatsBus>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(bus, Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Lets it store what is on the way; the number of sessions that it took, and of the newest that is stored.
    pub(crate) async fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        timeout(Duration::from_secs(120), self.task).await.unwrap().unwrap()
    }
}

async fn write(bus: Arc<NatsBus>, stop: Arc<AtomicBool>) -> (u64, u64) {
    let mut sessions = 0;
    let mut acknowledged = 0;
    loop {
        sessions += 1;
        if let Ok(last) = session(&bus, &stop, &mut acknowledged).await {
            return (sessions, last);
        }
        reactor_testkit::wait::elapse(Duration::from_millis(50), "between kills").await;
    }
}

async fn session(bus: &NatsBus, stop: &AtomicBool, acknowledged: &mut u64) -> Result<u64, BusError> {
    bus.open(&tenant()).await?;
    let mut last = bus.bounds(&tenant()).await?.last;
    assert!(last >= *acknowledged, "acknowledged up to {acknowledged}, and {last} is the newest");
    let mut acks = FuturesOrdered::new();
    let mut opened = false;
    loop {
        // What an earlier session has sent may still be stored after the log was asked for its newest; once this session has
        // stored something, it no longer can be.
        let stopping = opened && stop.load(Ordering::Relaxed);
        while !stopping && acks.len() < IN_FLIGHT {
            acks.push_back(send(bus, payload(last + 1), last).await?);
            last += 1;
        }
        let Some(ack) = acks.next().await else { return Ok(last) };
        *acknowledged = ack?;
        opened = true;
    }
}

/// A follower that checks that it gets each entry once and in order.
pub(crate) struct Reader {
    read: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Reader {
    pub(crate) async fn start(bus: &NatsBus) -> Self {
        let mut followed = follow(bus, 0).await;
        let read = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&read);
        let task = tokio::spawn(async move {
            for seq in 1.. {
                let stored = followed.next().await.unwrap().unwrap();
                assert_eq!((stored.seq, stored.payload), (seq, payload(seq)));
                count.store(seq, Ordering::Relaxed);
            }
        });
        Self { read, task }
    }

    /// Waits until all up to `last` has been read.
    pub(crate) async fn finish(self, last: u64) {
        let all = || async {
            anyhow::ensure!(!self.task.is_finished(), "the reader has failed");
            Ok(self.read.load(Ordering::Relaxed) >= last)
        };
        let waited = wait::until(Duration::from_secs(60), "everything is read", all).await;
        let read = self.read.load(Ordering::Relaxed);
        assert!(waited.is_ok() && read == last, "{read} of {last} were read: {waited:?}");
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_and_repeats_nothing() {
    let nats = Nats::start().await.unwrap();
    let writer = connected(nats.url(), ROOMY).await;
    let reader = connected(nats.url(), ROOMY).await;
    writer.open(&tenant()).await.unwrap();
    let readers = [Reader::start(&reader).await, Reader::start(&reader).await];
    let writer = Writer::start(writer);
    for _ in 0..3 {
        let before = reader.bounds(&tenant()).await.unwrap().last;
        let grows = || async { Ok(reader.bounds(&tenant()).await?.last > before + 2_000) };
        wait::until(Duration::from_secs(30), "appends", grows).await.unwrap();
        nats.kill().await.unwrap();
        reactor_testkit::wait::elapse(Duration::from_millis(300), "with the server away").await;
        nats.start_again().await.unwrap();
    }
    let (sessions, last) = writer.finish().await;
    assert!(sessions > 1, "the server was killed when nothing was on the way");
    for reader in readers {
        reader.finish(last).await;
    }
    assert_eq!(reader.bounds(&tenant()).await.unwrap().last, last);
}

#[tokio::test]
async fn following_goes_on_soon_after_a_restart() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    filled(&*bus, 2).await;
    let mut followed = follow(&*bus, 0).await;
    expect(&mut followed, 1, 2).await;
    nats.kill().await.unwrap();
    let down = || async { Ok(bus.unavailable().is_some()) };
    wait::until(Duration::from_secs(1), "the loss of the connection", down).await.unwrap();
    reactor_testkit::wait::elapse(Duration::from_secs(3), "with the server away").await;
    nats.start_again().await.unwrap();
    let back = Instant::now();
    available(&bus, Duration::from_secs(2)).await;
    // The same writer goes on: nothing was on the way.
    fill(&*bus, 3, 4).await;
    expect(&mut followed, 3, 4).await;
    assert!(back.elapsed() < Duration::from_millis(2_500), "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_paused_server_is_noticed_and_nothing_is_lost() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    filled(&*bus, 2).await;
    let mut followed = follow(&*bus, 0).await;
    expect(&mut followed, 1, 2).await;
    nats.pause().unwrap();
    // The signal takes effect a moment later.
    reactor_testkit::wait::elapse(Duration::from_millis(100), "between attempts").await;
    let began = Instant::now();
    let lost = send(&*bus, payload(3), 2).await.unwrap().await;
    assert!(matches!(lost, Err(BusError::Unavailable(..))), "{lost:?}");
    let down = || async { Ok(bus.unavailable().is_some()) };
    wait::until(Duration::from_secs(10), "the loss of the connection", down).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    nats.resume().unwrap();
    available(&bus, Duration::from_secs(5)).await;
    // Whether that append was stored is known only now.
    bus.open(&tenant()).await.unwrap();
    let last = bus.bounds(&tenant()).await.unwrap().last;
    let after = match append(&*bus, payload(last + 1), last).await {
        Ok(seq) => seq,
        Err(BusError::Fenced) => last + 1,
        Err(error) => panic!("{error:?}"),
    };
    expect(&mut followed, 3, after).await;
}

#[tokio::test]
async fn appends_do_not_wait_for_a_server_that_is_gone() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    filled(&*bus, 1).await;
    nats.kill().await.unwrap();
    let down = || async { Ok(bus.unavailable().is_some()) };
    wait::until(Duration::from_secs(1), "the loss of the connection", down).await.unwrap();
    let began = Instant::now();
    assert!(matches!(append(&*bus, payload(2), 1).await, Err(BusError::Unavailable(..))));
    assert!(matches!(bus.follow(&tenant(), 0).await.err(), Some(BusError::Unavailable(..))));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let bounds = bus.bounds(&tenant()).await;
    assert!(matches!(bounds, Err(BusError::Unavailable(..))), "{bounds:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_deleted_log_ends_its_followers() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    filled(&*bus, 2).await;
    let mut followed = follow(&*bus, 0).await;
    expect(&mut followed, 1, 2).await;
    delete_log(&nats).await;
    let end = next(&mut followed).await;
    assert!(matches!(end, Err(BusError::Reset)), "{end:?}");
    assert!(followed.next().await.is_none());
    let gone = append(&*bus, payload(3), 2).await;
    assert!(matches!(gone, Err(BusError::NoLog)), "{gone:?}");
}

#[tokio::test]
async fn a_log_made_anew_ends_its_followers() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    filled(&*bus, 2).await;
    let mut followed = follow(&*bus, 0).await;
    expect(&mut followed, 1, 2).await;
    delete_log(&nats).await;
    filled(&*bus, 5).await;
    let end = next(&mut followed).await;
    assert!(matches!(end, Err(BusError::Reset)), "{end:?}");
}

#[tokio::test]
async fn a_lost_store_ends_followers() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    filled(&*bus, 3).await;
    let mut followed = follow(&*bus, 0).await;
    expect(&mut followed, 1, 3).await;
    nats.kill().await.unwrap();
    nats.wipe_store().unwrap();
    nats.start_again().await.unwrap();
    let end = next(&mut followed).await;
    assert!(matches!(end, Err(BusError::Reset)), "{end:?}");
}

#[tokio::test]
async fn a_lease_lives_through_a_restart() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    let other = connected(nats.url(), ROOMY).await;
    let mut lease = bus.try_acquire("replicator.acme", "a-1", LEASE_TTL).await.unwrap().unwrap();
    nats.kill().await.unwrap();
    let renewed = bus.renew(&mut lease).await;
    assert!(matches!(renewed, Err(BusError::Unavailable(..))), "{renewed:?}");
    nats.start_again().await.unwrap();
    available(&bus, Duration::from_secs(3)).await;
    available(&other, Duration::from_secs(3)).await;
    assert_eq!(other.try_acquire("replicator.acme", "b-1", LEASE_TTL).await.unwrap(), None);
    bus.renew(&mut lease).await.unwrap();
    bus.renew(&mut lease).await.unwrap();
    bus.release(lease).await.unwrap();
    assert!(other.try_acquire("replicator.acme", "b-1", LEASE_TTL).await.unwrap().is_some());
}

/// A renewal whose answer is lost counts as made.
#[tokio::test]
async fn a_renewal_without_an_answer_keeps_the_lease() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    let mut lease = bus.try_acquire("replicator.acme", "a-1", LEASE_TTL).await.unwrap().unwrap();
    let mut ahead = lease.clone();
    bus.renew(&mut ahead).await.unwrap();
    bus.renew(&mut lease).await.unwrap();
    assert!(lease.revision > ahead.revision);
}

async fn delete_log(nats: &Nats) {
    let server = async_nats::connect(nats.url()).await.unwrap();
    async_nats::jetstream::new(server).delete_stream("RT_acme").await.unwrap();
}
