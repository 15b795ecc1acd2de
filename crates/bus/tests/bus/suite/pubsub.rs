//! Messages to channels.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use reactor_bus::{Backlog, BusError, Channel, PubSub, Received, Scope};
use tokio::time::timeout;

use super::{SOON, tenant};

/// What waits for each reader in a case.
pub(crate) const BACKLOG: Backlog = Backlog { messages: 6_000, bytes: 1 << 20 };

/// The same bus as two processes see it.
pub(crate) struct Talk {
    pub(crate) bus: Arc<dyn PubSub>,
    pub(crate) second: Arc<dyn PubSub>,
}

pub(crate) type Heard = BoxStream<'static, Received>;

pub(crate) fn channel(topic: &str) -> Channel {
    Channel::new(tenant(), Scope::Public, topic)
}

pub(crate) fn text(number: usize) -> Bytes {
    format!("message {number}").into()
}

pub(crate) async fn hear(heard: &mut Heard) -> Received {
    timeout(SOON, heard.next()).await.expect("nothing came in time").expect("the subscription ended")
}

/// Exactly these messages come next.
pub(crate) async fn expect(heard: &mut Heard, messages: &[Bytes]) {
    for message in messages {
        assert_eq!(hear(heard).await, Received::Message(message.clone()));
    }
}

pub(crate) async fn silence(heard: &mut Heard) {
    let quiet = timeout(std::time::Duration::from_millis(200), heard.next()).await;
    assert!(quiet.is_err(), "unexpected: {quiet:?}");
}

/// Publishes, and waits until it is taken.
pub(crate) async fn publish(bus: &dyn PubSub, channel: &Channel, payload: Bytes) -> Result<(), BusError> {
    bus.publish(channel, payload).await?.await
}

/// Publishes one after the other, and waits until all are taken.
pub(crate) async fn publish_all(bus: &dyn PubSub, channel: &Channel, messages: &[Bytes]) {
    let mut taken = Vec::new();
    for message in messages {
        taken.push(bus.publish(channel, message.clone()).await.unwrap());
    }
    try_join_all(taken).await.unwrap();
}

pub(crate) async fn a_message_reaches_every_subscription(talk: &Talk) {
    let room = channel("room");
    let mut subscriptions = vec![
        talk.bus.subscribe(&room).await.unwrap(),
        talk.bus.subscribe(&room).await.unwrap(),
        talk.second.subscribe(&room).await.unwrap(),
    ];
    for (bus, message) in [(&talk.bus, "one"), (&talk.second, "two")] {
        publish(&**bus, &room, message.into()).await.unwrap();
        for heard in &mut subscriptions {
            expect(heard, &[message.into()]).await;
        }
    }
    subscriptions.pop();
    publish(&*talk.bus, &room, Bytes::new()).await.unwrap();
    for heard in &mut subscriptions {
        expect(heard, &[Bytes::new()]).await;
        silence(heard).await;
    }
}

pub(crate) async fn messages_of_a_publisher_come_in_order(talk: &Talk) {
    let room = channel("room");
    let mut heard = talk.bus.subscribe(&room).await.unwrap();
    let messages: Vec<Bytes> = (0..5_000).map(text).collect();
    publish_all(&*talk.second, &room, &messages).await;
    expect(&mut heard, &messages).await;
}

/// Messages for which nobody waits are taken too, and in the same order.
pub(crate) async fn nobody_need_wait(talk: &Talk) {
    let room = channel("room");
    let mut heard = talk.second.subscribe(&room).await.unwrap();
    let messages: Vec<Bytes> = (0..100).map(text).collect();
    for message in &messages {
        drop(talk.bus.publish(&room, message.clone()).await.unwrap());
    }
    expect(&mut heard, &messages).await;
}

pub(crate) async fn a_subscription_is_active_when_told(talk: &Talk) {
    for number in 0..50 {
        let room = channel(&format!("room {number}"));
        let mut heard = talk.bus.subscribe(&room).await.unwrap();
        publish(&*talk.second, &room, text(number)).await.unwrap();
        expect(&mut heard, &[text(number)]).await;
    }
}

pub(crate) async fn channels_are_apart(talk: &Talk) {
    let other = "other".parse().unwrap();
    let channels = [
        channel("room"),
        Channel::new(tenant(), Scope::Private, "room"),
        Channel::new(other, Scope::Public, "room"),
        channel("Room"),
        channel("room.1"),
    ];
    let mut subscriptions = Vec::new();
    for channel in &channels {
        subscriptions.push(talk.bus.subscribe(channel).await.unwrap());
    }
    for (number, channel) in channels.iter().enumerate() {
        publish(&*talk.second, channel, text(number)).await.unwrap();
    }
    for (number, heard) in subscriptions.iter_mut().enumerate() {
        expect(heard, &[text(number)]).await;
        silence(heard).await;
    }
}

pub(crate) async fn any_topic_is_taken(talk: &Talk) {
    let long = ["x".repeat(500), "ä".repeat(5_000), format!("{}y", "x".repeat(499))];
    let odd = ["", "_", "*", ">", "a.>", " ", "a b", "\r\n", "\0", "room:1", "=41", "/ab", "%", "名前"];
    let mut subscriptions = Vec::new();
    let topics: Vec<&str> = odd.into_iter().chain(long.iter().map(String::as_str)).collect();
    for topic in &topics {
        subscriptions.push(talk.bus.subscribe(&channel(topic)).await.unwrap());
    }
    for (number, topic) in topics.iter().enumerate() {
        publish(&*talk.second, &channel(topic), text(number)).await.unwrap();
    }
    for (number, heard) in subscriptions.iter_mut().enumerate() {
        expect(heard, &[text(number)]).await;
        silence(heard).await;
    }
}

pub(crate) async fn too_large_messages_are_refused(talk: &Talk) {
    let room = channel("room");
    let mut heard = talk.bus.subscribe(&room).await.unwrap();
    let most = talk.bus.max_message_bytes();
    let refused = publish(&*talk.second, &room, vec![b'x'; most + 1].into()).await;
    assert!(matches!(refused, Err(BusError::TooLarge(size)) if size == most + 1), "{refused:?}");
    let largest = Bytes::from(vec![b'x'; most]);
    publish(&*talk.second, &room, largest.clone()).await.unwrap();
    expect(&mut heard, &[largest]).await;
}

pub(crate) async fn a_reader_that_is_behind_is_told_how_much(talk: &Talk) {
    let (room, other) = (channel("room"), channel("other"));
    let mut behind = talk.bus.subscribe(&room).await.unwrap();
    let mut beside = talk.bus.subscribe(&other).await.unwrap();
    let messages: Vec<Bytes> = (0..BACKLOG.messages + 500).map(text).collect();
    publish_all(&*talk.second, &room, &messages).await;
    // What was published before that has reached this process by then.
    publish(&*talk.second, &other, "beside".into()).await.unwrap();
    expect(&mut beside, &["beside".into()]).await;
    // It may still be on its way inside the process.
    let mut count = 0;
    let mut lost = 0;
    while count + lost < messages.len() {
        match hear(&mut behind).await {
            Received::Message(message) => {
                assert_eq!(message, messages[count + lost]);
                count += 1;
            }
            Received::Lagged(number) => lost += usize::try_from(number).unwrap(),
            Received::Gap => panic!("nothing was lost on the way"),
        }
    }
    assert!(lost > 0 && lost <= 500, "{lost} lost");
    publish(&*talk.second, &room, "again".into()).await.unwrap();
    expect(&mut behind, &["again".into()]).await;
}
