//! One WebSocket connection: a loop that does what its session asks for, and tells it what happened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::Rng;
use reactor_bus::BusError;
use reactor_protocol::broadcast::Envelope;
use reactor_protocol::session::{
    Action, ChannelId, Counted, Grant, JoinChanges, Now, Publish, PublishRefused, Rights, Session,
};
use reactor_protocol::texts::{Close, Shutdown};
use reactor_protocol::wire::{Encoded, FrameRefusal, WireVersion};
use reactor_runtime::clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::deflate::Compression;
use super::frame::{self, Inbound};
use super::inbox::{Port, Told};
use super::member::{Asker, Member};
use super::persist::{message_to_store, persist};
use super::socket::{Happened, Socket};
use crate::auth::Identity;
use crate::connection::version_spread;
use crate::transport::App;

/// How long what is queued may take to be written after the connection was closed: a slow reader is to see why. One that takes
/// nothing at all is given up sooner.
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
/// How long the peer may take to answer a close frame.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How long the bus may take to take a broadcast.
pub(super) const PUBLISH_DEADLINE: Duration = Duration::from_secs(3);
/// Broadcasts of one connection that are to be stored or acknowledged, and are not yet. With more of them the client is not read.
const PUBLISHING: usize = 32;

/// What a request for a connection said.
#[derive(Debug)]
pub struct Opened {
    /// The framing.
    pub version: WireVersion,
    /// The connection's own token.
    pub token: String,
    /// Who that is.
    pub identity: Arc<Identity>,
    /// The organisation that was named.
    pub org: Option<String>,
    /// Headers that begin with `x-`, as a JSON object.
    pub headers: Arc<str>,
    /// What was agreed on for frames.
    pub compression: Compression,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    app: Arc<App>,
    port: Arc<Port>,
    session: Session<Arc<Identity>>,
    /// Unique in the cluster.
    id: u64,
    identity: Arc<Identity>,
    org: Option<String>,
    headers: Arc<str>,
    members: Vec<Member>,
    /// The last frames, once the connection is closed by the server: they are sent however full the queue is.
    last: Option<BytesMut>,
    /// When the connection is closed because the server leaves.
    leave_at: Option<Instant>,
    /// When the rights in private channels are asked for again.
    recheck_at: Option<Instant>,
    /// Has room for broadcasts that are to be stored or acknowledged.
    publishing: Arc<Semaphore>,
}

fn now() -> Now {
    let unix = Duration::from_micros(u64::try_from(clock::unix_micros()).unwrap_or(0));
    Now { instant: clock::now(), unix }
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(app: Arc<App>, opened: Opened) -> Self {
        let id = rand::rng().random();
        let session = Session::new(opened.version, id, &opened.token, Arc::clone(&app.session), now());
        let port = Port::new(app.settings.queue_bytes, opened.compression);
        let Opened { identity, org, headers, .. } = opened;
        let (members, last, leave_at, recheck_at) = (Vec::new(), None, None, None);
        let publishing = Arc::new(Semaphore::new(PUBLISHING));
        Self { app, port, session, id, identity, org, headers, members, last, leave_at, recheck_at, publishing }
    }

    /// Drives the connection to its end.
    pub async fn run<T: AsyncRead + AsyncWrite + Unpin>(mut self, mut socket: Socket<T>) {
        let is_open = self.serve(&mut socket).await;
        self.session.handle_closed(now());
        self.obey().await;
        debug_assert!(self.members.is_empty(), "every channel is left");
        if is_open {
            self.end(&mut socket).await;
        }
    }

    /// Works until the connection is closed; whether there still is somebody at the other end. Sources, in priority: the server
    /// leaves; what the connection is told by others; timers of the session, of leaving and of rechecks; policies have changed; the
    /// socket, which is written to and read from.
    async fn serve<T: AsyncRead + AsyncWrite + Unpin>(&mut self, socket: &mut Socket<T>) -> bool {
        let drain = self.app.drain.clone();
        let mut version = self.app.feed.policy_version();
        // What came with the request, before the first read.
        if self.read(socket).await {
            return true;
        }
        loop {
            let due = self.due();
            let has_private = self.members.iter().any(Member::is_private);
            tokio::select! {
                biased;
                () = drain.cancelled(), if self.leave_at.is_none() => self.begin_leaving(),
                told = self.port.next() => self.told(told),
                () = tokio::time::sleep_until(due.into()) => self.on_time(),
                Ok(()) = version.changed(), if has_private => {
                    self.recheck_at.get_or_insert_with(|| clock::now() + version_spread());
                }
                happened = socket.next(&self.port.outbox) => match happened {
                    Happened::Read => if self.read(socket).await {
                        return true;
                    },
                    Happened::Finished => return true,
                    Happened::Gone => return false,
                },
            }
            if self.obey().await {
                return true;
            }
        }
    }

    /// Takes what has been read; whether the connection is closed.
    async fn read<T: AsyncRead + AsyncWrite + Unpin>(&mut self, socket: &mut Socket<T>) -> bool {
        loop {
            let taken = match socket.decoder.read() {
                Ok(None) => return false,
                Ok(Some(Inbound::Text(text))) => self.session.handle_text(&text, now()),
                Ok(Some(Inbound::Binary(bytes))) => self.session.handle_binary(&bytes, now()),
                Ok(Some(Inbound::Ping(payload))) => {
                    self.session.handle_activity(now());
                    self.port.send(frame::pong(&payload));
                    Ok(())
                }
                Ok(Some(Inbound::Pong)) => {
                    self.session.handle_activity(now());
                    Ok(())
                }
                Ok(Some(Inbound::Close(code))) => {
                    self.port.outbox.finish(Some(frame::close_frame(code, "")));
                    return true;
                }
                Err(broken) => {
                    tracing::debug!(%broken, "a client broke the protocol");
                    self.count_close(broken.code());
                    self.port.outbox.finish(Some(frame::close_frame(Some(broken.code()), &broken.to_string())));
                    return true;
                }
            };
            if let Err(refusal) = taken {
                self.dropped(refusal);
            }
            if self.obey().await {
                return true;
            }
        }
    }

    fn dropped(&self, refusal: FrameRefusal) {
        self.app.metrics.ws.frames_dropped.with_label_values(&[refusal.name()]).inc();
        tracing::debug!(error_code = refusal.code(), %refusal, "a frame was dropped");
    }

    fn count(&self, counted: Counted) {
        match counted {
            Counted::Join(outcome) => self.app.metrics.ws.joins.with_label_values(&[outcome]).inc(),
            Counted::Shutdown(reason) => {
                self.app.metrics.ws.channels_ended.with_label_values(&[reason]).inc();
                tracing::debug!(error_code = "ChannelShutdown", reason, "a channel was ended");
            }
            Counted::Dropped(refusal) => self.dropped(refusal),
        }
    }

    fn count_close(&self, code: u16) {
        self.app.metrics.ws.closed.with_label_values(&[&code.to_string()]).inc();
    }

    /// When there is something to do.
    fn due(&self) -> Instant {
        let session = self.session.poll_timeout().map(|(at, _)| at);
        let next = [session, self.leave_at, self.recheck_at].into_iter().flatten().min();
        next.unwrap_or_else(|| clock::now() + Duration::from_secs(3600))
    }

    fn on_time(&mut self) {
        let at = clock::now();
        if self.leave_at.is_some_and(|due| due <= at) {
            self.last = Some(BytesMut::new());
            self.session.handle_disconnect();
        }
        if self.recheck_at.is_some_and(|due| due <= at) {
            self.recheck_at = None;
            for member in self.members.iter().filter(|member| member.is_private()) {
                self.asker().recheck(member);
            }
        }
        self.session.handle_timeout(now());
    }

    /// The server leaves: this connection is closed at its turn.
    fn begin_leaving(&mut self) {
        self.session.begin_drain();
        let turn = self.app.settings.drain_window.mul_f64(rand::rng().random_range(0.0..1.0));
        self.leave_at = Some(clock::now() + turn);
    }

    fn asker(&self) -> Asker<'_> {
        Asker { app: &self.app, port: &self.port, headers: &self.headers }
    }

    fn member(&mut self, channel: ChannelId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == channel)
    }

    /// Tells the session.
    fn told(&mut self, told: Told) {
        match told {
            Told::Decided(request, channel, decision) => {
                let (decision, admitted) = match decision {
                    Ok((grant, hold)) => {
                        let identity = Arc::clone(&grant.identity);
                        (Ok(grant), Some((identity, hold)))
                    }
                    Err(refusal) => (Err(refusal), None),
                };
                // An answer about an older token changes nothing.
                let is_awaited = self.session.handle_decision(request, decision, now());
                if let (true, Some((identity, hold)), Some(member)) = (is_awaited, admitted, self.member(channel)) {
                    member.admit(identity, hold);
                }
            }
            Told::TokenRefused(token, why) => self.session.handle_token_refused(&token, &why, now()),
            Told::Changes(channel, outcome) => self.session.handle_changes(channel, outcome, now()),
            Told::Resync(channel, why, done) => {
                self.session.handle_resync(channel, why);
                // What follows is queued behind: the frames of this are queued before the loop waits again.
                self.flush_sends();
                let _ = done.send(());
            }
            Told::Replayed(channel, rows) => self.session.handle_replay(channel, rows, now()),
            Told::Published(ticket, outcome) => {
                let outcome = outcome.as_ref().map(Option::as_deref).map_err(|refused| *refused);
                self.session.handle_published(&ticket, outcome);
            }
            Told::Following(channel) => self.session.handle_replication_ready(channel),
            Told::Rights(channel, Some(rights)) => self.session.handle_rights(channel, rights, now()),
            Told::Rights(channel, None) => self.session.handle_shutdown(channel, &Shutdown::Unreachable, now()),
            Told::Slow => {
                self.last = Some(BytesMut::new());
                self.session.handle_slow_consumer();
            }
        }
    }

    /// Queues the frames that are the session's next actions.
    fn flush_sends(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(message) => self.send(&message),
                // A resync only sends.
                other => tracing::error!(?other, "an action was lost"),
            }
        }
    }

    fn send(&mut self, message: &Encoded) {
        match &mut self.last {
            Some(last) => frame::write(last, message, self.port.compression),
            None => {
                self.port.send_message(message);
            }
        }
    }

    fn close(&mut self, close: Close) {
        let (code, reason) = close.code_and_reason();
        self.count_close(code);
        let mut last = self.last.take().unwrap_or_default();
        last.extend_from_slice(&frame::close_frame(Some(code), reason));
        self.port.outbox.finish(Some(last.freeze()));
    }

    /// Does what the session asks for; whether the connection is closed.
    async fn obey(&mut self) -> bool {
        let mut is_closed = false;
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(message) => self.send(&message),
                Action::Close(close) => {
                    self.close(close);
                    is_closed = true;
                }
                Action::Publish(publish) => self.publish(publish).await,
                other => self.obey_at_once(other),
            }
        }
        is_closed
    }

    fn obey_at_once(&mut self, action: Action<Arc<Identity>>) {
        match action {
            Action::Authorize(ask) => {
                if !ask.refresh {
                    let gauge = self.app.metrics.ws.channels.clone();
                    self.members.reserve_exact(1);
                    self.members.push(Member::new(ask.channel, self.id, ask.name.clone(), gauge));
                }
                let identity = ask.token.is_none().then(|| Arc::clone(&self.identity));
                if let Some((identity, hold)) = self.asker().at_once(&ask, identity) {
                    let expires = Duration::from_secs(identity.expires_at);
                    let grant = Grant { identity, expires, rights: Rights::ALL };
                    self.told(Told::Decided(ask.request, ask.channel, Ok((grant, hold))));
                }
            }
            Action::Verify(token) => self.asker().verify(token),
            Action::Count(counted) => self.count(counted),
            Action::JoinBroadcast(join) => {
                let (app, port) = (Arc::clone(&self.app), Arc::clone(&self.port));
                if let Some(member) = self.member(join.channel) {
                    member.listen(&app, &port, join);
                }
            }
            Action::OpenBroadcast { channel, replayed } => {
                if let Some(member) = self.member(channel) {
                    member.open(replayed);
                }
            }
            Action::JoinPresence(join) => {
                let port = Arc::clone(&self.port);
                if let Some(member) = self.member(join.channel) {
                    member.attend(&port, join);
                }
            }
            Action::JoinChanges(join) => self.join_changes(join),
            Action::StartChanges { channel } => {
                if let Some(member) = self.member(channel) {
                    member.start_changes();
                }
            }
            Action::AwaitReplication { channel } => self.asker().await_feed(channel),
            Action::Track { channel, origin, key, meta } => {
                if let Some(member) = self.member(channel) {
                    member.track(origin, &key, &meta);
                }
            }
            Action::Untrack { channel, origin } => {
                if let Some(member) = self.member(channel) {
                    member.untrack(origin);
                }
            }
            Action::Leave { channel } => {
                self.members.retain(|member| member.id != channel);
                if self.members.is_empty() {
                    self.members = Vec::new();
                }
            }
            Action::Send(_) | Action::Close(_) | Action::Publish(_) => {}
        }
    }

    fn join_changes(&mut self, join: JoinChanges<Arc<Identity>>) {
        let (app, port, org) = (Arc::clone(&self.app), Arc::clone(&self.port), self.org.clone());
        if let Some(member) = self.member(join.channel) {
            member.join_changes(&app, &port, org, join);
        }
    }

    /// Hands a broadcast to the bus, in the order in which the client sent them, and has it stored.
    async fn publish(&mut self, publish: Publish<Arc<Identity>>) {
        self.app.metrics.ws.published.with_label_values(&["socket"]).inc();
        let mut broadcast = publish.broadcast;
        let stored = if publish.persist { message_to_store(&mut broadcast) } else { None };
        let envelope = Envelope { origin: Some(publish.origin), broadcast };
        let channel = self.app.topics.channel(&publish.name);
        let handed = self.app.topics.bus().publish(&channel, envelope.encode());
        let taken = match tokio::time::timeout(PUBLISH_DEADLINE, handed).await {
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(BusError::TooLarge(_))) => Err(PublishRefused::TooLarge),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a broadcast was not taken");
                Err(PublishRefused::Bus)
            }
            Err(_) => Err(PublishRefused::Bus),
        };
        let failed = self.app.metrics.ws.publish_failed.clone();
        let count = move |refused: &PublishRefused| failed.with_label_values(&[refused.name()]).inc();
        if publish.ticket.is_none() && stored.is_none() {
            let _ = taken.inspect_err(count);
            return;
        }
        let room = Arc::clone(&self.publishing).acquire_owned().await;
        let (app, port, headers) = (Arc::clone(&self.app), Arc::clone(&self.port), Arc::clone(&self.headers));
        tokio::spawn(async move {
            let _room = room;
            let taken = match taken {
                Ok(taken) => match tokio::time::timeout(PUBLISH_DEADLINE, taken).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) | Err(_) => Err(PublishRefused::Bus),
                },
                Err(refused) => Err(refused),
            };
            let outcome = match (taken, stored) {
                (Err(refused), _) => Err(refused),
                (Ok(()), None) => Ok(None),
                (Ok(()), Some(message)) => {
                    let id = message.id.clone();
                    let principal = &publish.identity.principal;
                    match persist(&app, principal, &publish.name, &headers, message).await {
                        Ok(true) => Ok(Some(id)),
                        Ok(false) => Err(PublishRefused::StoringNotAllowed),
                        Err(_) => Err(PublishRefused::NotStored),
                    }
                }
            };
            let outcome = outcome.inspect_err(count);
            if let Some(ticket) = publish.ticket {
                port.tell(Told::Published(ticket, outcome));
            }
        });
    }

    /// Writes what is queued, and waits a moment for the peer to close.
    async fn end<T: AsyncRead + AsyncWrite + Unpin>(&self, socket: &mut Socket<T>) {
        let flush = async {
            loop {
                match socket.next(&self.port.outbox).await {
                    Happened::Read => socket.decoder = frame::Decoder::default(),
                    Happened::Finished | Happened::Gone => return,
                }
            }
        };
        if tokio::time::timeout(FLUSH_DEADLINE, flush).await.is_ok() {
            let _ = tokio::time::timeout(CLOSE_DEADLINE, async {
                socket.shut().await;
                socket.linger().await;
            })
            .await;
        }
        self.port.outbox.reader_gone();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.port.outbox.reader_gone();
    }
}
