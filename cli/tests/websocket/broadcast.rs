//! Messages of clients to each other.

use anyhow::Result;
use reactor_testkit::sse::http_client;
use serde_json::{Value, json};

use crate::client::{Clients, NEWEST, NEWEST_V1, RELEASES, places};
use crate::deployment::{Deployment, Mode, user_token};
use crate::in_both_modes;

in_both_modes!(
    every_release_hears_every_other,
    binary_payloads_reach_who_can_read_them,
    senders_hear_themselves_only_if_they_want_to,
    messages_come_over_http,
    clients_that_are_not_joined_send_over_http,
    the_largest_payloads_arrive,
    a_payload_that_is_too_large_is_refused,
);

/// A client of each release in one channel, on alternate gateways.
async fn everybody(deployment: &Deployment, clients: &mut Clients, channel: &str) -> Result<()> {
    for (number, release) in RELEASES.iter().enumerate() {
        let name = release.name();
        clients.client(&name, *release, places(deployment)[number % 2], &user_token()).await?;
        clients.open(&name, channel, Value::Null, json!({"broadcast": ["*"]})).await?;
    }
    Ok(())
}

async fn every_release_hears_every_other(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    everybody(deployment, &mut clients, "all").await?;
    for sender in &RELEASES {
        let payload = json!({"from": sender.name(), "text": "grüße \u{1f44b}", "list": [1, null, {"a": true}]});
        let send =
            json!({"do": "send", "client": sender.name(), "channel": "all", "event": "hello", "payload": payload});
        assert_eq!(clients.ask(send).await?, "ok");
        for listener in RELEASES.iter().filter(|listener| listener.name() != sender.name()) {
            let seen = clients.next(&listener.name(), "broadcast").await?;
            let expected = json!({"type": "broadcast", "event": "hello", "payload": payload});
            assert_eq!(seen["payload"], expected, "{} hears {}", listener.name(), sender.name());
        }
    }
    for release in &RELEASES {
        clients.nothing_left(&release.name(), "broadcast")?;
    }
    Ok(())
}

async fn binary_payloads_reach_who_can_read_them(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    everybody(deployment, &mut clients, "binary").await?;
    let senders: Vec<_> = RELEASES.iter().filter(|release| release.binary).collect();
    for sender in &senders {
        for payload in [json!({"binary": "AP+A"}), json!({"text": "after"})] {
            let send =
                json!({"do": "send", "client": sender.name(), "channel": "binary", "event": "b", "payload": payload});
            clients.ask(send).await?;
        }
        for listener in RELEASES.iter().filter(|listener| listener.name() != sender.name()) {
            let name = listener.name();
            if listener.binary {
                let seen = clients.next(&name, "broadcast").await?;
                assert_eq!(seen["payload"]["payload"], json!({"binary": "AP+A"}), "{name} hears {}", sender.name());
            }
            let seen = clients.next(&name, "broadcast").await?;
            assert_eq!(seen["payload"]["payload"], json!({"text": "after"}), "{name} hears {}", sender.name());
        }
    }
    Ok(())
}

async fn senders_hear_themselves_only_if_they_want_to(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    for (number, release) in RELEASES.iter().enumerate() {
        let name = release.name();
        clients.client(&name, *release, places(deployment)[number % 2], &user_token()).await?;
        for own in [true, false] {
            let channel = format!("self-{own}-{number}");
            let config = json!({"broadcast": {"self": own, "ack": true}});
            clients.open(&name, &channel, config, json!({"broadcast": ["note"]})).await?;
            let send =
                json!({"do": "send", "client": name, "channel": channel, "event": "note", "payload": {"n": number}});
            assert_eq!(clients.ask(send).await?, "ok", "{name} is told that its message was taken");
            if own {
                let seen = clients.next(&name, "broadcast").await?;
                assert_eq!(seen["payload"]["payload"], json!({"n": number}), "{name}");
            }
        }
        clients.nothing_left(&name, "broadcast")?;
    }
    Ok(())
}

async fn messages_come_over_http(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    for (release, place) in [NEWEST, NEWEST_V1].into_iter().zip(places(deployment)) {
        clients.client(&release.name(), release, place, &user_token()).await?;
        clients.open(&release.name(), "http room", Value::Null, json!({"broadcast": ["*"]})).await?;
    }
    let http = http_client()?;
    let url = deployment.url();
    let batch = |payloads: Value| json!({"messages": payloads});
    let message = |n: i64| json!({"topic": "http room", "event": "e", "payload": {"n": n}});
    for (path, header, body) in [
        ("/realtime/v1/api/broadcast?apikey=x&vsn=2.0.0", "authorization", batch(json!([message(1), message(2)]))),
        ("/api/broadcast", "apikey", batch(json!([message(3)]))),
    ] {
        let token = if header == "apikey" { user_token() } else { format!("Bearer {}", user_token()) };
        let answer = http.post(format!("{url}{path}")).header(header, token).json(&body).send().await?;
        assert_eq!((answer.status().as_u16(), answer.text().await?.as_str()), (202, ""), "{path}");
    }
    for (kind, body) in [("application/json", &b"{\"n\": 4}"[..]), ("application/octet-stream", &b"\x00\xff\x80"[..])] {
        let single = http.post(format!("{url}/realtime/v1/api/broadcast/http%20room/events/e"));
        let single = single.bearer_auth(user_token()).header("content-type", kind).body(body.to_vec());
        assert_eq!(single.send().await?.status().as_u16(), 202, "{kind}");
    }
    for release in [NEWEST, NEWEST_V1] {
        for n in 1..=4 {
            let seen = clients.next(&release.name(), "broadcast").await?;
            assert_eq!(seen["payload"], json!({"type": "broadcast", "event": "e", "payload": {"n": n}}));
        }
    }
    let seen = clients.next(&NEWEST.name(), "broadcast").await?;
    assert_eq!(seen["payload"]["payload"], json!({"binary": "AP+A"}));
    let refusals = [
        (user_token(), json!({"messages": [{"topic": "http room", "event": "e"}]}), 422),
        (user_token(), json!({}), 422),
        ("not a token".to_owned(), batch(json!([message(9)])), 401),
    ];
    for (token, body, status) in refusals {
        let answer = http.post(format!("{url}/api/broadcast")).bearer_auth(token).json(&body).send().await?;
        assert_eq!(answer.status().as_u16(), status, "{body}");
    }
    Ok(())
}

async fn clients_that_are_not_joined_send_over_http(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    let [here, there] = places(deployment);
    clients.client("listener", NEWEST, here, &user_token()).await?;
    clients.open("listener", "outside", Value::Null, json!({"broadcast": ["*"]})).await?;
    for release in [NEWEST, NEWEST_V1] {
        let name = release.name();
        clients.client(&name, release, there, &user_token()).await?;
        clients.ask(json!({"do": "channel", "client": name, "channel": "outside"})).await?;
        for payload in [json!({"n": 1}), json!({"binary": "AP+A"})] {
            let send =
                json!({"do": "httpSend", "client": name, "channel": "outside", "event": "e", "payload": payload});
            assert_eq!(clients.ask(send).await?, json!({"success": true}), "{name}");
        }
        let send = json!({"do": "send", "client": name, "channel": "outside", "event": "e", "payload": {"n": 2}});
        assert_eq!(clients.ask(send).await?, "ok", "{name}: send() of a channel that is not joined");
        for expected in [json!({"n": 1}), json!({"binary": "AP+A"}), json!({"n": 2})] {
            assert_eq!(clients.next("listener", "broadcast").await?["payload"]["payload"], expected, "{name}");
        }
    }
    clients.nothing_left("listener", "broadcast")
}

/// Up to 3,000 kB; in a cluster up to what NATS takes, which is 1 MiB where it has not been told otherwise.
async fn the_largest_payloads_arrive(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    let [here, there] = places(deployment);
    for (name, release, place) in [("sender", NEWEST, here), ("new", NEWEST, there), ("old", NEWEST_V1, there)] {
        clients.client(name, release, place, &user_token()).await?;
        clients.open(name, "vast", json!({"broadcast": {"ack": true}}), json!({"broadcast": ["*"]})).await?;
    }
    for length in [500_000, 1_000_000, 2_000_000, 2_990_000] {
        let payload = json!({"text": "x".repeat(length)});
        let send = json!({"do": "send", "client": "sender", "channel": "vast", "event": "e", "payload": payload});
        let fits = mode == Mode::Single || length <= 1_000_000;
        assert_eq!(clients.ask(send).await?, if fits { "ok" } else { "error" }, "{length} bytes");
        if !fits {
            continue;
        }
        for name in ["new", "old"] {
            let arrives =
                |seen: &Value| seen["client"] == name && ["broadcast", "system"].iter().any(|saw| seen["saw"] == *saw);
            let seen = clients.expect(&format!("{length} bytes arrive at {name}"), arrives).await?;
            let arrived = seen["payload"]["payload"]["text"].as_str().map(str::len);
            assert_eq!(arrived, Some(length), "{name}: {:.200}", seen.to_string());
        }
    }
    Ok(())
}

async fn a_payload_that_is_too_large_is_refused(mode: Mode) -> Result<()> {
    let deployment = Deployment::shared(mode).await?;
    let mut clients = Clients::supabase().await?;
    for (release, place) in [NEWEST, NEWEST_V1].into_iter().zip(places(deployment)) {
        let name = release.name();
        clients.client(&name, release, place, &user_token()).await?;
        let config = json!({"broadcast": {"ack": true, "self": true}});
        clients.open(&name, &format!("large {name}"), config, json!({"broadcast": ["*"]})).await?;
        for (length, expected) in [(3_100_000, "error"), (10, "ok")] {
            let payload = json!({"text": "x".repeat(length)});
            let channel = format!("large {name}");
            let send = json!({"do": "send", "client": name, "channel": channel, "event": "e", "payload": payload});
            assert_eq!(clients.ask(send).await?, expected, "{name}, {length} bytes");
        }
        let seen = clients.next(&name, "broadcast").await?;
        assert_eq!(seen["payload"]["payload"]["text"], "xxxxxxxxxx");
    }
    Ok(())
}
