//! One process, or a cluster of NATS, replicator, policy and two gateways.

use std::time::Duration;

use anyhow::{Context, Result};
use reactor_testkit::fixtures::{AUTH_SQL, JWT_SECRET, SAMPLE_SQL};
use reactor_testkit::{Nats, Postgres, PostgresOptions, Process, ProcessOptions, SseClient, SseRequest, free_port};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// How long anything may take that should take a second: the machines of CI are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Single,
    Cluster,
}

/// Everything that one deployment is made of.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) postgres: Postgres,
    pub(crate) nats: Option<Nats>,
    /// The process with the replication connection.
    pub(crate) replicator: Process,
    /// The policy service of a cluster.
    pub(crate) policy: Option<Process>,
    /// The gateways of a cluster, with their ports.
    pub(crate) gateways: Vec<(Process, u16)>,
    /// Where clients connect, by gateway.
    pub(crate) urls: Vec<String>,
    /// Where operators look, by process.
    pub(crate) admin_urls: Vec<String>,
}

fn service(name: &str, env: &[(&str, String)]) -> Result<(Process, u16, String)> {
    let (port, admin) = (free_port()?, free_port()?);
    let mut options = ProcessOptions::new(name)
        .env("REACTOR_LISTEN", format!("127.0.0.1:{port}"))
        .env("REACTOR_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
        .env("REACTOR_LOG", "info")
        .env("REACTOR_DRAIN_SECS", "1");
    if name == "reactor" {
        options = options.args(["realtime", "serve"]);
    }
    for (name, value) in env {
        options = options.env(name, value.clone());
    }
    Ok((options.start()?, port, format!("http://127.0.0.1:{admin}")))
}

impl Deployment {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(mode: Mode) -> Result<Self> {
        Self::start_with(mode, PostgresOptions::default(), &[]).await
    }

    /// Starts one with more settings.
    pub(crate) async fn start_with(mode: Mode, options: PostgresOptions, more: &[(&str, &str)]) -> Result<Self> {
        let postgres = Postgres::start_with(options).await?;
        postgres.execute(SAMPLE_SQL).await?;
        postgres.execute(AUTH_SQL).await?;
        let more: Vec<(&str, String)> = more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let database = [
            vec![("REACTOR_DATA_DATABASE_URL", postgres.url()), ("REACTOR_PUBLICATION_CREATE", "true".to_owned())],
            more.clone(),
        ]
        .concat();
        let deployment = match mode {
            Mode::Single => Self::single(postgres, database)?,
            Mode::Cluster => Self::cluster(postgres, database, more).await?,
        };
        for url in &deployment.admin_urls {
            deployment.wait_ready(url).await?;
        }
        Ok(deployment)
    }

    fn single(postgres: Postgres, mut env: Vec<(&str, String)>) -> Result<Self> {
        env.push(("REACTOR_JWT_SECRET", JWT_SECRET.to_owned()));
        let (process, port, admin) = service("reactor", &env)?;
        let urls = vec![format!("http://127.0.0.1:{port}")];
        Ok(Self {
            postgres,
            nats: None,
            replicator: process,
            policy: None,
            gateways: Vec::new(),
            urls,
            admin_urls: vec![admin],
        })
    }

    async fn cluster(postgres: Postgres, mut database: Vec<(&str, String)>, more: Vec<(&str, String)>) -> Result<Self> {
        let nats = Nats::start().await?;
        database.push(("REACTOR_NATS_URL", nats.url()));
        let policy_port = free_port()?;
        database.push(("REACTOR_POLICY_LISTEN", format!("127.0.0.1:{policy_port}")));
        let (replicator, _, replicator_admin) = service("reactor-replicator", &database)?;
        let (policy, _, policy_admin) = service("reactor-policy", &database)?;
        let mut client_side = more;
        client_side.push(("REACTOR_NATS_URL", nats.url()));
        client_side.push(("REACTOR_POLICY_URL", format!("http://127.0.0.1:{policy_port}")));
        client_side.push(("REACTOR_JWT_SECRET", JWT_SECRET.to_owned()));
        let mut deployment = Self {
            postgres,
            nats: Some(nats),
            replicator,
            policy: Some(policy),
            gateways: Vec::new(),
            urls: Vec::new(),
            admin_urls: vec![replicator_admin, policy_admin],
        };
        for _ in 0..2 {
            let (gateway, port, admin) = service("reactor-gateway", &client_side)?;
            deployment.gateways.push((gateway, port));
            deployment.urls.push(format!("http://127.0.0.1:{port}"));
            deployment.admin_urls.push(admin);
        }
        Ok(deployment)
    }

    /// One deployment per mode for all tests that break nothing; each has tables of its own in it.
    pub(crate) async fn shared(mode: Mode) -> Result<&'static Self> {
        static SINGLE: OnceCell<Deployment> = OnceCell::const_new();
        static CLUSTER: OnceCell<Deployment> = OnceCell::const_new();
        let cell = match mode {
            Mode::Single => &SINGLE,
            Mode::Cluster => &CLUSTER,
        };
        cell.get_or_try_init(|| {
            Self::start_with(mode, PostgresOptions::default(), &[("REACTOR_REALTIME_HEARTBEAT_SECS", "2")])
        })
        .await
    }

    /// A second replicator of a cluster, which waits for the lease.
    pub(crate) fn another_replicator(&self) -> Result<Process> {
        let nats = self.nats.as_ref().context("a cluster has NATS")?;
        let env = [("REACTOR_DATA_DATABASE_URL", self.postgres.url()), ("REACTOR_NATS_URL", nats.url())];
        Ok(service("reactor-replicator", &env)?.0)
    }

    /// The sum of a metric over all gateways (or the one process).
    pub(crate) async fn metric(&self, line_start: &str) -> Result<f64> {
        let mut sum = 0.0;
        for admin in &self.admin_urls {
            let text =
                reactor_testkit::sse::http_client()?.get(format!("{admin}/metrics")).send().await?.text().await?;
            let values =
                text.lines().filter(|line| line.starts_with(line_start)).filter_map(|line| line.rsplit(' ').next());
            sum += values.filter_map(|value| value.parse::<f64>().ok()).sum::<f64>();
        }
        Ok(sum)
    }

    pub(crate) async fn wait_ready(&self, admin_url: &str) -> Result<()> {
        let ready = self.replicator.wait_for_url(&format!("{admin_url}/ready"), PATIENCE).await;
        ready.with_context(|| format!("{admin_url} is not ready; logs:\n{}", self.logs()))
    }

    /// The ends of all logs, for messages.
    pub(crate) fn logs(&self) -> String {
        let processes = std::iter::once(&self.replicator)
            .chain(&self.policy)
            .chain(self.gateways.iter().map(|(gateway, _)| gateway));
        let tail = |process: &Process| {
            let log = process.stderr().unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n")
        };
        processes.map(tail).collect::<Vec<_>>().join("\n--\n")
    }

    /// The first gateway's address.
    pub(crate) fn url(&self) -> &str {
        &self.urls[0]
    }

    /// A request for one table on the first gateway, with a token of a plain user.
    pub(crate) fn table(&self, table: &str) -> SseRequest {
        self.table_on(self.url(), table)
    }

    pub(crate) fn table_on(&self, url: &str, table: &str) -> SseRequest {
        SseRequest::get(format!("{url}/data/v1/{table}/subscribe")).token(&user_token())
    }

    /// Opens a subscription and waits until it is live.
    pub(crate) async fn subscribe(&self, request: &SseRequest) -> Result<SseClient> {
        let mut client = request.open().await?;
        client.expect("ready", PATIENCE).await.with_context(|| self.logs())?;
        Ok(client)
    }

    /// A new table that every test user may read.
    pub(crate) async fn create_table(&self, name: &str, columns: &str) -> Result<()> {
        self.postgres
            .execute(&format!("create table {name} ({columns}); grant select on {name} to authenticated"))
            .await
    }
}

pub(crate) fn sign(claims: &Value) -> String {
    reactor_testkit::token::token(JWT_SECRET, claims).unwrap_or_default()
}

/// The user whose token most tests have.
pub(crate) const ALICE: &str = "2f0c1f5e-0000-4000-8000-000000000001";
/// Somebody else.
pub(crate) const BOB: &str = "2f0c1f5e-0000-4000-8000-000000000002";

pub(crate) fn user_token() -> String {
    token_of(ALICE)
}

/// A token of a plain user.
pub(crate) fn token_of(user: &str) -> String {
    sign(&json!(reactor_testkit::token::user("authenticated", user)))
}

pub(crate) fn member_token(orgs: &[&str]) -> String {
    sign(&json!(reactor_testkit::token::member("authenticated", ALICE, orgs)))
}
