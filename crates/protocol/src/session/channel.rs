//! One channel of a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::action::{ChangeBinding, ChannelId, ChannelName, Replay, RequestId, Token};
use super::on_decision::Rights;
use super::output::Answered;
use crate::audience::Audience;
use crate::broadcast::Origin;
use crate::replay::StoredBroadcast;
use crate::wire::{Frame, Ref};

/// Frames that are kept until the join is answered, and their bytes; further ones are dropped. The stock client keeps 100
/// itself and sends none before the answer.
const MAX_EARLY_FRAMES: usize = 100;
const MAX_EARLY_BYTES: usize = 1024 * 1024;

/// A channel, joined or being joined.
#[derive(Debug)]
pub(super) struct Channel<I> {
    pub(super) id: ChannelId,
    pub(super) name: ChannelName,
    pub(super) audience: Audience,
    pub(super) join_ref: Option<Ref>,
    /// `None` once the join is answered.
    pub(super) joining: Option<Box<Joining>>,
    pub(super) token: Token,
    /// `None` until the first decision.
    pub(super) member: Option<Member<I>>,
    /// A newer token that is being verified.
    pub(super) refresh: Option<Refresh>,
    pub(super) ack: bool,
    pub(super) own: bool,
    pub(super) presence: Presence,
    pub(super) bindings: Arc<[ChangeBinding]>,
    /// When following the database's broadcasts must have been reported.
    pub(super) replication_due: Option<Instant>,
}

/// Who the channel's client is, as decided last.
#[derive(Debug)]
pub(super) struct Member<I> {
    pub(super) identity: I,
    pub(super) rights: Rights,
    pub(super) expires: Instant,
    pub(super) expires_unix: Duration,
    /// When the token was last found good, or asked about.
    pub(super) verified: Instant,
}

/// A newer token that is being verified.
#[derive(Debug)]
pub(super) struct Refresh {
    pub(super) request: RequestId,
    pub(super) token: Token,
}

/// What is known until the join is answered.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) stage: Stage,
    pub(super) reference: Option<Ref>,
    pub(super) echo: Vec<u8>,
    /// What is wrong with the bindings.
    pub(super) binding_error: Option<String>,
    pub(super) replay: Option<Result<Replay, super::join_payload::BadReplay>>,
    pub(super) replayed: Option<Vec<StoredBroadcast>>,
    pub(super) replication_ready: bool,
    pub(super) since: Option<String>,
    /// How long the client lets its join wait for row changes, until it begins to.
    pub(super) wait: Option<Duration>,
    /// How long it does.
    pub(super) waited: Duration,
    early: Vec<Frame>,
    early_bytes: usize,
}

/// What a join waits for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The decision.
    Decision(RequestId),
    /// The past.
    Replay,
    /// The row changes, until this time.
    Changes(Instant),
}

/// Presence in a channel.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) enabled: bool,
    /// Whether the shell was asked to add the member.
    pub(super) joined: bool,
    pub(super) key: Arc<str>,
    pub(super) tracked: Option<Box<Tracked>>,
    pub(super) window_start: Option<Instant>,
    pub(super) calls: u32,
}

/// The meta that stands for this channel now.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) phx_ref: Box<str>,
    pub(super) data: u64,
}

impl Joining {
    pub(super) fn new(request: RequestId, frame: &Frame, payload: &super::join_payload::JoinPayload) -> Self {
        Self {
            stage: Stage::Decision(request),
            reference: frame.reference.clone(),
            echo: payload.bindings.echo.clone(),
            binding_error: payload.bindings.parsed.as_ref().err().cloned(),
            replay: payload.replay,
            replayed: None,
            replication_ready: payload.replication_ready,
            since: payload.since.clone(),
            wait: payload.wait.filter(|_| !payload.bindings.is_empty()),
            waited: Duration::ZERO,
            early: Vec::new(),
            early_bytes: 0,
        }
    }

    /// Keeps a frame until the join is answered; whether there was room.
    pub(super) fn keep(&mut self, frame: Frame) -> bool {
        self.early_bytes += frame.payload.len();
        if self.early.len() >= MAX_EARLY_FRAMES || self.early_bytes > MAX_EARLY_BYTES {
            return false;
        }
        self.early.push(frame);
        true
    }

    pub(super) fn into_early(self) -> Vec<Frame> {
        self.early
    }
}

impl<I> Channel<I> {
    pub(super) fn rights(&self) -> Rights {
        self.member.as_ref().map_or(Rights::NONE, |member| member.rights)
    }

    /// When the token of a joined channel was last verified.
    pub(super) fn verified(&self) -> Option<Instant> {
        let member = self.member.as_ref().filter(|_| self.joining.is_none());
        member.map(|member| member.verified)
    }

    pub(super) fn origin(&self, session: u64) -> Origin {
        Origin { session, channel: self.id.0 }
    }

    /// What a reply to a frame on this channel carries: the join reference is that of the join.
    pub(super) fn answering<'a>(&'a self, reference: Option<&'a Ref>) -> Answered<'a> {
        Answered { join_ref: self.join_ref.as_ref(), reference, topic: &self.audience.topic }
    }
}
