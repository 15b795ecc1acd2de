//! Without Postgres there is no answer, and with it again there is.

use std::time::Duration;

use reactor_policy::PostgresAuthorizer;
use reactor_policy_engine::{Authorizer as _, AuthorizerError};
use reactor_runtime::Registry;
use reactor_testkit::{Postgres, free_port, wait};

use crate::support::{request, settings};

const SQL: &str = "create table todos (id int primary key); create publication supabase_realtime for table todos";

#[tokio::test]
async fn a_restart_is_survived() {
    let server = Postgres::start().await.unwrap();
    server.execute(SQL).await.unwrap();
    let authorizer = PostgresAuthorizer::new(settings(&server.url()), &Registry::new());
    let ask = || authorizer.authorize(request("postgres", "todos"));
    assert!(ask().await.is_ok(), "the first question waits for the first connection");
    let ready = async || Ok(authorizer.unavailable().is_none());
    wait::until(Duration::from_secs(10), "both connections are made", ready).await.unwrap();

    server.stop_fast().await.unwrap();
    wait::until(Duration::from_secs(10), "the loss is noticed", async || Ok(authorizer.unavailable().is_some()))
        .await
        .unwrap();
    let began = tokio::time::Instant::now();
    assert!(matches!(ask().await, Err(AuthorizerError::Unavailable(_))));
    assert!(began.elapsed() < Duration::from_secs(1), "at once, not after a deadline");

    server.start_again().await.unwrap();
    wait::until(Duration::from_secs(20), "it is back", async || Ok(ask().await.is_ok())).await.unwrap();
    wait::until(Duration::from_secs(10), "so are both connections", ready).await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_nothing_is_noticed() {
    let server = Postgres::start().await.unwrap();
    server.execute(SQL).await.unwrap();
    let mut settings = settings(&server.url());
    settings.query_deadline = Duration::from_millis(300);
    let authorizer = PostgresAuthorizer::new(settings, &Registry::new());
    let ask = || authorizer.authorize(request("postgres", "todos"));
    assert!(ask().await.is_ok());
    server.pause().unwrap();
    wait::elapse(Duration::from_millis(30), "the catalog cache of the test runs out").await;
    assert!(matches!(ask().await, Err(AuthorizerError::Timeout)));
    wait::until(Duration::from_secs(10), "the loss is noticed", async || Ok(authorizer.unavailable().is_some()))
        .await
        .unwrap();
    server.resume().unwrap();
    wait::until(Duration::from_secs(20), "it is back", async || Ok(ask().await.is_ok())).await.unwrap();
}

#[tokio::test]
async fn the_reason_is_said() {
    let nowhere = format!("postgres://u@127.0.0.1:{}/d", free_port().unwrap());
    let authorizer = PostgresAuthorizer::new(settings(&nowhere), &Registry::new());
    let answer = authorizer.authorize(request("postgres", "todos")).await;
    assert!(matches!(answer, Err(AuthorizerError::Unavailable(_))), "{answer:?}");
    let reason = authorizer.unavailable().unwrap();
    assert!(reason.contains("refused") && reason.contains("check that Postgres runs"), "{reason}");
}
