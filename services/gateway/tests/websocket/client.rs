//! A client: frames as the stock clients write them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use reactor_protocol::client::{self, ServerFrame};
use reactor_protocol::wire::{Encoded, WireVersion};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::world::{SOON, user};

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    version: WireVersion,
    next_ref: u32,
    seen: VecDeque<ServerFrame>,
}

pub(crate) async fn open(url: &str) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, Error> {
    tokio_tungstenite::connect_async(url).await.map(|(socket, _)| socket)
}

impl Client {
    /// Connects with a good token.
    pub(crate) async fn connect(gateway: SocketAddr, version: WireVersion) -> Result<Self> {
        Self::connect_with(gateway, version, &user()).await
    }

    pub(crate) async fn connect_with(gateway: SocketAddr, version: WireVersion, token: &str) -> Result<Self> {
        let vsn = if version == WireVersion::V1 { "1.0.0" } else { "2.0.0" };
        let socket = open(&format!("ws://{gateway}/realtime/v1/websocket?apikey={token}&vsn={vsn}")).await?;
        Ok(Self { socket, version, next_ref: 0, seen: VecDeque::new() })
    }

    pub(crate) async fn raw(&mut self, message: Message) -> Result<()> {
        Ok(self.socket.send(message).await?)
    }

    /// Sends a frame; its reference, which is the join's for `phx_join`.
    pub(crate) async fn push(&mut self, topic: &str, event: &str, payload: &Value) -> Result<String> {
        self.next_ref += 1;
        let reference = self.next_ref.to_string();
        let frame = client::encode(self.version, Some("j"), Some(&reference), topic, event, payload);
        self.send(frame).await?;
        Ok(reference)
    }

    pub(crate) async fn send(&mut self, frame: Encoded) -> Result<()> {
        self.raw(match frame {
            Encoded::Text(text) => Message::Text(String::from_utf8(text.into())?.into()),
            Encoded::Binary(bytes) => Message::Binary(bytes),
        })
        .await
    }

    /// Sends a broadcast as the stock client of this version does.
    pub(crate) async fn broadcast(&mut self, topic: &str, event: &str, payload: &Value) -> Result<String> {
        self.next_ref += 1;
        let reference = self.next_ref.to_string();
        let frame = client::encode_broadcast(self.version, "j", &reference, topic, event, payload);
        self.send(frame.context("names that fit")?).await?;
        Ok(reference)
    }

    /// Sends a frame and waits for its reply.
    pub(crate) async fn ask(&mut self, topic: &str, event: &str, payload: &Value) -> Result<Value> {
        let reference = self.push(topic, event, payload).await?;
        self.reply(&reference).await
    }

    pub(crate) async fn reply(&mut self, reference: &str) -> Result<Value> {
        let is_reply =
            |frame: &ServerFrame| frame.event == "phx_reply" && frame.reference.as_deref() == Some(reference);
        Ok(self.find("a reply", is_reply).await?.payload)
    }

    /// Joins a channel.
    pub(crate) async fn join(&mut self, topic: &str, config: Value) -> Result<Value> {
        let reply = self.ask(topic, "phx_join", &json!({"config": config})).await?;
        ensure!(reply["status"] == "ok", "{topic}: {reply}");
        Ok(reply["response"].clone())
    }

    /// The payload of the next event of a topic.
    pub(crate) async fn next(&mut self, topic: &str, event: &str) -> Result<Value> {
        let found = self.find(event, |frame| frame.topic == topic && frame.event == event).await?;
        Ok(found.payload)
    }

    /// The message of the next `system` event of a topic.
    pub(crate) async fn system(&mut self, topic: &str) -> Result<(String, String)> {
        let payload = self.next(topic, "system").await?;
        let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
        Ok((text("status"), text("message")))
    }

    /// Fails if an event of a topic has come before what this asks for comes.
    pub(crate) async fn has_nothing(&mut self, topic: &str, event: &str) -> Result<()> {
        self.ask("phoenix", "heartbeat", &json!({})).await?;
        let found = self.seen.iter().find(|frame| frame.topic == topic && frame.event == event);
        ensure!(found.is_none(), "came: {found:?}");
        Ok(())
    }

    async fn find(&mut self, what: &str, wanted: impl Fn(&ServerFrame) -> bool) -> Result<ServerFrame> {
        if let Some(place) = self.seen.iter().position(&wanted) {
            return self.seen.remove(place).context("it is there");
        }
        loop {
            let frame = self.read().await.with_context(|| format!("waiting for {what}; seen: {:?}", self.seen))?;
            if wanted(&frame) {
                return Ok(frame);
            }
            self.seen.push_back(frame);
        }
    }

    async fn read(&mut self) -> Result<ServerFrame> {
        loop {
            let message = tokio::time::timeout(SOON, self.socket.next()).await.context("nothing came")?;
            let frame = match message.context("the connection ended")?? {
                Message::Text(text) => Encoded::Text(Bytes::from(text.as_str().to_owned())),
                Message::Binary(bytes) => Encoded::Binary(bytes),
                Message::Close(close) => bail!("closed: {close:?}"),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            return Ok(client::decode(self.version, &frame)?);
        }
    }

    /// Reads to the end; the code that the server closed with.
    pub(crate) async fn closed(&mut self) -> Result<Option<u16>> {
        let mut code = None;
        loop {
            match tokio::time::timeout(SOON, self.socket.next()).await.context("it is not closed")? {
                Some(Ok(Message::Close(close))) => code = close.map(|close| close.code.into()),
                Some(Ok(Message::Text(text))) => {
                    self.seen.push_back(client::decode(
                        self.version,
                        &Encoded::Text(Bytes::from(text.as_str().to_owned())),
                    )?);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(code),
            }
        }
    }

    /// Whether a `system` message with this text was seen on the way to the end.
    pub(crate) fn was_told(&self, text: &str) -> bool {
        self.seen.iter().any(|frame| frame.event == "system" && frame.payload["message"] == text)
    }
}
