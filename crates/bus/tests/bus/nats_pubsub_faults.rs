//! Messages to channels while servers die, pause, and connections are cut.

use std::time::Duration;

use futures::StreamExt as _;
use reactor_bus::{BusError, ChangeLog as _, PubSub as _, Received};
use reactor_testkit::{Nats, NatsOptions, TcpProxy, wait};
use tokio::time::{Instant, timeout};

use crate::nats::{available, connected};
use crate::suite::pubsub::{channel, expect, hear, publish, publish_all, silence, text};
use crate::suite::{ROOMY, SOON};

#[tokio::test]
async fn a_restart_is_told_as_a_gap_and_what_follows_is_whole() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    let second = connected(nats.url(), ROOMY).await;
    let (room, quiet) = (channel("room"), channel("quiet"));
    let mut heard = bus.subscribe(&room).await.unwrap();
    let mut nothing = bus.subscribe(&quiet).await.unwrap();
    publish(&*second, &room, text(1)).await.unwrap();
    nats.kill().await.unwrap();
    let down = || async { Ok(bus.unavailable().is_some() && second.unavailable().is_some()) };
    wait::until(Duration::from_secs(1), "the loss of the connections", down).await.unwrap();
    let began = Instant::now();
    let lost = publish(&*second, &room, text(2)).await;
    assert!(matches!(lost, Err(BusError::Unavailable(..))), "{lost:?}");
    assert!(matches!(bus.subscribe(&room).await.err(), Some(BusError::Unavailable(..))));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());

    nats.start_again().await.unwrap();
    expect(&mut heard, &[text(1)]).await;
    // Told when the subscription is active again: what is published after it comes.
    assert_eq!(hear(&mut heard).await, Received::Gap);
    available(&second, Duration::from_secs(3)).await;
    let messages: Vec<_> = (3..100).map(text).collect();
    publish_all(&*second, &room, &messages).await;
    expect(&mut heard, &messages).await;
    assert_eq!(hear(&mut nothing).await, Received::Gap);
    silence(&mut heard).await;
    silence(&mut nothing).await;
}

#[tokio::test]
async fn a_paused_server_takes_nothing_and_that_is_said_in_time() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    let room = channel("room");
    let mut heard = bus.subscribe(&room).await.unwrap();
    nats.pause().unwrap();
    // The signal takes effect a moment later.
    wait::elapse(Duration::from_millis(100), "for the pause").await;
    let began = Instant::now();
    let taken = publish(&*bus, &room, text(1)).await;
    assert!(matches!(taken, Err(BusError::Unavailable(..))), "{taken:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    nats.resume().unwrap();
    // It may have been taken after all.
    publish(&*bus, &room, text(2)).await.unwrap();
    let mut last = hear(&mut heard).await;
    while last != Received::Message(text(2)) {
        assert!(matches!(last, Received::Gap) || last == Received::Message(text(1)), "{last:?}");
        last = hear(&mut heard).await;
    }
}

/// What is acknowledged was delivered to a subscriber that had no gap, however often the publisher's connection is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_was_delivered() {
    let nats = Nats::start().await.unwrap();
    let proxy = TcpProxy::to_port(nats.port()).await.unwrap();
    let publisher = connected(format!("nats://{}", proxy.address()), ROOMY).await;
    let reader = connected(nats.url(), ROOMY).await;
    let room = channel("room");
    let mut heard = reader.subscribe(&room).await.unwrap();
    let mut taken = Vec::new();
    let mut lost = 0;
    for number in 0..3_000 {
        if number % 500 == 250 {
            proxy.cut();
        }
        match publisher.publish(&room, text(number)).await {
            Ok(answer) => taken.push((number, answer)),
            Err(_) => {
                lost += 1;
                wait::elapse(Duration::from_millis(5), "between attempts").await;
            }
        }
        if number % 100 == 99 {
            for (number, answer) in taken.split_off(0) {
                if answer.await.is_ok() {
                    let mut next = hear(&mut heard).await;
                    while next != Received::Message(text(number)) {
                        // In order, with those between whose answer was lost.
                        assert!(matches!(next, Received::Message(_)), "{next:?} before {number}");
                        next = timeout(SOON, heard.next()).await.expect("an answered message is missing").unwrap();
                    }
                } else {
                    lost += 1;
                }
            }
        }
    }
    assert!(lost > 0, "no cut was noticed");
    assert!(lost < 2_500, "{lost} lost");
}

#[tokio::test]
async fn the_servers_limit_of_a_message_counts() {
    let options = NatsOptions { config: "max_payload: 65536".into(), ..NatsOptions::default() };
    let nats = Nats::start_with(options).await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    assert_eq!(bus.max_message_bytes(), 65536);
    let refused = publish(&*bus, &channel("room"), vec![b'x'; 65537].into()).await;
    assert!(matches!(refused, Err(BusError::TooLarge(65537))), "{refused:?}");
}

/// Answers are shared, so that a publisher of many is not held up by the way there and back.
#[tokio::test]
async fn many_answers_take_few_round_trips() {
    let nats = Nats::start().await.unwrap();
    let proxy = TcpProxy::to_port(nats.port()).await.unwrap();
    let bus = connected(format!("nats://{}", proxy.address()), ROOMY).await;
    proxy.set_delay(Duration::from_millis(50));
    let began = Instant::now();
    let messages: Vec<_> = (0..2_000).map(text).collect();
    publish_all(&*bus, &channel("room"), &messages).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// The server must not go on sending what nobody reads.
#[tokio::test]
async fn a_dropped_subscription_ends_on_the_server() {
    let nats = Nats::start().await.unwrap();
    let bus = connected(nats.url(), ROOMY).await;
    let heard = bus.subscribe(&channel("room")).await.unwrap();
    let server = async_nats::connect(nats.url()).await.unwrap();
    let asked = async |server: &async_nats::Client| {
        let inbox = server.new_inbox();
        let request = server.send_request("rt.acme.messages.public.room", async_nats::Request::new().inbox(inbox));
        timeout(Duration::from_millis(300), request).await
    };
    // Without a listener the server answers at once that there is none; with one that does not answer, nothing comes.
    assert!(asked(&server).await.is_err());
    drop(heard);
    let gone = || async { Ok(matches!(asked(&server).await, Ok(Err(_)))) };
    wait::until(SOON, "the end of the subscription", gone).await.unwrap();
}
