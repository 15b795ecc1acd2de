//! Row changes.

use anyhow::{Context, Result};
use reactor_protocol::wire::WireVersion::{V1, V2};
use serde_json::{Value, json};

use crate::client::Client;
use crate::log::Log;
use crate::world::{World, user};

const TOPIC: &str = "realtime:room";
const SUBSCRIBED: &str = "Subscribed to PostgreSQL";

fn ok(message: &str) -> (String, String) {
    ("ok".to_owned(), message.to_owned())
}

#[tokio::test]
async fn changes_come_with_the_ids_of_their_bindings() -> Result<()> {
    let world = World::start().await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let mut several = Client::connect(here, V2).await?;
    let bindings = json!([
        {"event": "INSERT", "schema": "public", "table": "notes"},
        {"event": "*", "schema": "public"},
        {"event": "DELETE", "schema": "public", "table": "notes"},
        {"event": "*", "schema": "public", "table": "todos", "select": ["id"]}
    ]);
    let joined = several.join(TOPIC, json!({"postgres_changes": bindings})).await?;
    let ids: Vec<&Value> = (0..4).map(|index| &joined["postgres_changes"][index]["id"]).collect();
    assert_eq!(several.system(TOPIC).await?, ok(SUBSCRIBED));
    let mut one = Client::connect(there, V1).await?;
    one.join(TOPIC, json!({"broadcast": {}, "postgres_changes": [{"event": "*", "table": "notes"}]})).await?;
    assert_eq!(one.system(TOPIC).await?, ok(SUBSCRIBED));
    let id = world.insert("notes", "1", "hello").await?;
    world.insert("todos", "2", "buy").await?;
    let change = several.next(TOPIC, "postgres_changes").await?;
    assert_eq!(change["ids"], json!([ids[0], ids[1]]));
    let data = json!({
        "schema": "public", "table": "notes", "type": "INSERT", "commit_timestamp": "1970-01-01T00:00:00.000Z",
        "columns": [{"name": "id", "type": "text"}, {"name": "title", "type": "text"}],
        "record": {"id": "1", "title": "hello"}, "errors": null, "event_id": id
    });
    assert_eq!(change["data"], data);
    assert_eq!(one.next(TOPIC, "postgres_changes").await?["data"], data);
    // Bindings that show other columns have a frame of their own.
    let todos = [several.next(TOPIC, "postgres_changes").await?, several.next(TOPIC, "postgres_changes").await?];
    assert_eq!(todos.each_ref().map(|change| &change["ids"][0]), [ids[1], ids[3]]);
    assert_eq!(todos[1]["data"]["record"], json!({"id": "2"}));
    one.has_nothing(TOPIC, "postgres_changes").await
}

#[tokio::test]
async fn old_and_bare_clients_see_what_they_expect() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let mut legacy = Client::connect(gateway, V1).await?;
    let reply = legacy.ask("realtime:public:notes", "phx_join", &json!({"user_token": user()})).await?;
    assert_eq!(reply["status"], "ok");
    assert_eq!(legacy.system("realtime:public:notes").await?, ok(SUBSCRIBED));
    world.insert("notes", "1", "x").await?;
    assert_eq!(legacy.next("realtime:public:notes", "INSERT").await?["record"]["id"], "1");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_said() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    world.authorizer.change(|script| {
        script.denied.insert("todos".to_owned());
    });
    let mut client = Client::connect(gateway, V2).await?;
    for (table, part) in [
        (
            "nothing",
            "Please check Realtime is enabled for the given connect parameters: [event: *, schema: public, table: nothing",
        ),
        ("todos", "Exception: ERROR P0001 (raise_exception) the role may not read it"),
    ] {
        let topic = format!("realtime:{table}");
        client.join(&topic, json!({"postgres_changes": [{"event": "*", "schema": "public", "table": table}]})).await?;
        let (status, message) = client.system(&topic).await?;
        assert!(status == "error" && message.contains(part), "{message}");
    }
    let waits = json!({"config": {
        "postgres_changes": [{"event": "*", "table": "nothing"}], "postgres_changes_options": {"wait": true}
    }});
    let refused = client.ask("realtime:waits", "phx_join", &waits).await?;
    let reason = refused["response"]["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("RealtimeDisabledForConfiguration: Unable to subscribe"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn a_client_resumes_where_it_was() -> Result<()> {
    let world = World::start().await?;
    let [here, there] = world.gateways[..] else { anyhow::bail!("two gateways") };
    let first = world.insert("notes", "1", "a").await?;
    for id in ["2", "3"] {
        world.insert("notes", id, "b").await?;
    }
    let since = |since: &str| json!({"postgres_changes": [{"event": "*", "table": "notes"}], "postgres_changes_options": {"since": since, "wait": true}});
    let mut client = Client::connect(here, V2).await?;
    client.join(TOPIC, since(&first)).await?;
    assert_eq!(client.system(TOPIC).await?, ok(SUBSCRIBED));
    world.insert("notes", "4", "c").await?;
    for id in ["2", "3", "4"] {
        assert_eq!(client.next(TOPIC, "postgres_changes").await?["data"]["record"]["id"], id);
    }
    let mut lost = Client::connect(there, V2).await?;
    lost.join(TOPIC, since("0000beef-0000000000000001-00000001")).await?;
    assert_eq!(lost.system(TOPIC).await?, ok(SUBSCRIBED));
    assert_eq!(lost.system(TOPIC).await?, ("error".to_owned(), "resync: epoch_changed".to_owned()));
    lost.join("realtime:other", since("nonsense")).await?;
    assert_eq!(lost.system("realtime:other").await?, ok(SUBSCRIBED));
    assert_eq!(lost.system("realtime:other").await?, ("error".to_owned(), "resync: unknown_id".to_owned()));
    world.insert("notes", "5", "d").await?;
    for topic in [TOPIC, "realtime:other"] {
        assert_eq!(lost.next(topic, "postgres_changes").await?["data"]["record"]["id"], "5");
    }
    lost.has_nothing(TOPIC, "postgres_changes").await
}

#[tokio::test]
async fn a_new_token_or_policy_is_decided_on_again() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let mut client = Client::connect(gateway, V2).await?;
    client.join(TOPIC, json!({"postgres_changes": [{"event": "*", "table": "notes"}]})).await?;
    assert_eq!(client.system(TOPIC).await?, ok(SUBSCRIBED));
    let other = reactor_testkit::token::now() + 1800;
    client.push(TOPIC, "access_token", &json!({"access_token": crate::world::until(other)})).await?;
    assert_eq!(client.system(TOPIC).await?, ok(SUBSCRIBED));
    world.insert("notes", "1", "x").await?;
    assert_eq!(client.next(TOPIC, "postgres_changes").await?["data"]["record"]["id"], "1");
    world.authorizer.change(|script| {
        script.denied.insert("notes".to_owned());
    });
    let (status, message) = client.system(TOPIC).await?;
    assert!(status == "error" && message.ends_with("the role may not read it"), "{message}");
    world.insert("notes", "2", "x").await?;
    client.has_nothing(TOPIC, "postgres_changes").await
}

#[tokio::test]
async fn a_policy_that_changes_while_a_decision_is_on_its_way_is_not_missed() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let changes_of = |table: &str| json!({"postgres_changes": [{"event": "*", "table": table}]});
    let (mut known, mut late) = (Client::connect(gateway, V2).await?, Client::connect(gateway, V2).await?);
    known.join(TOPIC, changes_of("notes")).await?;
    assert_eq!(known.system(TOPIC).await?, ok(SUBSCRIBED));
    world.authorizer.hold("todos");
    late.join(TOPIC, changes_of("todos")).await?;
    world.authorizer.holds_all().await?;
    world.authorizer.change(|script| script.denied.extend(["notes".to_owned(), "todos".to_owned()]));
    // The gateway has seen the new policy before it is told what the old one says.
    let (status, message) = known.system(TOPIC).await?;
    assert!(status == "error" && message.ends_with("the role may not read it"), "{message}");
    world.authorizer.release();
    assert_eq!(late.system(TOPIC).await?, ok(SUBSCRIBED));
    let (status, message) = late.system(TOPIC).await?;
    assert!(status == "error" && message.ends_with("the role may not read it"), "{message}");
    Ok(())
}

#[tokio::test]
async fn tables_of_a_wildcard_are_decided_on_together() -> Result<()> {
    let world = World::start().await?;
    let mut client = Client::connect(*world.gateways.first().context("two")?, V2).await?;
    for table in ["notes", "todos"] {
        world.authorizer.hold(table);
    }
    client.join(TOPIC, json!({"postgres_changes": [{"event": "*", "schema": "public"}]})).await?;
    world.authorizer.holds_all().await?;
    world.authorizer.release();
    assert_eq!(client.system(TOPIC).await?, ok(SUBSCRIBED));
    for table in ["notes", "todos"] {
        world.insert(table, "1", "x").await?;
        assert_eq!(client.next(TOPIC, "postgres_changes").await?["data"]["table"], table);
    }
    Ok(())
}

#[tokio::test]
async fn a_channel_that_was_left_gets_no_more_changes() -> Result<()> {
    let world = World::start().await?;
    let gateway = *world.gateways.first().context("two")?;
    let (mut gone, mut stays) = (Client::connect(gateway, V2).await?, Client::connect(gateway, V2).await?);
    for client in [&mut gone, &mut stays] {
        client.join(TOPIC, json!({"postgres_changes": [{"event": "*", "table": "notes"}]})).await?;
        assert_eq!(client.system(TOPIC).await?, ok(SUBSCRIBED));
    }
    assert_eq!(gone.ask(TOPIC, "phx_leave", &json!({})).await?["status"], "ok");
    // The answer may be a moment before its end.
    for id in 1..50 {
        world.insert("notes", &id.to_string(), "x").await?;
        stays.next(TOPIC, "postgres_changes").await?;
        if gone.has_nothing(TOPIC, "postgres_changes").await.is_ok() {
            return Ok(());
        }
        gone.next(TOPIC, "postgres_changes").await?;
    }
    anyhow::bail!("changes come for a channel that was left")
}

#[tokio::test]
async fn what_a_client_filters_by_is_told_to_it_and_not_logged() -> Result<()> {
    let log = Log::of_all_tests();
    let world = World::start().await?;
    let mut client = Client::connect(*world.gateways.first().context("two")?, V2).await?;
    world.authorizer.change(|script| script.denied.extend(["todos".to_owned()]));
    let binding = json!({"event": "*", "table": "todos", "filter": "title=eq.never-to-be-logged"});
    client.join(TOPIC, json!({"postgres_changes": [binding]})).await?;
    let (status, message) = client.system(TOPIC).await?;
    assert!(status == "error" && message.contains("never-to-be-logged"), "{message}");
    let logged = log.text();
    assert!(logged.contains("row changes cannot be delivered") && !logged.contains("never-to-be-logged"), "{logged}");
    Ok(())
}
