//! Three recipes of a hosting company's documentation, as they are written there.

use anyhow::{Context, Result};
use reactor_testkit::sse::http_client;
use reactor_testkit::{PostgresOptions, token};
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, places};
use crate::deployment::{ALICE, BOB, Deployment, Mode, sign, token_of, user_token};
use crate::in_both_modes;

in_both_modes!(a_live_list, who_is_online, a_chat, a_private_room);

async fn recipe(name: &str, url: &str, user: &str, more: Value) -> Result<Clients> {
    let mut page = json!({"url": url, "token": token_of(user), "user": user});
    for (key, value) in more.as_object().into_iter().flatten() {
        page[key] = value.clone();
    }
    Clients::node(&format!("recipes/{name}.mts"), Some(page)).await
}

/// Waits for something that the page of a recipe shows.
async fn shown(page: &mut Clients, what: &str) -> Result<Value> {
    page.expect(&format!("the page shows {what}"), |seen| seen["saw"] == what).await
}

/// Waits until a recipe's join is answered, with the topic as it was joined.
async fn joined(page: &mut Clients, topic: &str) -> Result<()> {
    let reply = |seen: &Value| seen["frame"]["event"] == "phx_reply" && seen["frame"]["topic"] == topic;
    let reply = page.expect(&format!("{topic} is joined"), reply).await?;
    assert_eq!(reply["frame"]["payload"], json!({"status": "ok", "response": {"postgres_changes": []}}));
    Ok(())
}

/// The first recipe has a publication of its own, and row-level security.
async fn a_live_list(mode: Mode) -> Result<()> {
    let deployment = Deployment::start_with(mode, PostgresOptions::default(), &[]).await?;
    deployment
        .postgres
        .execute(
            "ALTER TABLE public.todos ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own_todos_read ON public.todos
               FOR SELECT TO authenticated
               USING (owner_id = auth.uid());",
        )
        .await?;
    let mut pages = Vec::new();
    for (user, place) in [ALICE, BOB].into_iter().zip(places(&deployment)) {
        let mut page = recipe("live-list", place, user, json!({})).await?;
        assert_eq!(shown(&mut page, "logged").await?["words"], json!(["Joined channel:", "realtime:public:todos"]));
        page.expect("changes are live", |seen| seen["frame"]["payload"]["message"] == "Subscribed to PostgreSQL")
            .await?;
        pages.push((user, page));
    }
    for (id, user) in [(1, ALICE), (2, BOB)] {
        let values = format!("({id}, 'org', '{user}', 'buy milk')");
        deployment
            .postgres
            .execute(&format!("insert into todos (id, org_id, owner_id, title) values {values}"))
            .await?;
    }
    deployment.postgres.execute("update todos set done = true; delete from todos").await?;
    for (id, (user, mut page)) in [1, 2].into_iter().zip(pages) {
        let row = |done: bool| json!({"id": id, "org_id": "org", "owner_id": user, "title": "buy milk", "done": done});
        assert_eq!(shown(&mut page, "added").await?["row"], row(false));
        assert_eq!(shown(&mut page, "updated").await?["row"], row(true));
        assert_eq!(shown(&mut page, "removed").await?["id"], id);
    }
    Ok(())
}

async fn who_is_online(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let [here, there] = places(deployment);
    let mut alice = recipe("presence", here, ALICE, json!({"room": "7"})).await?;
    let users = |seen: &Value, key: &str| -> Vec<Value> {
        seen[key]
            .as_object()
            .into_iter()
            .flat_map(|keys| keys.values())
            .flat_map(|metas| metas.as_array().cloned().unwrap_or_default())
            .collect()
    };
    // She sees herself in the state if she was quick, else in a diff.
    let mine = |seen: &Value| match seen["saw"].as_str() {
        Some("online") => seen["users"][0].clone(),
        Some("diff") => seen["joins"][ALICE][0].clone(),
        _ => Value::Null,
    };
    let her = mine(&alice.expect("alice is online", |seen| mine(seen).is_object()).await?);
    assert_eq!((&her["user_id"], &her["cursor_color"]), (&json!(ALICE), &json!("#336699")));
    let mut bob = recipe("presence", there, BOB, json!({"room": "7"})).await?;
    let hers = |user: &Value| user["user_id"] == ALICE && user["display_name"] == format!("User {ALICE}");
    let has_her = |seen: &Value| {
        (seen["saw"] == "online" && seen["users"].as_array().is_some_and(|users| users.iter().any(hers)))
            || (seen["saw"] == "diff" && users(seen, "joins").iter().any(hers))
    };
    bob.expect("bob sees alice", has_her).await?;
    alice.expect("alice sees bob", |seen| seen["saw"] == "diff" && seen["joins"][BOB][0]["user_id"] == BOB).await?;
    bob.ask(json!({"do": "unload"})).await?;
    let leaves = "alice sees bob leave";
    alice.expect(leaves, |seen| seen["saw"] == "diff" && seen["leaves"][BOB][0]["user_id"] == BOB).await?;
    // The recipe tracks at every reply, so that a reply to that would never end.
    assert_eq!(alice.count(|seen| seen["frame"]["event"] == "phx_reply"), 1, "only the join is answered");
    Ok(())
}

async fn a_chat(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let [here, there] = places(deployment);
    let mut alice = recipe("chat", here, ALICE, json!({"room": "42"})).await?;
    let mut bob = recipe("chat", there, BOB, json!({"room": "42"})).await?;
    for page in [&mut alice, &mut bob] {
        joined(page, "chat:room-42").await?;
    }
    // Others know the same channel by its full name.
    let mut others = Clients::supabase().await?;
    others.client("other", NEWEST, there, &user_token()).await?;
    others.open("other", "chat:room-42", Value::Null, json!({"broadcast": ["*"]})).await?;
    alice.ask(json!({"do": "write", "text": "hello"})).await?;
    let message = shown(&mut bob, "message").await?;
    assert_eq!((&message["message"]["text"], &message["message"]["user_id"]), (&json!("hello"), &json!(ALICE)));
    assert_eq!(others.next("other", "broadcast").await?["payload"]["payload"]["text"], "hello");
    let acknowledged = |seen: &Value| {
        seen["frame"]["event"] == "phx_reply" && seen["frame"]["payload"] == json!({"status": "ok", "response": {}})
    };
    alice.expect("the message is acknowledged", acknowledged).await?;
    let service = sign(&json!(token::user("service_role", ALICE)));
    let message = json!({"topic": "chat:room-42", "event": "chat_message", "payload": {"text": "Server maintenance in 5 min"}, "private": false});
    let request = http_client()?
        .post(format!("{here}/realtime/v1/api/broadcast"))
        .header("apikey", &service)
        .bearer_auth(&service);
    let answer = request.json(&json!({"messages": [message]})).send().await?;
    assert_eq!(answer.status().as_u16(), 202);
    for page in [&mut alice, &mut bob] {
        // The sender does not see her own message before it.
        let message = shown(page, "message").await?;
        assert_eq!(message["message"]["text"], "Server maintenance in 5 min");
    }
    Ok(())
}

async fn a_private_room(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    // Ids of rooms with hyphens would be cut by the recipe's own split, so they are numbers.
    deployment
        .postgres
        .execute(&format!(
            "create table public.room_members (room_id text, user_id uuid);
             grant select on public.room_members to authenticated;
             insert into room_members values ('room-43', '{ALICE}'), ('room-43', '{BOB}'), ('room-44', '{BOB}');
             CREATE POLICY only_room_members ON realtime.messages
               FOR SELECT TO authenticated
               USING (
                 EXISTS (
                   SELECT 1 FROM public.room_members
                   WHERE user_id = auth.uid()
                     AND room_id::text = (string_to_array(realtime.topic(), ':'))[2]
                 )
               );
             create policy room_members_write on realtime.messages for insert to authenticated
               with check (realtime.topic() like 'chat:room-4%')"
        ))
        .await?;
    let [here, there] = places(deployment);
    let mut alice = recipe("chat", here, ALICE, json!({"room": "43", "private": true})).await?;
    let mut bob = recipe("chat", there, BOB, json!({"room": "43", "private": true})).await?;
    for page in [&mut alice, &mut bob] {
        joined(page, "chat:room-43").await?;
    }
    alice.ask(json!({"do": "write", "text": "between us"})).await?;
    assert_eq!(shown(&mut bob, "message").await?["message"]["text"], "between us");
    let mut outside = recipe("chat", here, ALICE, json!({"room": "44", "private": true})).await?;
    let reply = outside.expect("the join is answered", |seen| seen["frame"]["event"] == "phx_reply").await?;
    let reason = "Unauthorized: You do not have permissions to read from this Channel topic: chat:room-44";
    assert_eq!(reply["frame"]["payload"], json!({"status": "error", "response": {"reason": reason}}));
    reply["frame"]["topic"].as_str().context("a topic").map(|topic| assert_eq!(topic, "chat:room-44"))
}
