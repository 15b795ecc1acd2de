//! A session with a scripted shell around it: keeps the time, the frames that were sent, and what was asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor_protocol::session::{
    Action, ChannelId, Counted, Grant, Now, RequestId, Rights, Session, SessionSettings, Ticket, Token,
};
use reactor_protocol::texts::{Close, JoinRefusal};
use reactor_protocol::wire::{Encoded, FrameRefusal, WireVersion};
use serde_json::Value;

/// When the scripts begin, since 1970.
pub(crate) const START: Duration = Duration::from_secs(1_800_000_000);

/// The connection's own token.
pub(crate) const APIKEY: &str = "apikey";

pub(crate) struct Client {
    pub(crate) session: Session<&'static str>,
    version: WireVersion,
    now: Now,
    sent: VecDeque<Encoded>,
    pub(crate) closed: Option<Close>,
    pub(crate) tickets: Vec<Ticket>,
    /// Tokens that the shell was asked to verify again.
    pub(crate) verifying: Vec<Token>,
    pub(crate) counted: Vec<Counted>,
    questions: Vec<(RequestId, ChannelId)>,
    waiting_changes: Vec<ChannelId>,
    waiting_replays: Vec<ChannelId>,
    /// What the shell keeps for each channel, by kind.
    members: BTreeMap<ChannelId, BTreeSet<&'static str>>,
    gone: BTreeSet<ChannelId>,
    log: Vec<String>,
}

#[expect(clippy::disallowed_methods, reason = "any instant serves as the beginning of a script")]
fn start() -> Now {
    Now { instant: Instant::now(), unix: START }
}

impl Client {
    pub(crate) fn new(version: WireVersion, settings: SessionSettings) -> Self {
        let now = start();
        Self {
            session: Session::new(version, 7, APIKEY, Arc::new(settings), now),
            version,
            now,
            sent: VecDeque::new(),
            closed: None,
            tickets: Vec::new(),
            verifying: Vec::new(),
            counted: Vec::new(),
            questions: Vec::new(),
            waiting_changes: Vec::new(),
            waiting_replays: Vec::new(),
            members: BTreeMap::new(),
            gone: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    pub(crate) fn v1() -> Self {
        Self::new(WireVersion::V1, SessionSettings::default())
    }

    pub(crate) fn v2() -> Self {
        Self::new(WireVersion::V2, SessionSettings::default())
    }

    pub(crate) fn send(&mut self, frame: &str) -> Result<(), FrameRefusal> {
        self.feed(true, &Bytes::copy_from_slice(frame.as_bytes()))
    }

    pub(crate) fn feed(&mut self, is_text: bool, bytes: &Bytes) -> Result<(), FrameRefusal> {
        let outcome = match is_text {
            true => self.session.handle_text(bytes, self.now),
            false => self.session.handle_binary(bytes, self.now),
        };
        self.drain();
        outcome
    }

    /// Lets seconds pass, stopping at every timer that is due on the way.
    pub(crate) fn advance(&mut self, secs: u64) {
        let end = self.now.instant + Duration::from_secs(secs);
        for _ in 0..1000 {
            let Some((at, _)) = self.session.poll_timeout().filter(|(at, _)| *at <= end) else { break };
            self.pass_until(at);
            self.session.handle_timeout(self.now);
            self.drain();
        }
        self.pass_until(end);
    }

    fn pass_until(&mut self, at: Instant) {
        let passed = at.saturating_duration_since(self.now.instant);
        self.now = Now { instant: self.now.instant + passed, unix: self.now.unix + passed };
    }

    /// Does something with the session, then obeys it.
    pub(crate) fn with<R>(&mut self, act: impl FnOnce(&mut Session<&'static str>, Now) -> R) -> R {
        let result = act(&mut self.session, self.now);
        self.drain();
        result
    }

    pub(crate) fn grant(&self, identity: &'static str, secs: u64, rights: Rights) -> Grant<&'static str> {
        Grant { identity, expires: self.now.unix + Duration::from_secs(secs), rights }
    }

    /// Answers the oldest question; whether the session waited for it.
    pub(crate) fn decide(&mut self, decision: Result<Grant<&'static str>, JoinRefusal>) -> bool {
        let (request, _) = self.questions.remove(0);
        self.with(|session, now| session.handle_decision(request, decision, now))
    }

    pub(crate) fn allow(&mut self) {
        let grant = self.grant("ann", 3600, Rights::ALL);
        self.decide(Ok(grant));
    }

    /// Answers whatever the shell was asked.
    pub(crate) fn answer_all(&mut self, rights: Rights) {
        while !self.questions.is_empty() {
            let grant = self.grant("ann", 3600, rights);
            self.decide(Ok(grant));
        }
        for channel in std::mem::take(&mut self.waiting_replays) {
            self.with(|session, now| session.handle_replay(channel, Ok(Vec::new()), now));
        }
        for channel in std::mem::take(&mut self.waiting_changes) {
            self.with(|session, now| session.handle_changes(channel, Ok(()), now));
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            self.obey(action);
        }
    }

    fn obey(&mut self, action: Action<&'static str>) {
        let (channel, note) = match action {
            Action::Send(frame) => return self.sent.push_back(frame),
            Action::Close(close) => return self.closed = Some(close),
            Action::Verify(token) => return self.verifying.push(token),
            Action::Count(counted) => return self.counted.push(counted),
            Action::Authorize(question) => {
                self.questions.push((question.request, question.channel));
                let token = question.token.as_ref().map_or("-", |token| token.expose());
                let kind = if question.refresh { "refresh" } else { "join" };
                let private = if question.name.private { "private" } else { "public" };
                (question.channel, format!("authorize {kind} {} {private} {token}", question.name.name))
            }
            Action::JoinBroadcast(join) => {
                assert!(self.members.entry(join.channel).or_default().insert("broadcast"), "joined twice");
                if join.replay.is_some() {
                    self.waiting_replays.push(join.channel);
                }
                (join.channel, format!("broadcast own={} replay={:?}", join.own, join.replay))
            }
            Action::OpenBroadcast { channel, replayed } => (channel, format!("open {replayed:?}")),
            Action::JoinPresence(join) => {
                self.members.entry(join.channel).or_default().insert("presence");
                (join.channel, format!("presence state={}", join.state))
            }
            Action::JoinChanges(join) => {
                self.members.entry(join.channel).or_default().insert("changes");
                self.waiting_changes.push(join.channel);
                let tables: Vec<String> =
                    join.bindings.iter().map(|b| format!("{}.{}?{}", b.schema, b.table, b.filter)).collect();
                let note = format!(
                    "changes {} {} since={:?} again={} {:?}",
                    join.identity,
                    tables.join(" "),
                    join.since,
                    join.again,
                    join.audience.style
                );
                (join.channel, note)
            }
            Action::StartChanges { channel } => (channel, "start".to_owned()),
            Action::AwaitReplication { channel } => (channel, "await replication".to_owned()),
            Action::Publish(publish) => {
                let has_ticket = publish.ticket.is_some();
                self.tickets.extend(publish.ticket);
                let private = publish.name.private;
                let note = format!(
                    "publish {} private={private} ack={has_ticket} persist={} {:?}",
                    publish.name.name, publish.persist, publish.broadcast
                );
                (publish.channel, note)
            }
            Action::Track { channel, key, meta, .. } => {
                let data = String::from_utf8_lossy(&meta.data).into_owned();
                (channel, format!("track {key} {data} update={}", meta.previous.is_some()))
            }
            Action::Untrack { channel, .. } => (channel, "untrack".to_owned()),
            Action::Leave { channel } => {
                self.members.remove(&channel);
                assert!(self.gone.insert(channel), "left twice");
                self.log.push(format!("#{} leave", channel.0));
                return;
            }
        };
        assert!(!self.gone.contains(&channel), "{note} after the channel was left");
        self.log.push(format!("#{} {note}", channel.0));
    }

    /// What the shell was asked since the last call.
    pub(crate) fn actions(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    pub(crate) fn take_sent(&mut self) -> Vec<Encoded> {
        std::mem::take(&mut self.sent).into()
    }

    /// The text frames since the last call.
    pub(crate) fn texts(&mut self) -> Vec<String> {
        self.take_sent().iter().map(|frame| String::from_utf8_lossy(frame.bytes()).into_owned()).collect()
    }

    /// The tokens that were to be verified again since the last call.
    pub(crate) fn verified(&mut self) -> Vec<String> {
        self.verifying.drain(..).map(|token| token.expose().to_owned()).collect()
    }

    pub(crate) fn values(&mut self) -> Vec<Value> {
        self.texts().iter().map(|text| serde_json::from_str(text).expect("JSON")).collect()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// A heartbeat is answered.
    pub(crate) fn assert_alive(&mut self) {
        self.take_sent();
        let heartbeat = match self.version {
            WireVersion::V1 => r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"h"}"#,
            WireVersion::V2 => r#"[null,"h","phoenix","heartbeat",{}]"#,
        };
        self.send(heartbeat).expect("a heartbeat is taken");
        assert!(!self.take_sent().is_empty(), "no answer");
    }

    pub(crate) fn close(&mut self) {
        self.with(|session, now| session.handle_closed(now));
        assert!(self.session.poll_timeout().is_none());
    }
}
