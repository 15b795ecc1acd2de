//! Who may connect, how, and what is said when it does not work.

use std::process::Command;

use anyhow::{Result, ensure};
use reactor_testkit::{Postgres, PostgresOptions};

use crate::support::{Replicator, settings};

async fn carries_a_row(postgres: &Postgres, url: &str, id: i32) -> Result<()> {
    let replicator = Replicator::streaming(settings(url)).await?;
    postgres.execute_in("app", &format!("insert into t values ({id})")).await?;
    assert_eq!(replicator.lines(1).await?, [format!("insert public.t new[id={id}]")]);
    replicator.finish(postgres).await
}

#[tokio::test]
async fn without_logical_wal_one_sentence_says_what_to_do() -> Result<()> {
    let postgres = Postgres::start_with(PostgresOptions::default().set("wal_level", "replica")).await?;
    let replicator = Replicator::start(settings(&postgres.url()));
    let reason = replicator.unready_with("wal_level is replica").await?;
    ensure!(reason.contains("set wal_level = logical in postgresql.conf and restart Postgres"), "{reason}");
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn without_the_right_to_replicate_it_says_so_and_waits_for_it() -> Result<()> {
    let postgres = Postgres::shared().await?;
    postgres.create_database("rights").await?;
    postgres.execute("create role reader login").await?;
    postgres.execute_in("rights", "create publication changes for all tables; create table t (id int)").await?;
    let replicator = Replicator::start(settings(&postgres.url_as("reader", "rights")));
    let reason = replicator.unready_with("replication").await?;
    ensure!(reason.contains("ALTER ROLE") && reason.contains("REPLICATION"), "{reason}");
    postgres.execute("alter role reader replication").await?;
    replicator.ready().await?;
    postgres.execute_in("rights", "insert into t values (1)").await?;
    replicator.lines(1).await?;
    replicator.finish(postgres).await
}

#[tokio::test]
async fn a_publication_for_all_tables_needs_a_superuser() -> Result<()> {
    let postgres = Postgres::shared().await?;
    postgres.create_database("unable").await?;
    postgres.execute("create role follower login replication").await?;
    let replicator = Replicator::start(settings(&postgres.url_as("follower", "unable")));
    let reason = replicator.unready_with("cannot be created").await?;
    ensure!(reason.contains("CREATE PUBLICATION \"changes\" FOR ALL TABLES as a superuser"), "{reason}");
    replicator.finish(postgres).await
}

#[tokio::test]
async fn with_all_slots_or_senders_taken_it_says_so() -> Result<()> {
    for (setting, part) in
        [("max_replication_slots", "replication slots are in use"), ("max_wal_senders", "max_wal_senders")]
    {
        let value = if setting == "max_wal_senders" { "0" } else { "1" };
        let options = PostgresOptions::default().set("max_wal_senders", "5").set(setting, value);
        let options = if value == "0" { options.set("max_replication_slots", "5") } else { options };
        let postgres = Postgres::start_with(options).await?;
        postgres.execute("select pg_create_physical_replication_slot('taken')").await?;
        let replicator = Replicator::start(settings(&postgres.url()));
        let reason = replicator.unready_with(part).await?;
        ensure!(reason.contains("raise max_replication_slots and max_wal_senders"), "{reason}");
        replicator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn passwords_of_every_kind() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.create_database("app").await?;
    postgres.execute_in("app", "create table t (id int); create publication changes for all tables").await?;
    let hba = "local all all trust\nhost all postgres 127.0.0.1/32 trust\n\
               host all md5_user 127.0.0.1/32 md5\nhost all clear_user 127.0.0.1/32 password\n\
               host all all 127.0.0.1/32 scram-sha-256\n";
    postgres.write_data_file("pg_hba.conf", hba)?;
    postgres.execute(
        "create role scram_user login replication password 'se@cret'; set password_encryption = md5;
         create role md5_user login replication password 'se@cret'; create role clear_user login replication password 'se@cret';",
    )
    .await?;
    postgres.reload()?;
    let url = |user: &str, password: &str| format!("postgres://{user}:{password}@127.0.0.1:{}/app", postgres.port());
    for (id, user) in (1..).zip(["scram_user", "md5_user", "clear_user"]) {
        carries_a_row(&postgres, &url(user, "se%40cret"), id).await?;
    }
    let replicator = Replicator::start(settings(&url("scram_user", "wrong")));
    let reason = replicator.unready_with("password authentication failed").await?;
    ensure!(!reason.contains("wrong"), "{reason}");
    replicator.stop().await?;
    let socket = format!("postgres://postgres@{}:{}/app", percent(&postgres), postgres.port());
    carries_a_row(&postgres, &socket, 9).await
}

/// The folder of the Unix socket as a host in a URL.
fn percent(postgres: &Postgres) -> String {
    let folder = postgres.data_dir().parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    folder.replace('/', "%2F")
}

#[tokio::test]
async fn over_tls_with_every_way_of_checking() -> Result<()> {
    let postgres = Postgres::start().await?;
    let certificates = Certificates::make(&postgres)?;
    postgres.write_data_file("server.crt", &certificates.certificate)?;
    postgres.write_data_file("server.key", &certificates.key)?;
    let hba = "local all all trust\nhostssl all scram_user 127.0.0.1/32 scram-sha-256\nhostnossl all plain_user 127.0.0.1/32 trust\n\
               host all postgres 127.0.0.1/32 trust\n";
    postgres.write_data_file("pg_hba.conf", hba)?;
    postgres.create_database("app").await?;
    postgres.execute_in("app", "create table t (id int); create publication changes for all tables").await?;
    for sql in [
        "alter system set ssl = on",
        "create role scram_user login replication password 'secret'",
        "create role plain_user login replication",
    ] {
        postgres.execute(sql).await?;
    }
    postgres.restart().await?;
    let url = |user: &str, query: &str| format!("postgres://{user}:secret@localhost:{}/app?{query}", postgres.port());
    let roots = format!("sslrootcert={}", certificates.path);
    for (id, (user, query)) in (1..).zip([
        ("scram_user", "sslmode=require".to_owned()),
        ("scram_user", "sslmode=prefer".to_owned()),
        ("scram_user", "sslmode=allow".to_owned()),
        ("plain_user", "sslmode=prefer".to_owned()),
        ("scram_user", format!("sslmode=verify-full&{roots}")),
        ("scram_user", format!("sslmode=verify-ca&{roots}")),
    ]) {
        carries_a_row(&postgres, &url(user, &query), id).await?;
    }
    for (query, part) in [
        ("sslmode=verify-full".to_owned(), "check sslmode and sslrootcert"),
        ("sslmode=disable".to_owned(), "pg_hba.conf"),
    ] {
        let replicator = Replicator::start(settings(&url("scram_user", &query)));
        replicator.unready_with(part).await?;
        replicator.stop().await?;
    }
    Ok(())
}

/// A certificate for `localhost`, signed by itself.
struct Certificates {
    certificate: String,
    key: String,
    path: String,
    folder: std::path::PathBuf,
}

impl Certificates {
    fn make(postgres: &Postgres) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("replicator-tls-{}-{}", std::process::id(), postgres.port()));
        std::fs::create_dir_all(&folder)?;
        let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-out")
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self {
            certificate: std::fs::read_to_string(&certificate)?,
            key: std::fs::read_to_string(&key)?,
            path: certificate.display().to_string(),
            folder,
        })
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
