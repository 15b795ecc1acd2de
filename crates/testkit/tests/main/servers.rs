//! Postgres and NATS start, stop, keep what they stored, and leave nothing behind.

use std::time::Duration;

use reactor_testkit::{Nats, Postgres, PostgresOptions, fixtures, wait};

async fn todos(postgres: &Postgres) -> i64 {
    postgres.connect().await.unwrap().query_one("select count(*) from todos", &[]).await.unwrap().get(0)
}

async fn survives_restart_and_crash(version: u32) {
    let postgres = Postgres::start_with(PostgresOptions::version(version)).await.unwrap();
    postgres.execute(fixtures::SAMPLE_SQL).await.unwrap();
    postgres.execute("insert into todos (org_id, title) values ('acme', 'one')").await.unwrap();
    postgres.restart().await.unwrap();
    assert_eq!(todos(&postgres).await, 1);
    postgres.execute("insert into todos (org_id, title) values ('acme', 'two')").await.unwrap();
    postgres.kill().await.unwrap();
    postgres.start_again().await.unwrap();
    assert_eq!(todos(&postgres).await, 2);
    let folder = postgres.log_path().parent().unwrap().to_owned();
    drop(postgres);
    assert!(!folder.exists());
}

#[tokio::test]
async fn postgres_15_survives_restart_and_crash() {
    survives_restart_and_crash(15).await;
}

#[tokio::test]
async fn postgres_18_survives_restart_and_crash() {
    survives_restart_and_crash(18).await;
}

#[tokio::test]
async fn postgres_has_logical_wal_and_the_settings_asked_for() {
    let postgres = Postgres::start_with(PostgresOptions::default().set("wal_sender_timeout", "7s")).await.unwrap();
    let client = postgres.connect().await.unwrap();
    for (name, value) in [("wal_level", "logical"), ("wal_sender_timeout", "7s")] {
        let row = client.query_one("select current_setting($1)", &[&name]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), value, "{name}");
    }
}

#[tokio::test]
async fn a_paused_postgres_does_not_answer_until_it_is_resumed() {
    let postgres = Postgres::start().await.unwrap();
    let client = postgres.connect().await.unwrap();
    postgres.pause().unwrap();
    let question = client.query_one("select 1", &[]);
    tokio::pin!(question);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut question).await.is_err());
    postgres.resume().unwrap();
    question.await.unwrap();
}

#[tokio::test]
async fn nats_keeps_its_store_and_port_over_restart_and_kill() {
    let nats = Nats::start().await.unwrap();
    let url = nats.url();
    nats.restart().await.unwrap();
    nats.kill().await.unwrap();
    nats.start_again().await.unwrap();
    assert_eq!(nats.url(), url);
    nats.pause().unwrap();
    nats.resume().unwrap();
}

/// Starts a server in another process, kills that process, and sees the server go.
#[tokio::test]
async fn servers_end_when_the_test_process_is_killed() {
    let program = std::env::current_exe().unwrap();
    let mut owner = tokio::process::Command::new(program)
        .args(["--ignored", "--exact", "servers::owner_that_waits_to_be_killed", "--nocapture"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(owner.stdout.take().unwrap()));
    let folder = loop {
        let line = lines.next_line().await.unwrap().expect("the owner says where its server is");
        if let Some((_, folder)) = line.split_once("folder=") {
            break std::path::PathBuf::from(folder);
        }
    };
    assert!(folder.join("data/postmaster.pid").exists());
    owner.kill().await.unwrap();
    let gone = || std::future::ready(Ok(!folder.exists()));
    wait::until(Duration::from_secs(15), "the folder is removed", gone).await.unwrap();
}

#[tokio::test]
#[ignore = "run by servers_end_when_the_test_process_is_killed"]
async fn owner_that_waits_to_be_killed() {
    let postgres = Postgres::start().await.unwrap();
    println!("\nfolder={}", postgres.log_path().parent().unwrap().display());
    std::future::pending::<()>().await;
}
