//! A gateway dies under its clients.

use std::time::Duration;

use anyhow::{Context, Result};
use reactor_testkit::{PostgresOptions, TcpProxy, wait};
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, places};
use crate::deployment::{Deployment, Mode, PATIENCE, user_token};

const CLIENTS: usize = 200;

/// What a crash may take: the clients' own pauses, and until the dead gateway's presences are given up.
const CONVERGES_WITHIN: Duration = Duration::from_secs(90);

/// Asks for reports until one is as wanted.
async fn report(many: &mut Clients, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = tokio::time::Instant::now() + CONVERGES_WITHIN;
    loop {
        let report = many.ask(json!({"do": "report"})).await?;
        if wanted(&report) {
            return Ok(report);
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "{what}: not within {CONVERGES_WITHIN:?}: {report}");
        wait::elapse(Duration::from_millis(200), "a report costs the clients time").await;
    }
}

/// Writes rows and messages all the while, each with its number.
async fn write_on(deployment: &Deployment, mut stop: tokio::sync::watch::Receiver<bool>) -> Result<i64> {
    let client = deployment.postgres.connect().await?;
    for number in 1.. {
        let told = format!(
            "insert into ws_many values ({number});
             select realtime.send(jsonb_build_object('number', {number}), 'number', 'many', false)"
        );
        client.batch_execute(&told).await?;
        if tokio::time::timeout(Duration::from_millis(50), stop.changed()).await.is_ok() {
            return Ok(number);
        }
    }
    Ok(0)
}

/// Whoever was only on the dead gateway is gone for the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presences_end_with_their_gateway() -> Result<()> {
    let deployment = Deployment::start_with(Mode::Cluster, PostgresOptions::default(), &[]).await?;
    let mut clients = Clients::supabase().await?;
    for (name, place) in ["lost", "witness"].into_iter().zip(places(&deployment)) {
        clients.client(name, NEWEST, place, &user_token()).await?;
        let config = json!({"presence": {"key": name}});
        clients.open(name, "crash", config, json!({"presence": true})).await?;
        clients.ask(json!({"do": "track", "client": name, "channel": "crash", "payload": {}})).await?;
    }
    let counted = |number: usize| {
        move |seen: &Value| {
            let state = seen["state"].as_object();
            seen["client"] == "witness" && seen["saw"] == "sync" && state.is_some_and(|state| state.len() == number)
        }
    };
    clients.expect("the witness counts both", counted(2)).await?;
    let (first, _) = deployment.gateways.first().context("a gateway")?;
    first.kill().await?;
    clients.expect_within(Duration::from_secs(15), "the witness counts itself alone", counted(1)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_of_a_dead_gateway_come_back() -> Result<()> {
    let deployment = Deployment::start_with(Mode::Cluster, PostgresOptions::default(), &[]).await?;
    deployment.create_table("ws_many", "id int primary key").await?;
    let (first, _) = deployment.gateways.first().context("a gateway")?;
    let ports: Vec<u16> = deployment.gateways.iter().map(|(_, port)| *port).collect();
    let proxy = TcpProxy::to_port(ports[0]).await?;
    let mut many = Clients::node("many.mjs", None).await?;
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let start = json!({
        "do": "start", "count": CLIENTS, "release": NEWEST.package, "url": url, "token": user_token(),
        "topic": "many", "table": "ws_many"
    });
    many.ask(start).await?;
    // One that stays, on the other gateway.
    let mut witness = Clients::supabase().await?;
    witness.client("witness", NEWEST, places(&deployment)[1], &user_token()).await?;
    witness.open("witness", "many", Value::Null, json!({"presence": true})).await?;
    let everybody = |report: &Value| report["joined"] == CLIENTS && report["complete"] == CLIENTS;
    report(&mut many, "all are joined and count each other", everybody).await?;

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writer = write_on(&deployment, stopped);
    let faults = async {
        report(&mut many, "all follow", |report| report["oldest_newest"].as_i64() > Some(10)).await?;
        first.kill().await?;
        proxy.lead_to_port(ports[1]);
        proxy.cut();
        let back = |report: &Value| report["joins"].as_u64() >= Some(2 * CLIENTS as u64) && everybody(report);
        let after = report(&mut many, "all are back and count each other", back).await?;
        stop.send(true)?;
        anyhow::Ok(after)
    };
    let (last, after) = tokio::join!(writer, faults);
    let (last, after) = (last?, after?);
    assert_eq!(after["twice"], json!([]), "nothing is delivered twice within one join");
    let up_to_date = report(&mut many, "all have the last change", |report| report["oldest_newest"] == last).await?;
    assert_eq!(up_to_date["twice"], json!([]));
    // The one that stayed counts the same, each once.
    let all_once = |seen: &Value| {
        seen["saw"] == "sync"
            && seen["state"].as_object().is_some_and(|state| {
                state.len() == CLIENTS
                    && state
                        .values()
                        .all(|metas| metas.as_array().is_some_and(|metas| metas.len() == 1 && metas[0]["join"] == 2))
            })
    };
    let final_state = witness.ask(json!({"do": "presences", "client": "witness", "channel": "many"})).await?;
    if !all_once(&json!({"saw": "sync", "state": final_state})) {
        witness.expect_within(PATIENCE, "the witness counts everybody once", all_once).await?;
    }
    Ok(())
}
