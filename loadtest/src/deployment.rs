//! What is measured: one process, or a cluster with one gateway, on a Postgres of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use reactor_testkit::fixtures::JWT_SECRET;
use reactor_testkit::{Nats, Postgres, PostgresOptions, Process, ProcessOptions, free_port, token};
use serde_json::json;

/// How long anything may take that should take a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How the parts are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `reactor realtime serve`.
    Single,
    /// NATS, replicator, policy and a gateway.
    Cluster,
}

/// A running deployment; stopped with this value, in the order of the fields.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// The process that clients connect to.
    pub(crate) server: Process,
    _others: Vec<Process>,
    _nats: Option<Nats>,
    pub(crate) postgres: Postgres,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// A token that may read every table.
    pub(crate) token: String,
}

/// A started service and its addresses.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) admin_url: String,
}

impl Service {
    /// Starts a program of ours on free ports, quiet, without heartbeats, which would be counted as events, and for
    /// any number of connections.
    pub(crate) fn start(name: &str, arguments: &[&str], env: &[(&str, String)]) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut options = ProcessOptions::new(name)
            .args(arguments.iter().copied())
            .env("REACTOR_LISTEN", address.to_string())
            .env("REACTOR_ADMIN_LISTEN", admin.to_string())
            .env("REACTOR_LOG", "warn")
            .env("REACTOR_REALTIME_HEARTBEAT_SECS", "3600")
            .env("REACTOR_REALTIME_MAX_CONNECTIONS", "0")
            .env("REACTOR_DRAIN_SECS", "0");
        for (name, value) in env {
            options = options.env(name, value.clone());
        }
        Ok(Self { process: options.start()?, address, admin_url: format!("http://{admin}") })
    }

    pub(crate) async fn wait_ready(&self) -> Result<()> {
        let ready = self.process.wait_for_url(&format!("{}/ready", self.admin_url), PATIENCE).await;
        ready.with_context(|| format!("not ready; its log:\n{}", self.process.stderr().unwrap_or_default()))
    }
}

/// A Postgres 15 that does nothing by itself while something is measured.
pub(crate) async fn quiet_postgres() -> Result<Postgres> {
    let options =
        PostgresOptions::default().set("autovacuum", "off").set("checkpoint_timeout", "1h").set("max_wal_size", "16GB");
    Postgres::start_with(options).await
}

impl Deployment {
    /// Starts one whose database was made by `sql`, and waits until it is ready.
    pub(crate) async fn start(mode: Mode, sql: &str) -> Result<Self> {
        let postgres = quiet_postgres().await?;
        postgres.execute(sql).await?;
        let database = [
            ("REACTOR_DATA_DATABASE_URL", postgres.url()),
            ("REACTOR_PUBLICATION_CREATE", "true".to_owned()),
            ("REACTOR_JWT_SECRET", JWT_SECRET.to_owned()),
        ];
        let claims = json!(token::user("authenticated", "2f0c1f5e-0000-4000-8000-000000000001"));
        let token = token::token(JWT_SECRET, &claims)?;
        let (services, nats) = match mode {
            Mode::Single => (vec![Service::start("reactor", &["realtime", "serve"], &database)?], None),
            Mode::Cluster => {
                let nats = Nats::start().await?;
                (cluster(&nats, database.to_vec())?, Some(nats))
            }
        };
        for service in &services {
            service.wait_ready().await?;
        }
        let mut services = services.into_iter();
        let server = services.next().context("no service")?;
        let others = services.map(|service| service.process).collect();
        Ok(Self { server: server.process, _others: others, _nats: nats, postgres, address: server.address, token })
    }
}

/// The gateway comes first.
fn cluster(nats: &Nats, mut env: Vec<(&str, String)>) -> Result<Vec<Service>> {
    let policy = format!("127.0.0.1:{}", free_port()?);
    env.push(("REACTOR_NATS_URL", nats.url()));
    env.push(("REACTOR_POLICY_LISTEN", policy.clone()));
    let replicator = Service::start("reactor-replicator", &[], &env)?;
    let policy_service = Service::start("reactor-policy", &[], &env)?;
    // A gateway never sees the database.
    env.retain(|(name, _)| matches!(*name, "REACTOR_NATS_URL" | "REACTOR_JWT_SECRET"));
    env.push(("REACTOR_POLICY_URL", format!("http://{policy}")));
    Ok(vec![Service::start("reactor-gateway", &[], &env)?, replicator, policy_service])
}
