//! One attempt at replicating: prepares a session and runs it, on a thread of its own.
//!
//! A thread, because a session sleeps for fractions of a millisecond while it catches up, and because decoding must not
//! wait behind other tasks.

use std::sync::Arc;

use reactor_bus::ChangeLog;
use reactor_model::Epoch;
use reactor_pg::PgError;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, info_span};

use crate::error::SessionError;
use crate::messages::MessagesMemory;
use crate::prepare::prepare;
use crate::realtime_schema;
use crate::session::Session;
use crate::settings::ReplicatorSettings;
use crate::source::SourceError;
use crate::status::ReplicatorStatus;

/// What a session is given.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) settings: Arc<ReplicatorSettings>,
    pub(crate) log: Arc<dyn ChangeLog>,
    pub(crate) status: Arc<ReplicatorStatus>,
    /// Whether the lease proves that whoever else holds the slot is a predecessor.
    pub(crate) may_terminate: bool,
    /// Ends the session in order.
    pub(crate) stop: CancellationToken,
    /// Ends it at once: the lease is gone.
    pub(crate) abort: CancellationToken,
}

/// What outlives a session.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// A slot that cannot decode its next change.
    pub(crate) doomed_slot: Option<String>,
    /// Whether a slot that was in use had to be dropped.
    pub(crate) history_lost: bool,
    /// The epoch of the slot that is being made.
    pub(crate) next_epoch: Option<Epoch>,
    /// Where the messages' publication comes in.
    pub(crate) messages: MessagesMemory,
}

/// How a session ended, other than by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// As asked, in order.
    Stopped,
    /// As asked, at once.
    Aborted,
    /// The server is shutting down.
    ServerStopping,
    /// The next one has another publication to follow beside.
    PublicationJoins,
}

/// Runs a session on a thread of its own.
pub(crate) async fn on_own_thread(context: Context, mut memory: Memory) -> (Memory, Result<SessionEnd, SessionError>) {
    let (done, result) = tokio::sync::oneshot::channel();
    let span = Span::current();
    let thread = std::thread::Builder::new().name("replication".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = match runtime {
            Ok(runtime) => runtime.block_on(Box::pin(session(&context, &mut memory)).instrument(span)),
            Err(_) => Err(SessionError::Thread),
        };
        // Nobody waits any more only when the whole replicator was dropped.
        let _ = done.send((memory, ended));
    });
    match thread {
        Ok(_) => result.await.unwrap_or_else(|_| (Memory::default(), Err(SessionError::Thread))),
        Err(_) => (Memory::default(), Err(SessionError::Thread)),
    }
}

async fn session(context: &Context, memory: &mut Memory) -> Result<SessionEnd, SessionError> {
    let prepared = tokio::select! {
        biased;
        () = context.abort.cancelled() => return Ok(SessionEnd::Aborted),
        () = context.stop.cancelled() => return Ok(SessionEnd::Stopped),
        prepared = Box::pin(prepare(context, memory)) => prepared?,
    };
    context.status.set_streaming(prepared.start.epoch, &prepared.slot);
    let span = info_span!("session", epoch = %prepared.start.epoch, slot = prepared.slot);
    let slot = prepared.slot.clone();
    let ended = Box::pin(Session::new(context.clone(), prepared).run()).instrument(span).await;
    match ended {
        // First, because its name may contain the other's.
        Err(SessionError::Source(SourceError::Pg(error)))
            if context.settings.publication != realtime_schema::PUBLICATION
                && is_missing_publication(&error, realtime_schema::PUBLICATION) =>
        {
            memory.messages.handle_missing();
            Ok(SessionEnd::PublicationJoins)
        }
        Err(SessionError::Source(SourceError::Pg(error)))
            if is_missing_publication(&error, &context.settings.publication) =>
        {
            memory.doomed_slot = Some(slot.clone());
            Err(SessionError::PublicationMissingThen { slot })
        }
        other => other,
    }
}

/// The message is in the server's language, the name is in it in any.
fn is_missing_publication(error: &PgError, publication: &str) -> bool {
    error.sqlstate() == Some("42704") && error.to_string().contains(publication)
}
