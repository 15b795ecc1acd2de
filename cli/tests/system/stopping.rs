//! How processes stop, and how they do not start.

use std::time::Duration;

use anyhow::{Result, ensure};
use reactor_testkit::sse::{data, http_client};
use reactor_testkit::{Postgres, PostgresOptions, ProcessOptions, free_port, wait};
use serde_json::{Value, json};

use crate::deployment::{Deployment, Mode, PATIENCE};
use crate::in_both_modes;

in_both_modes!(a_leaving_server_tells_its_clients, a_starting_server_holds_requests_until_it_can_serve);

/// Browsers try again when a connection is refused, and never after an answer other than 200.
async fn a_starting_server_holds_requests_until_it_can_serve(mode: Mode) -> Result<()> {
    let deployment = Deployment::start(mode).await?;
    let server = deployment.gateways.first().map_or(&deployment.replicator, |(gateway, _)| gateway);
    for _ in 0..3 {
        server.kill().await?;
        server.start_again()?;
        let answer =
            wait::value(PATIENCE, "an answer", || async { Ok(deployment.table("todos").send().await.ok()) }).await?;
        ensure!(answer.status() == 200, "{}", answer.text().await?);
    }
    Ok(())
}

async fn a_leaving_server_tells_its_clients(mode: Mode) -> Result<()> {
    let deployment = Deployment::start(mode).await?;
    let leaving = deployment.gateways.first().map_or(&deployment.replicator, |(gateway, _)| gateway);
    let mut client = deployment.subscribe(&deployment.table("todos")).await?;
    leaving.terminate()?;
    let error = client.expect("error", PATIENCE).await?;
    assert_eq!(data(&error)?["code"], json!("draining"));
    ensure!(client.retry().is_some(), "no hint when to come back");
    ensure!(client.next_or_end(PATIENCE).await?.is_none(), "the connection goes on");
    let status = leaving.wait(PATIENCE).await?;
    ensure!(status.success(), "{status}; log:\n{}", deployment.logs());
    Ok(())
}

#[tokio::test]
async fn every_problem_of_a_configuration_is_told_at_once() -> Result<()> {
    for (name, args) in [
        ("reactor", vec!["realtime", "serve"]),
        ("reactor-gateway", vec![]),
        ("reactor-replicator", vec![]),
        ("reactor-policy", vec![]),
    ] {
        let process = ProcessOptions::new(name)
            .args(args)
            .env("REACTOR_LISTEN", "nonsense")
            .env("REACTOR_ADMIN_LISTEN", "127.0.0.1:notaport")
            .env("REACTOR_TENANT", "not a tenant")
            .start()?;
        let status = process.wait(PATIENCE).await?;
        assert_eq!(status.code(), Some(64), "{name}: {}", process.stderr()?);
        let told = process.stderr()?;
        for part in ["REACTOR_ADMIN_LISTEN", "REACTOR_TENANT"] {
            ensure!(told.contains(part), "{name} does not name {part}: {told}");
        }
    }
    Ok(())
}

/// The reasons that a server gives for not being ready, once it gives one with this part.
async fn unready_because(postgres: &Postgres, url: String, env: &[(&str, &str)], part: &str) -> Result<()> {
    let admin = free_port()?;
    let mut options = ProcessOptions::new("reactor")
        .args(["realtime", "serve"])
        .env("REACTOR_DATA_DATABASE_URL", url)
        .env("REACTOR_JWT_SECRET", reactor_testkit::fixtures::JWT_SECRET)
        .env("REACTOR_LISTEN", format!("127.0.0.1:{}", free_port()?))
        .env("REACTOR_ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
    for (name, value) in env {
        options = options.env(name, *value);
    }
    let process = options.start()?;
    let http = http_client()?;
    let told = wait::until(PATIENCE, part, || async {
        let Ok(answer) = http.get(format!("http://127.0.0.1:{admin}/ready")).send().await else { return Ok(false) };
        let status = answer.status();
        let body: Value = answer.json().await?;
        Ok(status == 503 && body.to_string().contains(part))
    })
    .await;
    told.map_err(|error| error.context(format!("{}\n{}", process.stderr().unwrap_or_default(), postgres.port())))?;
    let live = http.get(format!("http://127.0.0.1:{admin}/live")).send().await?;
    ensure!(live.status() == 200, "liveness depends on the database");
    process.stop(PATIENCE).await
}

#[tokio::test]
async fn an_unfit_database_is_told_with_the_remedy() -> Result<()> {
    let plain = Postgres::start_with(PostgresOptions::default().set("wal_level", "replica")).await?;
    unready_because(&plain, plain.url(), &[], "wal_level").await?;
    let postgres = Postgres::start_with(PostgresOptions::default().set("max_replication_slots", "1")).await?;
    unready_because(&postgres, postgres.url(), &[], "REACTOR_PUBLICATION_CREATE").await?;
    postgres.execute("create publication supabase_realtime for all tables; create role plain login").await?;
    unready_because(&postgres, postgres.url_as("plain", "postgres"), &[], "replicat").await?;
    postgres.execute("select pg_create_logical_replication_slot('taken', 'pgoutput')").await?;
    unready_because(&postgres, postgres.url(), &[], "max_replication_slots").await
}

#[tokio::test]
async fn a_second_signal_stops_at_once() -> Result<()> {
    let deployment =
        Deployment::start_with(Mode::Single, PostgresOptions::default(), &[("REACTOR_DRAIN_SECS", "60")]).await?;
    let _client = deployment.subscribe(&deployment.table("todos")).await?;
    deployment.replicator.terminate()?;
    wait::elapse(Duration::from_millis(300), "for the first signal to be taken").await;
    deployment.replicator.terminate()?;
    deployment.replicator.wait(Duration::from_secs(5)).await?;
    Ok(())
}
