//! Three servers with three copies of everything.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reactor_bus::nats::{LEASE_TTL, NatsBus, NatsConfig};
use reactor_bus::{ChangeLog as _, Lease, Leases as _};
use reactor_testkit::{Nats, NatsOptions, free_port, wait};

use crate::nats::available;
use crate::nats_faults::{Reader, Writer};
use crate::suite::presence::{View, fill, id, owner, put};
use crate::suite::tenant;

/// An election takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

const KEY: &str = "replicator.acme";

struct Cluster {
    servers: Vec<Nats>,
}

impl Cluster {
    async fn start() -> Self {
        let ports: Vec<u16> = (0..3).map(|_| free_port().unwrap()).collect();
        let routes: Vec<String> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let mut servers = Vec::new();
        for port in ports {
            let config = format!(
                "server_name: n{port}\ncluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{}] }}",
                routes.join(", ")
            );
            servers.push(Nats::start_with(NatsOptions { config, ..NatsOptions::default() }).await.unwrap());
        }
        Self { servers }
    }

    async fn bus(&self) -> Arc<NatsBus> {
        let urls: Vec<String> = self.servers.iter().map(Nats::url).collect();
        let bus = NatsBus::connect(NatsConfig { replicas: 3, ..NatsConfig::new(urls.join(",")) }).await.unwrap();
        available(&bus, Duration::from_secs(10)).await;
        let opens = || async { Ok(bus.open(&tenant()).await.is_ok()) };
        wait::until(Duration::from_secs(30), "a cluster with a leader", opens).await.unwrap();
        Arc::new(bus)
    }

    /// Gives each server time to have all of a stream.
    async fn catches_up(&self, stream: &str) {
        let urls: Vec<String> = self.servers.iter().map(Nats::url).collect();
        let servers = async_nats::jetstream::new(async_nats::connect(urls).await.unwrap());
        let whole = || async {
            let cluster = servers.get_stream(stream).await?.get_info().await?.cluster;
            let cluster = cluster.context("the stream is not part of a cluster")?;
            let whole = cluster.replicas.iter().all(|replica| replica.current && !replica.offline);
            anyhow::ensure!(cluster.leader.is_some() && whole, "{cluster:?}");
            Ok(true)
        };
        // One that takes longer, as they do at times under a steady load, makes the next loss a longer one, not another.
        let _ = wait::until(PATIENCE / 2, "all copies are current", whole).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_any_one_server_loses_and_repeats_nothing() {
    let cluster = Cluster::start().await;
    let (writer, reader) = (cluster.bus().await, cluster.bus().await);
    let lease = acquired(&reader, "a-1").await;
    reader.release(lease).await.unwrap();
    let read = Reader::start(&reader).await;
    let writer = Writer::start(writer);
    for server in &cluster.servers {
        let last = async || anyhow::Ok(reader.bounds(&tenant()).await?.last);
        let grow = async |what: &str| {
            let before = wait::value(PATIENCE, what, || async { last().await.map(Some) }).await.unwrap();
            wait::until(PATIENCE, what, || async { Ok(last().await? > before + 2_000) }).await.unwrap();
        };
        grow("appends").await;
        server.kill().await.unwrap();
        grow("appends without one server").await;
        server.start_again().await.unwrap();
        cluster.catches_up("RT_acme").await;
    }
    let (sessions, last) = writer.finish().await;
    read.finish(last).await;
    assert!(sessions > 1, "no loss was noticed");
    let newcomer = cluster.bus().await;
    let mut lease = acquired(&newcomer, "b-1").await;
    newcomer.renew(&mut lease).await.unwrap();
}

/// Nobody is told that anybody has gone, and what is put meanwhile comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_any_one_server_ends_no_presence() {
    let cluster = Cluster::start().await;
    let buses = [cluster.bus().await, cluster.bus().await];
    let owners = [owner(&*buses[0]), owner(&*buses[1])];
    for owner in &owners {
        let room = crate::suite::pubsub::channel("room");
        let begins = || async { Ok(owner.put(&room, "0", "0".into()).await.is_ok()) };
        wait::until(PATIENCE, "a store with a leader", begins).await.unwrap();
        fill(&**owner, 100).await;
    }
    let mut views = [View::of_room(&*buses[0]).await, View::of_room(&*buses[1]).await];
    for view in &mut views {
        view.until(200, PATIENCE).await;
    }
    for (number, server) in cluster.servers.iter().enumerate() {
        server.kill().await.unwrap();
        let key = format!("with server {number} away");
        let room = crate::suite::pubsub::channel("room");
        // It is stored sooner or later, whatever the answer.
        let _ = owners[number % 2].put(&room, &key, "x".into()).await;
        for view in &mut views {
            while !view.entries.contains_key(&id(&*owners[number % 2], &key)) {
                let (entry, _) = view.put().await;
                assert!(entry.key.starts_with("with server"), "{entry:?}");
            }
        }
        server.start_again().await.unwrap();
        cluster.catches_up("KV_RT_PRESENCE").await;
    }
    put(&*owners[0], "last").await;
    for view in &mut views {
        assert_eq!(view.put().await.0, id(&*owners[0], "last"));
        assert_eq!(view.entries.len(), 204);
    }
    assert_eq!(View::of_room(&*cluster.bus().await).await.entries, views[0].entries);
}

/// A lease, once the store has a leader again.
async fn acquired(bus: &NatsBus, holder: &str) -> Lease {
    wait::value(PATIENCE, "the lease", || async { Ok(bus.try_acquire(KEY, holder, LEASE_TTL).await?) }).await.unwrap()
}
