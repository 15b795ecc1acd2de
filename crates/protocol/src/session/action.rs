//! What a session asks of its shell.

use std::fmt;
use std::sync::Arc;

use reactor_model::ChangeKind;
use reactor_model::filter::Filter;

use crate::audience::Audience;
use crate::broadcast::{Broadcast, Origin};
use crate::presence::Meta;
use crate::texts::Close;
use crate::wire::{Encoded, FrameRefusal, Ref};

/// A channel of one session. Never used again after its [`Action::Leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// A question to the shell. An answer to one that nobody waits for any longer is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// A token as a client sent it. Prints nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub(super) Arc<str>);

/// Bytes of the longest token that is taken: it is kept as long as its channel.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

impl Token {
    /// One that is too long is as good as an empty one, which nobody finds valid.
    pub(super) fn new(text: &str) -> Self {
        Self(if text.len() > MAX_TOKEN_BYTES { "".into() } else { text.into() })
    }

    /// The token's text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Something that the shell does now, in the order in which it is given. `I` is the shell's verified identity.
#[derive(Debug)]
pub enum Action<I> {
    /// Queue a frame for the socket.
    Send(Encoded),
    /// Write what is queued, close the socket, and call `handle_closed`.
    Close(Close),
    /// Verify a token and find what it may do in a channel; answer with `handle_decision`.
    Authorize(Authorize),
    /// Verify a token again that joined channels have; answer with `handle_token_refused` when it is no longer good, and not at
    /// all when it is, or when nobody can say.
    Verify(Token),
    /// Deliver the channel's broadcasts to this member from now on.
    JoinBroadcast(JoinBroadcast),
    /// The past was sent: open the member's gate with these ids ([`crate::replay::ReplayGate::open`]).
    OpenBroadcast {
        /// The member.
        channel: ChannelId,
        /// Ids of the rows that were sent.
        replayed: Vec<String>,
    },
    /// Add this member to the channel's presences: its state if asked for, then every difference. Comes again for a member
    /// that had differences only and now wants the state as well.
    JoinPresence(JoinPresence),
    /// Authorize row changes and note the present position; answer with `handle_changes`. Nothing is delivered before
    /// [`Action::StartChanges`], and then nothing that committed after that position is missing.
    JoinChanges(JoinChanges<I>),
    /// Deliver row changes from the position that was noted (or after the one asked for) on. Comes again after a new token.
    StartChanges {
        /// The member.
        channel: ChannelId,
    },
    /// Say with `handle_replication_ready` when broadcasts of the database are being followed.
    AwaitReplication {
        /// The member.
        channel: ChannelId,
    },
    /// Hand a broadcast to the bus; with a ticket, answer with `handle_published` when the bus has it.
    Publish(Publish<I>),
    /// Put a presence into the channel, in the place of what this origin had there.
    Track {
        /// The member.
        channel: ChannelId,
        /// The presence's place ([`crate::presence::Slot`]).
        origin: Origin,
        /// The presence's key.
        key: Arc<str>,
        /// What is tracked.
        meta: Meta,
    },
    /// Take the origin's presence out of the channel.
    Untrack {
        /// The member.
        channel: ChannelId,
        /// The presence's place.
        origin: Origin,
    },
    /// Count what became of a channel or a frame.
    Count(Counted),
    /// Forget the channel: its memberships, and the work for it that is under way.
    Leave {
        /// The member.
        channel: ChannelId,
    },
}

/// What became of a channel or a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A channel's join was answered: `ok`, or why not ([`crate::texts::JoinRefusal::name`]).
    Join(&'static str),
    /// It was joined, and is ended ([`crate::texts::Shutdown::name`]).
    Shutdown(&'static str),
    /// A frame that had waited for a join's answer is dropped.
    Dropped(FrameRefusal),
}

/// The channel that a topic names within the tenant. Public and private channels of one name are two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName {
    /// The topic without `realtime:`.
    pub name: Arc<str>,
    /// Whether policies decide who may read and write.
    pub private: bool,
}

/// The question of a join or of a new token.
#[derive(Debug)]
pub struct Authorize {
    /// Names the answer.
    pub request: RequestId,
    /// The member.
    pub channel: ChannelId,
    /// The channel.
    pub name: ChannelName,
    /// The token; `None` for the connection's own, verified when it was opened.
    pub token: Option<Token>,
    /// Whether this is a new token of a joined channel rather than a join: it is no join for limits.
    pub refresh: bool,
}

/// A membership in a channel's broadcasts.
#[derive(Debug)]
pub struct JoinBroadcast {
    /// The member.
    pub channel: ChannelId,
    /// What its frames depend on.
    pub audience: Audience,
    /// Whether it gets its own messages.
    pub own: bool,
    /// Read the past and answer with `handle_replay`; live messages wait in a [`crate::replay::ReplayGate`] meanwhile.
    pub replay: Option<Replay>,
}

/// Which broadcasts of the past are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Inserted at or after this time, ms since 1970.
    pub since_ms: i64,
    /// The newest this many, 1 to 25.
    pub limit: u32,
}

/// A membership in a channel's presences.
#[derive(Debug)]
pub struct JoinPresence {
    /// The member.
    pub channel: ChannelId,
    /// What its frames depend on.
    pub audience: Audience,
    /// The join reference that the state is sent with.
    pub join_ref: Option<Ref>,
    /// Whether it gets the state, and not differences alone.
    pub state: bool,
}

/// A membership in row changes.
#[derive(Debug)]
pub struct JoinChanges<I> {
    /// The member.
    pub channel: ChannelId,
    /// Who asks.
    pub identity: I,
    /// What its frames depend on.
    pub audience: Audience,
    /// What is asked for.
    pub bindings: Arc<[ChangeBinding]>,
    /// The event id after which to resume, as the client sent it.
    pub since: Option<String>,
    /// Whether these are the bindings that it has, under a new identity: what was delivered is not delivered again.
    pub again: bool,
}

/// One entry of `postgres_changes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChangeBinding {
    /// The id by which the client knows it; the same for equal entries.
    pub id: u32,
    /// The only event; `None` for all.
    pub event: Option<ChangeKind>,
    /// The schema, or `*`.
    pub schema: String,
    /// The table, or `*`.
    pub table: String,
    /// The filter as parsed, not yet bound to column types.
    pub filter: Filter,
    /// The columns; empty for all that may be read.
    pub select: Vec<String>,
    /// Whether an UPDATE that takes a row out of the filter is told.
    pub leave: bool,
}

/// A broadcast of a client.
#[derive(Debug)]
pub struct Publish<I> {
    /// The member.
    pub channel: ChannelId,
    /// Who sends.
    pub identity: I,
    /// The channel.
    pub name: ChannelName,
    /// Where it comes from.
    pub origin: Origin,
    /// What is sent.
    pub broadcast: Broadcast,
    /// Store it as well.
    pub persist: bool,
    /// What to answer with; `None` when the client wants no acknowledgement.
    pub ticket: Option<Ticket>,
}

/// The reply that a client waits for.
#[derive(Debug)]
pub struct Ticket {
    pub(super) channel: ChannelId,
    pub(super) reference: Option<Ref>,
}
