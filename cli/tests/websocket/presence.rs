//! Who is here, as every release counts.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, NEWEST_V1, RELEASES, Release, places};
use crate::deployment::{Deployment, Mode, user_token};
use crate::in_both_modes;

in_both_modes!(
    every_release_counts_the_same,
    updates_and_leaves_are_told,
    several_are_here_under_one_key,
    who_comes_later_sees_everybody,
    one_that_only_listens_is_not_counted,
    releases_that_do_not_say_that_they_listen_are_told,
    who_tracks_too_often_is_shown_out,
);

/// What is tracked under each key, without the references that the server gives.
fn tracked(state: &Value) -> BTreeMap<String, Vec<Value>> {
    let without_ref = |meta: &Value| {
        let mut meta = meta.clone();
        if let Some(meta) = meta.as_object_mut() {
            meta.retain(|name, _| !name.starts_with("presence_ref") && !name.starts_with("phx_ref"));
        }
        meta
    };
    let metas = |metas: &Value| {
        let mut metas: Vec<_> = metas.as_array().into_iter().flatten().map(without_ref).collect();
        metas.sort_by_key(Value::to_string);
        metas
    };
    state.as_object().into_iter().flatten().map(|(key, found)| (key.clone(), metas(found))).collect()
}

/// Waits until a client counts exactly these.
async fn counts(clients: &mut Clients, client: &str, expected: &Value) -> Result<()> {
    let expected = tracked(expected);
    let what = format!("{client} counts {expected:?}");
    let wanted =
        |seen: &Value| seen["client"] == client && seen["saw"] == "sync" && tracked(&seen["state"]) == expected;
    clients.expect(&what, wanted).await.map(|_| ())
}

async fn arrive(
    clients: &mut Clients,
    name: &str,
    release: Release,
    url: &str,
    channel: &str,
    key: &str,
) -> Result<()> {
    clients.client(name, release, url, &user_token()).await?;
    clients.open(name, channel, json!({"presence": {"key": key}}), json!({"presence": true})).await
}

async fn track(clients: &mut Clients, name: &str, channel: &str, payload: Value) -> Result<()> {
    let result = clients.ask(json!({"do": "track", "client": name, "channel": channel, "payload": payload})).await?;
    assert_eq!(result, "ok", "{name} tracks {payload}");
    Ok(())
}

async fn every_release_counts_the_same(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    let mut expected = json!({});
    for (number, release) in RELEASES.iter().enumerate() {
        let name = release.name();
        arrive(&mut clients, &name, *release, places(deployment)[number % 2], "everybody", &name).await?;
        track(&mut clients, &name, "everybody", json!({"number": number})).await?;
        expected[&name] = json!([{"number": number}]);
    }
    for release in &RELEASES {
        counts(&mut clients, &release.name(), &expected).await?;
    }
    Ok(())
}

async fn updates_and_leaves_are_told(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    // Releases around 2.109 keep the old meta beside the new one when an application listens for joins: their own mistake.
    for (round, [one, other]) in [[NEWEST, NEWEST_V1], [NEWEST_V1, NEWEST]].into_iter().enumerate() {
        let mut clients = Clients::supabase().await?;
        let channel = format!("pair {round}");
        for ((name, release), place) in [("a", one), ("b", other)].into_iter().zip(places(deployment)) {
            arrive(&mut clients, name, release, place, &channel, name).await?;
        }
        track(&mut clients, "a", &channel, json!({"at": 1})).await?;
        counts(&mut clients, "b", &json!({"a": [{"at": 1}]})).await?;
        let joined = clients.next("b", "join").await?;
        assert_eq!((&joined["key"], &joined["newPresences"][0]["at"]), (&json!("a"), &json!(1)));
        track(&mut clients, "b", &channel, json!({"at": 2})).await?;
        track(&mut clients, "a", &channel, json!({"at": 3})).await?;
        for name in ["a", "b"] {
            counts(&mut clients, name, &json!({"a": [{"at": 3}], "b": [{"at": 2}]})).await?;
        }
        clients.ask(json!({"do": "untrack", "client": "a", "channel": channel})).await?;
        for name in ["a", "b"] {
            counts(&mut clients, name, &json!({"b": [{"at": 2}]})).await?;
        }
        track(&mut clients, "a", &channel, json!({"at": 4})).await?;
        counts(&mut clients, "b", &json!({"a": [{"at": 4}], "b": [{"at": 2}]})).await?;
        clients.ask(json!({"do": "leave", "client": "a", "channel": channel})).await?;
        counts(&mut clients, "b", &json!({"b": [{"at": 2}]})).await?;
        let left =
            |seen: &Value| seen["client"] == "b" && seen["saw"] == "leave" && seen["leftPresences"][0]["at"] == 4;
        clients.expect("b sees a leave", left).await?;
    }
    Ok(())
}

async fn several_are_here_under_one_key(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    for (number, name) in ["phone", "laptop", "tablet"].into_iter().enumerate() {
        arrive(&mut clients, name, NEWEST, places(deployment)[number % 2], "devices", "user-1").await?;
        track(&mut clients, name, "devices", json!({"device": name})).await?;
    }
    for name in ["phone", "laptop", "tablet"] {
        let all = json!({"user-1": [{"device": "phone"}, {"device": "laptop"}, {"device": "tablet"}]});
        counts(&mut clients, name, &all).await?;
    }
    clients.ask(json!({"do": "disconnect", "client": "laptop"})).await?;
    for name in ["phone", "tablet"] {
        counts(&mut clients, name, &json!({"user-1": [{"device": "phone"}, {"device": "tablet"}]})).await?;
    }
    Ok(())
}

async fn who_comes_later_sees_everybody(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    let mut expected = json!({});
    for number in 0..12 {
        let name = format!("guest {number}");
        arrive(&mut clients, &name, NEWEST, places(deployment)[number % 2], "party", &name).await?;
        track(&mut clients, &name, "party", json!({"number": number})).await?;
        expected[&name] = json!([{"number": number}]);
        // The first thing that a newcomer hears of the others is complete but for itself.
        let first = clients.next(&name, "sync").await?;
        let mut others = tracked(&first["state"]);
        others.remove(&name);
        assert_eq!(others.len(), number, "{name}: {first}");
    }
    for number in 0..12 {
        counts(&mut clients, &format!("guest {number}"), &expected).await.context("at the end")?;
    }
    Ok(())
}

/// The releases before mid-2025 have no `presence.enabled` to say that they listen, and drop every diff until they are told the
/// state.
async fn releases_that_do_not_say_that_they_listen_are_told(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    let [here, there] = places(deployment);
    arrive(&mut clients, "tracker", NEWEST, here, "old listeners", "tracker").await?;
    let old: Vec<_> =
        RELEASES.iter().filter(|release| ["realtime-js-2.4", "realtime-js-2.11"].contains(&release.package)).collect();
    for release in &old {
        arrive(&mut clients, release.package, **release, there, "old listeners", release.package).await?;
    }
    track(&mut clients, "tracker", "old listeners", json!({"here": true})).await?;
    for release in old {
        counts(&mut clients, release.package, &json!({"tracker": [{"here": true}]})).await?;
    }
    Ok(())
}

async fn who_tracks_too_often_is_shown_out(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    for ((name, release), place) in [("a", NEWEST), ("b", NEWEST_V1)].into_iter().zip(places(deployment)) {
        let channel = format!("restless {name}");
        arrive(&mut clients, name, release, place, &channel, name).await?;
        for number in 0..5 {
            track(&mut clients, name, &channel, json!({"number": number})).await?;
        }
        clients.tell(&json!({"do": "track", "client": name, "channel": channel, "payload": {"number": 5}})).await?;
        let said = clients.next(name, "system").await?;
        assert_eq!(said["payload"]["message"], "Client presence rate limit exceeded");
        assert_eq!(clients.next(name, "status").await?["status"], "CLOSED", "{name}");
    }
    Ok(())
}

async fn one_that_only_listens_is_not_counted(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    for ((name, release), place) in [("a", NEWEST), ("b", NEWEST_V1)].into_iter().zip(places(deployment)) {
        arrive(&mut clients, name, release, place, "quiet", name).await?;
        let first = clients.next(name, "sync").await?;
        assert_eq!(tracked(&first["state"]), BTreeMap::new());
    }
    track(&mut clients, "b", "quiet", json!({"here": true})).await?;
    counts(&mut clients, "a", &json!({"b": [{"here": true}]})).await
}
