//! What is refused, and how it is said.

use std::time::Duration;

use anyhow::{Result, ensure};
use reactor_testkit::sse::{data, http_client};
use reactor_testkit::token::{member, now, user};
use reactor_testkit::{SseRequest, wait};
use serde_json::{Value, json};

use crate::deployment::{Deployment, Mode, PATIENCE, member_token, sign, user_token};
use crate::in_both_modes;

in_both_modes!(
    tokens_are_checked,
    permissions_are_checked,
    wrong_requests_are_named,
    row_security_that_comes_later_is_never_ignored,
    an_expiring_token_ends_its_connection,
    a_revoked_grant_ends_its_connection,
    health_and_admin_answer,
    what_was_refused_and_mended_is_admitted_at_once,
    another_table_of_the_same_name_is_not_the_one_that_was_allowed,
);

async fn refused(request: SseRequest, status: u16, code: &str, part: &str) -> Result<()> {
    let (got, body) = request.refused().await?;
    ensure!(got == status && body["code"] == json!(code), "expected {status} {code}, got {got} {body}");
    let message = body["message"].as_str().unwrap_or_default();
    ensure!(message.contains(part), "{message:?} should name {part:?}");
    ensure!(body["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "no hint in {body}");
    Ok(())
}

async fn tokens_are_checked(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let todos = || SseRequest::get(format!("{}/data/v1/todos/subscribe", deployment.url()));
    let claims = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut claims = user("authenticated", "u");
        change(&mut claims);
        sign(&Value::Object(claims))
    };
    refused(todos(), 401, "token_missing", "no token").await?;
    refused(todos().token("abc"), 401, "token_invalid", "JWT").await?;
    refused(todos().token(&(user_token() + "x")), 401, "token_invalid", "signature").await?;
    refused(todos().header("authorization", "Basic abc"), 401, "token_invalid", "Bearer").await?;
    refused(todos().token(&claims(&|c| drop(c.insert("exp".into(), json!(1000))))), 401, "token_expired", "expired")
        .await?;
    refused(todos().token(&claims(&|c| drop(c.remove("exp")))), 401, "token_invalid", "exp").await?;
    refused(todos().token(&claims(&|c| drop(c.remove("role")))), 401, "token_invalid", "role").await?;
    refused(
        todos().token(&claims(&|c| drop(c.insert("nbf".into(), json!(4_000_000_000_u64))))),
        401,
        "token_invalid",
        "nbf",
    )
    .await
}

async fn permissions_are_checked(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.postgres.execute("create table closed (id int primary key)").await?;
    let closed =
        |claims: Value| SseRequest::get(format!("{}/data/v1/closed/subscribe", deployment.url())).token(&sign(&claims));
    refused(closed(json!(user("authenticated", "u"))), 403, "permission_denied", "closed").await?;
    refused(closed(json!(user("no_such_role", "u"))), 403, "permission_denied", "no_such_role").await?;
    for permission in ["data:closed:read", "data:*:read"] {
        let mut claims = user("authenticated", "u");
        claims.insert("permissions".into(), json!([permission]));
        deployment.subscribe(&closed(json!(claims))).await?;
    }
    let todos = |token: &str| SseRequest::get(format!("{}/data/v1/todos/subscribe", deployment.url())).token(token);
    refused(todos(&member_token(&["acme"])).org("other"), 403, "org_forbidden", "organisation").await?;
    refused(todos(&user_token()).org("acme"), 403, "org_forbidden", "organisation").await?;
    refused(todos(&member_token(&["acme", "b"])), 403, "org_forbidden", "several").await?;
    let member = sign(&json!(member("authenticated", "u", &["acme", "b"])));
    let messages = SseRequest::get(format!("{}/data/v1/messages/subscribe", deployment.url())).token(&member);
    deployment.subscribe(&messages).await?;
    Ok(())
}

async fn wrong_requests_are_named(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let todos = || deployment.table("todos");
    refused(deployment.table("no_such_table"), 404, "table_unknown", "no_such_table").await?;
    refused(deployment.table("a%00b"), 400, "bad_request", "NUL").await?;
    refused(deployment.table("%FF"), 400, "bad_request", "UTF-8").await?;
    refused(todos().query("nope", "eq.1"), 400, "bad_filter", "nope").await?;
    refused(todos().query("id", "foo.1"), 400, "bad_filter", "foo").await?;
    refused(todos().query("id", "eq.abc"), 400, "bad_filter", "abc").await?;
    refused(todos().query("id", "in.1"), 400, "bad_filter", "parentheses").await?;
    refused(todos().query("title", "match.("), 400, "bad_filter", "title").await?;
    refused(todos().query("done", "is.maybe"), 400, "bad_filter", "maybe").await?;
    refused(todos().query("or", "(id.eq.1"), 400, "bad_filter", "or").await?;
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    refused(todos().query("id", &format!("in.({})", many.join(","))), 400, "bad_filter", "100").await?;
    refused(todos().query("events", "upsert"), 400, "bad_request", "upsert").await?;
    refused(todos().query("select", "id,nope"), 400, "bad_request", "nope").await?;
    let post = |body: Value| {
        SseRequest::post(format!("{}/realtime/v1/subscribe", deployment.url()), body).token(&user_token())
    };
    refused(post(json!({"subscriptions": []})), 400, "bad_request", "empty").await?;
    refused(post(json!({"filter": "x".repeat(300_000)})), 413, "payload_too_large", "bytes").await?;
    let many: Vec<Value> = (0..21).map(|n| json!({"id": n.to_string(), "table": "todos"})).collect();
    refused(post(json!({"subscriptions": many})), 400, "too_many_subscriptions", "20").await?;
    refused(SseRequest::get(format!("{}/nowhere", deployment.url())), 404, "not_found", "path").await?;
    refused(SseRequest::get(format!("{}/realtime/v1/subscribe", deployment.url())), 405, "method_not_allowed", "method")
        .await
}

async fn row_security_that_comes_later_is_never_ignored(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("secured", "id int primary key").await?;
    let mut client = deployment.subscribe(&deployment.table("secured")).await?;
    deployment.postgres.execute("insert into secured values (1)").await?;
    client.expect("insert", PATIENCE).await?;
    deployment
        .postgres
        .execute("alter table secured enable row level security; insert into secured values (2)")
        .await?;
    // Longer than it may take until the decision is known that hides the row.
    client.expect_silence(Duration::from_secs(4)).await?;
    deployment.postgres.execute("create policy all_rows on secured using (true)").await?;
    let mut row = 2;
    let shown = async {
        loop {
            row += 1;
            deployment.postgres.execute(&format!("insert into secured values ({row})")).await?;
            if let Ok(event) = client.expect("insert", Duration::from_millis(200)).await {
                return data(&event);
            }
        }
    };
    let event = tokio::time::timeout(PATIENCE, shown).await??;
    ensure!(event["new"]["id"].as_i64() > Some(2), "{event} came between, when no policy allowed it");
    Ok(())
}

async fn an_expiring_token_ends_its_connection(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut claims = user("authenticated", "u");
    claims.insert("exp".into(), json!(now() + 3));
    let request =
        SseRequest::get(format!("{}/data/v1/messages/subscribe", deployment.url())).token(&sign(&json!(claims)));
    let mut client = deployment.subscribe(&request).await?;
    let error = client.expect("error", PATIENCE).await?;
    assert_eq!(data(&error)?["code"], json!("token_expired"));
    ensure!(client.next_or_end(PATIENCE).await?.is_none(), "the connection goes on");
    Ok(())
}

async fn a_revoked_grant_ends_its_connection(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("revoked", "id int primary key").await?;
    let mut client = deployment.subscribe(&deployment.table("revoked")).await?;
    deployment.postgres.execute("revoke select on revoked from authenticated").await?;
    let error = client.expect("error", PATIENCE).await?;
    assert_eq!(data(&error)?["code"], json!("permission_denied"));
    Ok(())
}

async fn health_and_admin_answer(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let http = http_client()?;
    let health: Value = http.get(format!("{}/data/v1/health", deployment.url())).send().await?.json().await?;
    assert_eq!(health, json!({"status": "ok", "realtime": "ok"}));
    for admin in &deployment.admin_urls {
        for path in ["live", "ready", "version", "metrics"] {
            let answer = http.get(format!("{admin}/{path}")).send().await?;
            ensure!(answer.status() == 200, "{admin}/{path}: {}", answer.status());
        }
        let metrics = http.get(format!("{admin}/metrics")).send().await?.text().await?;
        ensure!(metrics.contains("reactor_"), "no metrics of ours at {admin}");
    }
    Ok(())
}

async fn what_was_refused_and_mended_is_admitted_at_once(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    refused(deployment.table("later"), 404, "table_unknown", "later").await?;
    deployment.postgres.execute("create table later (id int primary key)").await?;
    refused(deployment.table("later"), 403, "permission_denied", "later").await?;
    deployment.postgres.execute("grant select on later to authenticated").await?;
    let mut client = deployment.subscribe(&deployment.table("later")).await?;
    deployment.postgres.execute("insert into later values (1)").await?;
    client.expect("insert", PATIENCE).await?;
    Ok(())
}

async fn another_table_of_the_same_name_is_not_the_one_that_was_allowed(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("twin", "id int primary key").await?;
    let mut client = deployment.subscribe(&deployment.table("twin")).await?;
    deployment.postgres.execute("insert into twin values (1)").await?;
    client.expect("insert", PATIENCE).await?;
    deployment
        .postgres
        .execute("drop table twin; create table twin (id int primary key); insert into twin values (2)")
        .await?;
    let error = client.expect("error", PATIENCE).await?;
    let code = data(&error)?["code"].clone();
    ensure!(code == json!("schema_changed") || code == json!("permission_denied"), "{code}");
    wait::until(PATIENCE, "the new table to be refused", || async {
        Ok(refused(deployment.table("twin"), 403, "permission_denied", "twin").await.is_ok())
    })
    .await
}
