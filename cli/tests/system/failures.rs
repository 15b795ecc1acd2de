//! The promise to a resuming client, while parts are killed: its log equals what committed, once, in order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reactor_protocol::sse::{SseEvent, SseParser};
use reactor_testkit::sse::data;
use reactor_testkit::token::now;
use reactor_testkit::{PostgresOptions, SseClient, SseRequest, wait};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deployment::{Deployment, Mode, PATIENCE, user_token};
use crate::in_both_modes;

in_both_modes!(
    a_dropped_client_resumes,
    an_unknown_or_old_id_gets_a_resync,
    a_killed_gateway_is_survived,
    a_killed_replicator_is_survived,
    a_restarted_postgres_is_survived,
    postgres_18_serves_as_well,
    a_reader_that_stops_is_closed_alone_and_resumes,
);

/// A subscriber that notes every row number and can come back.
struct Follower<'a> {
    deployment: &'a Deployment,
    request: SseRequest,
    seen: Vec<i64>,
    last_id: Option<String>,
}

impl<'a> Follower<'a> {
    /// A follower of the table `log`, live.
    async fn start(deployment: &'a Deployment) -> Result<(Self, SseClient)> {
        deployment.create_table("log", "n int primary key, filler text default repeat('x', 100)").await?;
        let request = deployment.table("log").query("select", "n");
        let client = deployment.subscribe(&request).await?;
        let last_id = client.last_id().map(str::to_owned);
        Ok((Self { deployment, request, seen: Vec::new(), last_id }, client))
    }

    /// Reads until row `last` is seen, reconnecting with the last id whenever the connection ends, to any gateway.
    async fn read_until(&mut self, mut client: Option<SseClient>, last: i64) -> Result<()> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        let mut attempt = 0;
        while self.seen.last() != Some(&last) {
            ensure!(
                tokio::time::Instant::now() < deadline,
                "saw {} rows up to {:?}, then nothing; logs:\n{}",
                self.seen.len(),
                self.seen.last(),
                self.deployment.logs()
            );
            let Some(open) = &mut client else {
                attempt += 1;
                client = self.reconnect(attempt).await;
                if client.is_none() {
                    wait::elapse(Duration::from_millis(100), "between attempts to reconnect").await;
                }
                continue;
            };
            match open.next_or_end(Duration::from_secs(20)).await {
                Ok(Some(event)) => {
                    ensure!(event.event != "resync", "a resync within the window: {}", event.data);
                    if event.event == "insert" {
                        self.seen.push(data(&event)?["new"]["n"].as_i64().context("n")?);
                    }
                    if event.id.is_some() {
                        self.last_id = event.id;
                    }
                }
                Ok(None) | Err(_) => client = None,
            }
        }
        Ok(())
    }

    async fn reconnect(&self, attempt: usize) -> Option<SseClient> {
        let url = &self.deployment.urls[attempt % self.deployment.urls.len()];
        let request = self.deployment.table_on(url, "log").query("select", "n");
        let request = self.last_id.iter().fold(request, |request, id| request.last_event_id(id));
        request.open().await.ok()
    }

    fn check(&self, rows: i64) {
        let expected: Vec<i64> = (1..=rows).collect();
        assert!(
            self.seen == expected,
            "expected 1..={rows} once and in order, got {} rows: {:?}…",
            self.seen.len(),
            first_difference(&self.seen)
        );
    }
}

fn first_difference(seen: &[i64]) -> Option<(usize, &[i64])> {
    let at = seen.iter().enumerate().position(|(index, n)| usize::try_from(*n).ok() != Some(index + 1))?;
    Some((at, &seen[at.saturating_sub(2)..(at + 3).min(seen.len())]))
}

/// Commits rows `from..=to` in small transactions of one to five rows.
async fn write_rows(deployment: &Deployment, from: i64, to: i64) -> Result<()> {
    let connection = deployment.postgres.connect().await?;
    let mut next = from;
    while next <= to {
        let end = (next + next % 5).min(to);
        connection.execute("insert into log (n) select generate_series($1::int8, $2::int8)", &[&next, &end]).await?;
        next = end + 1;
    }
    Ok(())
}

async fn a_dropped_client_resumes(mode: Mode) -> Result<()> {
    let deployment = Deployment::start(mode).await?;
    let (mut follower, client) = Follower::start(&deployment).await?;
    write_rows(&deployment, 1, 100).await?;
    follower.read_until(Some(client), 50).await?;
    write_rows(&deployment, 101, 3000).await?;
    follower.read_until(None, 3000).await?;
    follower.check(3000);
    // In the middle of one transaction as well, and with the id as a parameter.
    deployment.postgres.execute("insert into log (n) select generate_series(3001, 3100)").await?;
    follower.read_until(None, 3050).await?;
    let id = follower.last_id.clone().unwrap_or_default();
    let mut resumed = deployment.subscribe(&follower.request.clone().query("last_event_id", &id)).await?;
    assert_eq!(data(&resumed.expect("insert", PATIENCE).await?)?["new"]["n"], json!(3051));
    Ok(())
}

async fn an_unknown_or_old_id_gets_a_resync(mode: Mode) -> Result<()> {
    let deployment = Deployment::start_with(
        mode,
        PostgresOptions::default(),
        &[("REACTOR_REALTIME_REPLAY_BUFFER_SECS", "5"), ("REACTOR_REALTIME_RING_BYTES", "1048576")],
    )
    .await?;
    let (_, client) = Follower::start(&deployment).await?;
    let old = client.last_id().context("id of ready")?.to_owned();
    let other_epoch = format!("{:08x}{}", 0, &old[8..]);
    for (id, reason) in [("garbage", "unknown_id"), (other_epoch.as_str(), "epoch_changed")] {
        let mut client = deployment.table("log").last_event_id(id).open().await?;
        let resync = client.expect("resync", PATIENCE).await?;
        assert_eq!(data(&resync)?["reason"], json!(reason));
        client.expect("ready", PATIENCE).await?;
        write_rows(&deployment, if reason == "unknown_id" { 1 } else { 2 }, if reason == "unknown_id" { 1 } else { 2 })
            .await?;
        client.expect("insert", PATIENCE).await?;
    }
    // What is older than the window goes when something newer is stored, and from the ring when that is full.
    wait::until(PATIENCE, "the old id to be too old", || async {
        let n = now() % 1_000_000 + 1000;
        deployment
            .postgres
            .execute(&format!("insert into log values ({n}, repeat('x', 300000)) on conflict do nothing"))
            .await?;
        let mut client = deployment.table("log").last_event_id(&old).open().await?;
        let first = client.next(PATIENCE).await?;
        Ok(first.event == "resync" && data(&first)?["reason"] == json!("too_old"))
    })
    .await
}

async fn a_killed_gateway_is_survived(mode: Mode) -> Result<()> {
    let deployment = Deployment::start(mode).await?;
    let (mut follower, client) = Follower::start(&deployment).await?;
    let killed = deployment.gateways.first().map_or(&deployment.replicator, |(gateway, _)| gateway);
    let (written, followed) = tokio::join!(write_rows(&deployment, 1, 2000), async {
        follower.read_until(Some(client), 200).await?;
        killed.kill().await?;
        killed.start_again()?;
        follower.read_until(None, 2000).await
    });
    written?;
    followed?;
    follower.check(2000);
    Ok(())
}

async fn a_killed_replicator_is_survived(mode: Mode) -> Result<()> {
    let deployment = Deployment::start(mode).await?;
    let (mut follower, client) = Follower::start(&deployment).await?;
    write_rows(&deployment, 1, 100).await?;
    let big = async {
        deployment.postgres.execute("insert into log (n) select generate_series(101, 10100)").await?;
        write_rows(&deployment, 10_101, 10_200).await
    };
    let (written, followed) = tokio::join!(big, async {
        // In the middle of the big transaction.
        follower.read_until(Some(client), 150).await?;
        deployment.replicator.kill().await?;
        deployment.replicator.start_again()?;
        follower.read_until(None, 10_200).await
    });
    written?;
    followed?;
    follower.check(10_200);
    Ok(())
}

async fn a_restarted_postgres_is_survived(mode: Mode) -> Result<()> {
    let deployment = Deployment::start(mode).await?;
    let (mut follower, client) = Follower::start(&deployment).await?;
    write_rows(&deployment, 1, 500).await?;
    deployment.postgres.restart().await?;
    write_rows(&deployment, 501, 1000).await?;
    follower.read_until(Some(client), 1000).await?;
    deployment.postgres.kill().await?;
    deployment.postgres.start_again().await?;
    write_rows(&deployment, 1001, 1500).await?;
    follower.read_until(None, 1500).await?;
    follower.check(1500);
    Ok(())
}

async fn postgres_18_serves_as_well(mode: Mode) -> Result<()> {
    let deployment = Deployment::start_with(mode, PostgresOptions::version(18), &[]).await?;
    let (mut follower, client) = Follower::start(&deployment).await?;
    write_rows(&deployment, 1, 300).await?;
    follower.read_until(Some(client), 300).await?;
    follower.check(300);
    Ok(())
}

/// Reads events from a socket by hand, so that reading can stop while the connection stays.
struct RawReader {
    socket: TcpStream,
    parser: SseParser,
}

impl RawReader {
    async fn open(deployment: &Deployment, path: &str) -> Result<Self> {
        let address = deployment.url().trim_start_matches("http://");
        let mut socket = TcpStream::connect(address).await?;
        let token = user_token();
        // HTTP/1.0: the body comes as it is, without chunks.
        socket
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes())
            .await?;
        Ok(Self { socket, parser: SseParser::default() })
    }

    /// Some events; `None` at the end.
    async fn some(&mut self) -> Result<Option<Vec<SseEvent>>> {
        let mut buffer = vec![0; 64 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut buffer)).await?.unwrap_or(0);
        Ok((read > 0).then(|| self.parser.push(&buffer[..read])))
    }
}

async fn a_reader_that_stops_is_closed_alone_and_resumes(mode: Mode) -> Result<()> {
    let deployment = Deployment::start(mode).await?;
    let (mut follower, client) = Follower::start(&deployment).await?;
    let mut stuck = RawReader::open(&deployment, "/data/v1/log/subscribe").await?;
    let mut seen = Vec::new();
    let note = |events: Vec<SseEvent>, seen: &mut Vec<i64>| -> Result<Option<String>> {
        let mut last = None;
        for event in events.into_iter().filter(|event| event.event != "error") {
            if event.event == "insert" {
                seen.push(data(&event)?["new"]["n"].as_i64().context("n")?);
            }
            last = event.id.or(last);
        }
        Ok(last)
    };
    let mut last_id = None;
    while last_id.is_none() {
        last_id = note(stuck.some().await?.context("ended before ready")?, &mut seen)?;
    }
    // More than the buffers of both sockets and the queue hold together.
    for n in 1..=500 {
        deployment.postgres.execute(&format!("insert into log values ({n}, repeat('x', 60000))")).await?;
    }
    follower.read_until(Some(client), 500).await?;
    follower.check(500);
    wait::until(PATIENCE, "the reader that stopped to be closed", || async {
        Ok(deployment.metric("reactor_gateway_closed_total{code=\"slow_consumer\"}").await? >= 1.0)
    })
    .await?;
    while let Some(events) = stuck.some().await? {
        last_id = note(events, &mut seen)?.or(last_id);
    }
    ensure!(seen.len() < 500, "it was not stuck at all");
    let mut resumed =
        deployment.subscribe(&follower.request.clone().last_event_id(&last_id.unwrap_or_default())).await?;
    let rest = resumed.collect_until(PATIENCE, |event| event.data.contains("\"n\":500")).await?;
    note(rest, &mut seen)?;
    assert_eq!(first_difference(&seen), None);
    assert_eq!(seen.len(), 500);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replicator_takes_over_from_a_dead_or_stopped_one() -> Result<()> {
    let deployment = Deployment::start(Mode::Cluster).await?;
    let (mut follower, client) = Follower::start(&deployment).await?;
    let second = deployment.another_replicator()?;
    write_rows(&deployment, 1, 100).await?;
    follower.read_until(Some(client), 100).await?;
    deployment.replicator.kill().await?;
    write_rows(&deployment, 101, 200).await?;
    follower.read_until(None, 200).await?;
    // One that is only stopped comes back as a zombie, and must not write any more.
    deployment.replicator.start_again()?;
    second.pause()?;
    write_rows(&deployment, 201, 300).await?;
    follower.read_until(None, 300).await?;
    second.resume()?;
    write_rows(&deployment, 301, 400).await?;
    follower.read_until(None, 400).await?;
    follower.check(400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_that_is_away_ends_nothing_at_once_and_admits_nobody_new() -> Result<()> {
    let deployment = Deployment::start(Mode::Cluster).await?;
    let policy = deployment.policy.as_ref().context("a cluster has policy")?;
    let (_, mut client) = Follower::start(&deployment).await?;
    policy.kill().await?;
    write_rows(&deployment, 1, 1).await?;
    client.expect("insert", PATIENCE).await?;
    let (status, body) = deployment.table("messages").refused().await?;
    assert_eq!((status, &body["code"]), (503, &json!("policy_unavailable")));
    policy.start_again()?;
    deployment.wait_ready(&deployment.admin_urls[1]).await?;
    wait::until(PATIENCE, "new subscriptions to be admitted", || async {
        Ok(deployment.table("messages").open().await.is_ok())
    })
    .await?;
    write_rows(&deployment, 2, 2).await?;
    client.expect("insert", PATIENCE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_nats_is_survived() -> Result<()> {
    let deployment = Deployment::start(Mode::Cluster).await?;
    let nats = deployment.nats.as_ref().context("a cluster has NATS")?;
    let (mut follower, client) = Follower::start(&deployment).await?;
    write_rows(&deployment, 1, 300).await?;
    follower.read_until(Some(client), 150).await?;
    let (written, restarted) = tokio::join!(write_rows(&deployment, 301, 2000), nats.restart());
    written?;
    restarted?;
    nats.kill().await?;
    write_rows(&deployment, 2001, 2500).await?;
    nats.start_again().await?;
    follower.read_until(None, 2500).await?;
    follower.check(2500);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_is_filled_again_from_the_write_ahead_log() -> Result<()> {
    let deployment = Deployment::start(Mode::Cluster).await?;
    let nats = deployment.nats.as_ref().context("a cluster has NATS")?;
    let (mut follower, client) = Follower::start(&deployment).await?;
    write_rows(&deployment, 1, 300).await?;
    follower.read_until(Some(client), 150).await?;
    nats.kill().await?;
    nats.wipe_store()?;
    nats.start_again().await?;
    write_rows(&deployment, 301, 600).await?;
    follower.read_until(None, 600).await?;
    follower.check(600);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_slot_is_a_new_epoch_and_a_resync() -> Result<()> {
    let deployment = Deployment::start(Mode::Cluster).await?;
    let (_, mut client) = Follower::start(&deployment).await?;
    let before = client.last_id().context("id of ready")?.to_owned();
    let admin = &deployment.admin_urls[0];
    deployment.replicator.kill().await?;
    wait::until(PATIENCE, "the slot to be free", || async {
        let dropped =
            deployment.postgres.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots").await;
        Ok(dropped.is_ok())
    })
    .await?;
    write_rows(&deployment, 1, 10).await?;
    deployment.replicator.start_again()?;
    deployment.wait_ready(admin).await?;
    let resync = client.expect("resync", PATIENCE).await?;
    assert_eq!(data(&resync)?["reason"], json!("epoch_changed"));
    write_rows(&deployment, 11, 11).await?;
    let event = client.expect("insert", PATIENCE).await?;
    assert_eq!(data(&event)?["new"]["n"], json!(11));
    assert_ne!(event.id.unwrap_or_default()[..8], before[..8]);
    Ok(())
}
