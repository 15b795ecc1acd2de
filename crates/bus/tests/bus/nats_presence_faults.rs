//! Presences while servers and gateways die.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use futures::StreamExt as _;
use futures::future::join_all;
use reactor_bus::nats::NatsBus;
use reactor_bus::{Presence as _, PresenceOwner};
use reactor_testkit::{Nats, TcpProxy, wait};
use tokio::time::{Instant, timeout};

use crate::nats::{available, connected};
use crate::suite::presence::{GONE_WITHIN, View, fill, id, owner, put};
use crate::suite::pubsub::channel;
use crate::suite::{ROOMY, SOON};

/// Longer than a lease lives.
const LONG: Duration = Duration::from_secs(11);
/// Longer than an owner that is missed is still shown.
const SETTLED: Duration = Duration::from_secs(7);

/// Two gateways, each with an owner that has entries, and a watcher.
struct Pair {
    nats: Nats,
    buses: [Arc<NatsBus>; 2],
    owners: [Arc<dyn PresenceOwner>; 2],
    views: [View; 2],
}

impl Pair {
    async fn start(entries: usize) -> Self {
        let nats = Nats::start().await.unwrap();
        let buses = [connected(nats.url(), ROOMY).await, connected(nats.url(), ROOMY).await];
        let owners = [owner(&*buses[0]), owner(&*buses[1])];
        let mut views = [View::of_room(&*buses[0]).await, View::of_room(&*buses[1]).await];
        for owner in &owners {
            fill(&**owner, entries).await;
        }
        for view in &mut views {
            view.until(2 * entries, SOON).await;
        }
        Self { nats, buses, owners, views }
    }

    async fn back(&self) {
        for bus in &self.buses {
            available(bus, Duration::from_secs(5)).await;
        }
    }

    /// Nobody is told anything, and the store has as many entries.
    async fn nothing_has_changed(&mut self, entries: usize) {
        let [first, second] = &mut self.views;
        tokio::join!(first.silence(SETTLED), second.silence(SETTLED));
        let newcomer = connected(self.nats.url(), ROOMY).await;
        assert_eq!(View::of_room(&*newcomer).await.entries, self.views[0].entries);
        assert_eq!(self.views[0].entries, self.views[1].entries);
        assert_eq!(self.views[0].entries.len(), entries);
    }
}

async fn store(nats: &Nats) -> jetstream::stream::Stream {
    let server = async_nats::connect(nats.url()).await.unwrap();
    jetstream::new(server).get_stream("KV_RT_PRESENCE").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_changes_nothing() {
    let mut pair = Pair::start(100).await;
    pair.nats.kill().await.unwrap();
    pair.nats.start_again().await.unwrap();
    pair.back().await;
    pair.nothing_has_changed(200).await;
    put(&*pair.owners[0], "new").await;
    for view in &mut pair.views {
        assert_eq!(view.put().await.0, id(&*pair.owners[0], "new"));
    }
}

/// All leases lapse meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_for_long_changes_nothing() {
    let mut pair = Pair::start(100).await;
    pair.nats.kill().await.unwrap();
    wait::elapse(LONG, "for all leases to lapse").await;
    pair.nats.start_again().await.unwrap();
    pair.back().await;
    pair.nothing_has_changed(200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_store_is_filled_anew() {
    let mut pair = Pair::start(500).await;
    pair.nats.kill().await.unwrap();
    pair.nats.wipe_store().unwrap();
    pair.nats.start_again().await.unwrap();
    pair.back().await;
    for view in &mut pair.views {
        view.forget_revisions();
    }
    pair.nothing_has_changed(1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_the_server_is_away_is_made_up_for() {
    let mut pair = Pair::start(20).await;
    let room = channel("room");
    pair.nats.kill().await.unwrap();
    let owner = Arc::clone(&pair.owners[0]);
    let changes = vec![
        owner.put(&room, "1", "changed".into()),
        owner.put(&room, "new", "x".into()),
        owner.put(&room, "passing", "x".into()),
        owner.remove(&room, "passing"),
        owner.remove(&room, "2"),
    ];
    let answers = tokio::spawn(join_all(changes));
    wait::elapse(Duration::from_secs(1), "with the server away").await;
    // The other gateway goes while nobody can see it.
    let gone = pair.owners[1].id().clone();
    let [_, other] = std::mem::replace(&mut pair.owners, [Arc::clone(&owner), owner]);
    drop(other);
    pair.nats.start_again().await.unwrap();
    let answers = timeout(SOON, answers).await.unwrap().unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    for view in &mut pair.views {
        view.until(20, GONE_WITHIN).await;
        assert!(view.entries.keys().all(|entry| entry.owner != gone));
        assert_eq!(view.entries[&id(&*pair.owners[0], "1")], "changed");
        assert!(view.entries.contains_key(&id(&*pair.owners[0], "new")));
        assert!(!view.entries.contains_key(&id(&*pair.owners[0], "2")));
    }
}

/// Watchers drop the entries of a dead owner, and one survivor deletes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_the_survivors_sweeps() {
    let nats = Nats::start().await.unwrap();
    let mut buses = Vec::new();
    for _ in 0..4 {
        buses.push(connected(nats.url(), ROOMY).await);
    }
    let mut owners: Vec<_> = buses.iter().map(|bus| owner(&**bus)).collect();
    for owner in &owners {
        fill(&**owner, 50).await;
    }
    let observer = async_nats::connect(nats.url()).await.unwrap();
    let mut purges = observer.subscribe("$JS.API.STREAM.PURGE.>").await.unwrap();
    observer.flush().await.unwrap();
    let mut views = Vec::new();
    for bus in &buses {
        views.push(View::of_room(&**bus).await);
    }
    let dead = owners.pop().unwrap();
    let left = |name: &str| format!("$KV.RT_PRESENCE.entry.*.*.*.{name}.*");
    let left = left(dead.id().as_str());
    let died = Instant::now();
    drop(dead);
    for view in &mut views {
        view.until(150, GONE_WITHIN.saturating_sub(died.elapsed())).await;
    }
    let store = store(&nats).await;
    let count = async || anyhow::Ok(store.info_with_subjects(&left).await?.count().await);
    wait::until(SOON, "the sweep", || async { Ok(count().await? == 0) }).await.unwrap();
    let names = async || anyhow::Ok(store.info_with_subjects("$KV.RT_PRESENCE.entry.>").await?.count().await);
    assert_eq!(names().await.unwrap(), 150);
    // Long enough for each of them to have had its turn.
    wait::elapse(Duration::from_secs(17), "for a second sweep").await;
    assert!(purges.next().await.is_some());
    assert!(timeout(Duration::from_millis(100), purges.next()).await.is_err(), "a second sweep");
    assert_eq!(names().await.unwrap(), 150);
    for view in &mut views {
        view.silence(Duration::from_millis(100)).await;
    }
}

/// A gateway that is cut off is gone for the others, and comes back with all it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_cut_off_comes_back() {
    let nats = Nats::start().await.unwrap();
    let proxy = TcpProxy::to_port(nats.port()).await.unwrap();
    let cut_off = connected(format!("nats://{}", proxy.address()), ROOMY).await;
    let other = connected(nats.url(), ROOMY).await;
    let (a, b) = (owner(&*cut_off), owner(&*other));
    let mut near = View::of_room(&*cut_off).await;
    let mut far = View::of_room(&*other).await;
    fill(&*a, 50).await;
    fill(&*b, 50).await;
    near.until(100, SOON).await;
    far.until(100, SOON).await;
    proxy.refuse(true);
    proxy.cut();
    far.until(50, GONE_WITHIN).await;
    // So long that what it left is swept.
    let store = store(&nats).await;
    let entries = async || anyhow::Ok(store.info_with_subjects("$KV.RT_PRESENCE.entry.>").await?.count().await);
    wait::until(SOON, "the sweep", || async { Ok(entries().await? == 50) }).await.unwrap();
    b.remove(&channel("room"), "1").await.unwrap();
    let change = a.remove(&channel("room"), "2");
    proxy.refuse(false);
    far.until(98, SOON).await;
    change.await.unwrap();
    near.until(98, SOON).await;
    assert_eq!(near.entries, far.entries);
    near.silence(SETTLED).await;
}

/// Whatever the number of entries, standing still costs a write in an interval.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standing_still_costs_one_write_in_an_interval() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    let a = owner(&*bus);
    fill(&*a, 1_000).await;
    let store = store(&nats).await;
    let last = async || store.get_info().await.unwrap().state.last_sequence;
    let before = last().await;
    wait::elapse(Duration::from_secs(10), "to count writes").await;
    let writes = last().await - before;
    assert!((4..=6).contains(&writes), "{writes} writes in 10 s");
}

/// Hundreds of changes in a second must not wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_pipelined() {
    let nats = Nats::start().await.unwrap();
    let proxy = TcpProxy::to_port(nats.port()).await.unwrap();
    let bus = connected(format!("nats://{}", proxy.address()), ROOMY).await;
    let a = owner(&*bus);
    put(&*a, "first").await;
    proxy.set_delay(Duration::from_millis(25));
    let began = Instant::now();
    fill(&*a, 5_000).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_put_before_there_is_a_server_is_written_when_there_is() {
    let nats = Nats::start().await.unwrap();
    nats.stop().await.unwrap();
    let bus = crate::nats::bus(nats.url(), ROOMY).await;
    let a = owner(&bus);
    let early = a.put(&channel("room"), "1", "x".into());
    assert!(bus.watch(reactor_bus::Watched::Channel(&channel("room"))).await.is_err());
    assert!(early.await.is_err());
    nats.start_again().await.unwrap();
    available(&bus, Duration::from_secs(5)).await;
    View::of_room(&bus).await.until(1, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_leaves_leaves_nothing() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    let (a, b) = (owner(&*bus), owner(&*bus));
    fill(&*b, 10).await;
    fill(&*a, 50).await;
    let late: Vec<_> = (0..500).map(|key| a.put(&channel("room"), &format!("late {key}"), "x".into())).collect();
    a.leave().await.unwrap();
    join_all(late).await;
    let store = store(&nats).await;
    assert_eq!(store.info_with_subjects("$KV.RT_PRESENCE.entry.>").await.unwrap().count().await, 10);
    assert_eq!(View::of_room(&*bus).await.entries.len(), 10);
}
