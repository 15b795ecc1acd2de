//! Frames as they are: connecting, refusals, joining and leaving, resuming, and the end of a gateway.

use anyhow::{Result, ensure};
use reactor_testkit::PostgresOptions;
use serde_json::{Value, json};

use crate::client::{Clients, places};
use crate::deployment::{ALICE, Deployment, Mode, sign, user_token};
use crate::in_both_modes;

in_both_modes!(
    connections_are_refused_with_reasons,
    joining_leaving_and_joining_again,
    changes_are_resumed_after_a_gap,
    what_is_too_old_is_said,
    rows_that_cannot_be_shown_say_why,
    channels_of_a_connection_are_counted,
    a_slow_reader_is_closed_alone,
    a_server_that_stops_says_so,
);

fn url(place: &str, query: &str) -> String {
    format!("{place}/realtime/v1/websocket?{query}")
}

fn frame(client: &str, frame: Value) -> Value {
    json!({"do": "frame", "client": client, "frame": frame})
}

async fn connections_are_refused_with_reasons(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let token = user_token();
    let no_role = sign(&json!({"sub": ALICE, "exp": reactor_testkit::token::now() + 60}));
    let mut past = reactor_testkit::token::user("authenticated", ALICE);
    past.insert("exp".into(), json!(1_000_000_000));
    let past = sign(&json!(past));
    let forged = reactor_testkit::token::token(
        "another secret, of the right length 0123456789",
        &json!({"role": "x", "exp": 9_999_999_999_u64}),
    )?;
    let error = |text: &str| json!({"error": text}).to_string();
    let cases = [
        (String::new(), 401, error("API key is missing")),
        ("apikey=nonsense".to_owned(), 401, error("The token provided is not a valid JWT")),
        (format!("apikey={no_role}"), 401, error("Fields `role` and `exp` are required in JWT")),
        (format!("apikey={past}"), 401, error("Token has expired")),
        (format!("apikey={forged}"), 401, error("Failed to validate JWT signature")),
        (format!("apikey={token}&vsn=3.0.0"), 403, String::new()),
    ];
    for (query, status, body) in cases {
        let answer =
            bare.ask(json!({"do": "connect", "client": "refused", "url": url(deployment.url(), &query)})).await?;
        assert_eq!(answer, json!({"status": status, "body": body}), "{query}");
    }
    for path in ["/socket/websocket", "/realtime/v1/websocket"] {
        for query in [String::new(), format!("?apikey={token}"), "?apikey=wrong&vsn=1.0.0".to_owned()] {
            let url = format!("{}{path}{query}", deployment.url());
            // The header goes before the query.
            let headers = if query.contains("apikey=ey") { json!({}) } else { json!({"x-api-key": token}) };
            let answer = bare.ask(json!({"do": "connect", "client": "taken", "url": url, "headers": headers})).await?;
            assert_eq!(answer["status"], 101, "{url}: {answer}");
            bare.ask(frame("taken", json!({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "7"})))
                .await?;
            let beat = json!({"topic": "phoenix", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": "7"});
            assert_eq!(bare.next("taken", "frame").await?["frame"], beat);
            bare.ask(json!({"do": "close", "client": "taken", "code": 1000})).await?;
            assert_eq!(bare.next("taken", "close").await?["code"], 1000);
        }
    }
    Ok(())
}

async fn joining_leaving_and_joining_again(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let query = format!("apikey={}&vsn=2.0.0", user_token());
    bare.ask(json!({"do": "connect", "client": "c", "url": url(deployment.url(), &query)})).await?;
    let topic = "realtime:again";
    let error = |reason: &str| json!({"status": "error", "response": {"reason": reason}});
    let joined = json!({"status": "ok", "response": {"postgres_changes": []}});
    let ok = json!({"status": "ok", "response": {}});
    let steps = [
        (
            json!(["1", "1", topic, "broadcast", {"event": "e"}]),
            vec![json!([null, "1", topic, "phx_reply", error("unmatched topic")])],
        ),
        (json!(["1", "2", topic, "phx_leave", {}]), vec![json!(["1", "2", topic, "phx_reply", ok])]),
        (
            json!(["3", "3", "realtime:", "phx_join", {"config": {}}]),
            vec![json!([
                "3",
                "3",
                "realtime:",
                "phx_reply",
                error("TopicNameRequired: You must provide a topic name")
            ])],
        ),
        (json!(["4", "4", topic, "phx_join", {"config": {}}]), vec![json!(["4", "4", topic, "phx_reply", joined])]),
        (
            json!(["5", "5", topic, "phx_join", {"config": {}}]),
            vec![json!(["4", "4", topic, "phx_close", {}]), json!(["5", "5", topic, "phx_reply", joined])],
        ),
        (
            json!(["5", "6", topic, "phx_leave", {}]),
            vec![json!(["5", "6", topic, "phx_reply", ok]), json!(["5", "5", topic, "phx_close", {}])],
        ),
        (
            json!(["5", "7", topic, "presence", {"event": "track"}]),
            vec![json!([null, "7", topic, "phx_reply", error("unmatched topic")])],
        ),
    ];
    for (sent, expected) in steps {
        bare.ask(frame("c", sent.clone())).await?;
        for expected in expected {
            assert_eq!(bare.next("c", "frame").await?["frame"], expected, "after {sent}");
        }
    }
    for broken in ["", "null", "{\"topic\":", "[1,2]", "[null,null,5,6,7]"] {
        bare.ask(json!({"do": "text", "client": "c", "text": broken})).await?;
    }
    bare.ask(json!({"do": "binary", "client": "c", "base64": "/w=="})).await?;
    bare.ask(frame("c", json!([null, "8", "phoenix", "heartbeat", {}]))).await?;
    assert_eq!(bare.next("c", "frame").await?["frame"][1], "8", "what cannot be read is dropped");
    Ok(())
}

fn join_changes(table: &str, since: Option<&Value>) -> Value {
    let mut config = json!({"postgres_changes": [{"event": "*", "schema": "public", "table": table}]});
    if let Some(since) = since {
        config["postgres_changes_options"] = json!({"since": since});
    }
    json!({"config": config})
}

/// A connection with its protocol's frames: join, and what `data` and messages are.
async fn join(bare: &mut Clients, client: &str, place: &str, vsn: &str, payload: Value) -> Result<()> {
    let query = format!("apikey={}&vsn={vsn}", user_token());
    bare.ask(json!({"do": "connect", "client": client, "url": url(place, &query)})).await?;
    let sent = if vsn == "1.0.0" {
        json!({"topic": "realtime:gap", "event": "phx_join", "payload": payload, "ref": "1", "join_ref": "1"})
    } else {
        json!(["1", "1", "realtime:gap", "phx_join", payload])
    };
    bare.ask(frame(client, sent)).await?;
    let reply = payload_of(bare, client, "phx_reply").await?;
    ensure!(reply["status"] == "ok", "{client}: {reply}");
    Ok(())
}

/// The payload of the next frame, which has to be this event.
async fn payload_of(bare: &mut Clients, client: &str, event: &str) -> Result<Value> {
    let mut seen = bare.next(client, "frame").await?["frame"].take();
    let (got, payload) =
        if seen.is_array() { (seen[3].take(), seen[4].take()) } else { (seen["event"].take(), seen["payload"].take()) };
    ensure!(got == event, "{client} expects {event}: {got} {payload}");
    Ok(payload)
}

async fn next_id(bare: &mut Clients, client: &str) -> Result<(i64, Value)> {
    let mut payload = payload_of(bare, client, "postgres_changes").await?;
    let row = if payload["data"]["type"] == "DELETE" { "old_record" } else { "record" };
    let id = payload["data"][row]["id"].as_i64().unwrap_or(-1);
    Ok((id, payload["data"]["event_id"].take()))
}

async fn changes_are_resumed_after_a_gap(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let [here, there] = places(deployment);
    for (vsn, table) in [("1.0.0", "ws_gap_1"), ("2.0.0", "ws_gap_2")] {
        deployment.create_table(table, "id int primary key").await?;
        join(&mut bare, vsn, here, vsn, join_changes(table, None)).await?;
        payload_of(&mut bare, vsn, "system").await?;
        // One transaction, so that a place within it is taken up too.
        deployment.postgres.execute(&format!("insert into {table} values (1), (2), (3)")).await?;
        let (_, first) = next_id(&mut bare, vsn).await?;
        bare.ask(json!({"do": "cut", "client": vsn})).await?;
        deployment
            .postgres
            .execute(&format!("insert into {table} values (4); delete from {table} where id = 1"))
            .await?;
        let again = format!("{vsn} again");
        join(&mut bare, &again, there, vsn, join_changes(table, Some(&first))).await?;
        let said = payload_of(&mut bare, &again, "system").await?;
        assert_eq!(said["message"], "Subscribed to PostgreSQL");
        for expected in [2, 3, 4, 1] {
            assert_eq!(next_id(&mut bare, &again).await?.0, expected, "{vsn}");
        }
        deployment.postgres.execute(&format!("insert into {table} values (5)")).await?;
        assert_eq!(next_id(&mut bare, &again).await?.0, 5, "{vsn}");
        bare.nothing_left(&again, "frame")?;
    }
    Ok(())
}

async fn what_is_too_old_is_said(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    deployment.create_table("ws_old", "id int primary key").await?;
    join(&mut bare, "c", deployment.url(), "2.0.0", join_changes("ws_old", None)).await?;
    payload_of(&mut bare, "c", "system").await?;
    deployment.postgres.execute("insert into ws_old values (1)").await?;
    let (_, known) = next_id(&mut bare, "c").await?;
    // The same place in the history of another database.
    let known = known.as_str().unwrap_or_default();
    let (epoch, place) = known.split_at(known.find(['-', ':', '.', '_', '/']).unwrap_or(4));
    let other = json!(format!("{}{place}", epoch.chars().rev().collect::<String>()));
    ensure!(other != json!(known), "{known}");
    join(&mut bare, "d", deployment.url(), "2.0.0", join_changes("ws_old", Some(&other))).await?;
    let (mut resync, mut live) = (false, false);
    while !(resync && live) {
        let said = payload_of(&mut bare, "d", "system").await?;
        let message = said["message"].as_str().unwrap_or_default().to_owned();
        resync |= said["status"] == "error" && message.starts_with("resync: ");
        live |= said["status"] == "ok" && message == "Subscribed to PostgreSQL";
    }
    deployment.postgres.execute("insert into ws_old values (2)").await?;
    assert_eq!(next_id(&mut bare, "d").await?.0, 2);
    Ok(())
}

async fn rows_that_cannot_be_shown_say_why(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    deployment.create_table("ws_no_key", "id int, note text").await?;
    deployment.create_table("ws_hidden_key", "id int primary key, note text").await?;
    deployment.create_table("ws_huge", "id int primary key, small text, large text").await?;
    let grants =
        "revoke select on ws_hidden_key from authenticated; grant select (note) on ws_hidden_key to authenticated";
    deployment.postgres.execute(grants).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let cases = [
        ("ws_no_key", "values (1, 'x')", "Error 400: Bad Request, no primary key", json!({})),
        ("ws_hidden_key", "values (1, 'x')", "Error 401: Unauthorized", json!({})),
        (
            "ws_huge",
            "values (1, 'x', repeat('y', 1100000))",
            "Error 413: Payload Too Large",
            json!({"id": 1, "small": "x"}),
        ),
    ];
    for (number, (table, row, error, record)) in cases.into_iter().enumerate() {
        let vsn = ["1.0.0", "2.0.0"][number % 2];
        join(&mut bare, table, places(deployment)[number % 2], vsn, join_changes(table, None)).await?;
        let said = payload_of(&mut bare, table, "system").await?;
        assert_eq!(said["status"], "ok", "{table}: {said}");
        deployment.postgres.execute(&format!("insert into {table} {row}")).await?;
        let data = payload_of(&mut bare, table, "postgres_changes").await?["data"].take();
        assert_eq!((&data["errors"], &data["record"]), (&json!([error]), &record), "{table}");
        assert_eq!((&data["type"], &data["table"]), (&json!("INSERT"), &json!(table)));
    }
    Ok(())
}

async fn channels_of_a_connection_are_counted(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let query = format!("apikey={}&vsn=2.0.0", user_token());
    bare.ask(json!({"do": "connect", "client": "c", "url": url(deployment.url(), &query)})).await?;
    for number in 0..101 {
        let (reference, topic) = (number.to_string(), format!("realtime:many-{number}"));
        bare.ask(frame("c", json!([reference, reference, topic, "phx_join", {"config": {}}]))).await?;
        let reply = bare.next("c", "frame").await?["frame"][4].take();
        let expected = if number < 100 {
            json!({"status": "ok", "response": {"postgres_changes": []}})
        } else {
            json!({"status": "error", "response": {"reason": "ChannelRateLimitReached: Too many channels"}})
        };
        assert_eq!(reply, expected, "channel {number}");
    }
    Ok(())
}

async fn a_slow_reader_is_closed_alone(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let query = format!("apikey={}&vsn=2.0.0", user_token());
    for client in ["slow", "other"] {
        bare.ask(json!({"do": "connect", "client": client, "url": url(deployment.url(), &query)})).await?;
        bare.ask(frame(client, json!(["1", "1", "realtime:slow", "phx_join", {"config": {}}]))).await?;
        bare.next(client, "frame").await?;
    }
    bare.ask(json!({"do": "hold", "client": "slow", "hold": true})).await?;
    let http = reactor_testkit::sse::http_client()?;
    let messages: Vec<_> =
        (0..7).map(|_| json!({"topic": "slow", "event": "e", "payload": {"text": "x".repeat(500_000)}})).collect();
    for _ in 0..14 {
        let url = format!("{}/api/broadcast", deployment.url());
        let send = http.post(url).bearer_auth(user_token()).json(&json!({"messages": messages}));
        assert_eq!(send.send().await?.status().as_u16(), 202);
        for _ in 0..messages.len() {
            assert_eq!(bare.next("other", "frame").await?["frame"][3], "broadcast");
        }
    }
    bare.ask(json!({"do": "hold", "client": "slow", "hold": false})).await?;
    let close = bare.next("slow", "close").await?;
    assert_eq!(close["code"], 1013, "{close}");
    let told = |seen: &Value| seen["client"] == "slow" && seen["frame"][3] == "system";
    let said = bare.expect("the slow one is told", told).await?["frame"][4].take();
    assert!(said["message"].as_str().is_some_and(|message| message.starts_with("SlowConsumer")), "{said}");
    bare.ask(frame("other", json!([null, "9", "phoenix", "heartbeat", {}]))).await?;
    assert_eq!(bare.next("other", "frame").await?["frame"][1], "9");
    Ok(())
}

async fn a_server_that_stops_says_so(mode: Mode) -> Result<()> {
    let deployment = Deployment::start_with(mode, PostgresOptions::default(), &[]).await?;
    let mut bare = Clients::node("bare.mjs", None).await?;
    let config = json!({"config": {}});
    join(&mut bare, "one", deployment.url(), "1.0.0", config.clone()).await?;
    join(&mut bare, "two", deployment.url(), "2.0.0", config).await?;
    let server = deployment.gateways.first().map_or(&deployment.replicator, |(gateway, _)| gateway);
    server.terminate()?;
    for client in ["one", "two"] {
        let said = payload_of(&mut bare, client, "system").await?;
        assert_eq!(said, json!({"extension": "system", "status": "ok", "message": "Server requested disconnect"}));
        assert_eq!(bare.next(client, "close").await?["code"], 1012);
    }
    Ok(())
}
