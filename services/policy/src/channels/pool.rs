//! A few connections on which private channels are asked about, one question at a time on each.

use std::sync::Arc;
use std::time::Duration;

use reactor_pg::{Client, PgError, PgErrorKind};
use reactor_policy_engine::AuthorizerError;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::session::{Health, Session};

/// Questions that may wait for their turn: what some connections answer before those that wait give up. More are refused
/// at once, so that those who ask can come again later instead of all being late.
const MAX_WAITING: usize = 4_096;

/// Asks in turn, the first who came first.
pub(super) struct Pool {
    members: Vec<Member>,
    /// As many as there are members.
    turns: Arc<Semaphore>,
    places: Semaphore,
    /// How long a question may wait for its turn.
    patience: Duration,
}

struct Member {
    session: Session,
    busy: Arc<Mutex<()>>,
}

/// Held until the connection is free again. The connection is given back before the turn.
struct Turn {
    _busy: OwnedMutexGuard<()>,
    _turn: OwnedSemaphorePermit,
}

/// Why there was no exchange.
#[derive(Debug)]
pub(super) enum NoExchange {
    /// Too many wait already.
    Full,
    /// Postgres did not answer.
    NoAnswer(AuthorizerError),
}

impl From<NoExchange> for AuthorizerError {
    fn from(reason: NoExchange) -> Self {
        match reason {
            NoExchange::Full => Self::Unavailable("too many questions about private channels are waiting".to_owned()),
            NoExchange::NoAnswer(error) => error,
        }
    }
}

impl Pool {
    pub(super) fn new(sessions: impl IntoIterator<Item = Session>, patience: Duration) -> Self {
        let member = |session| Member { session, busy: Arc::default() };
        let members: Vec<Member> = sessions.into_iter().map(member).collect();
        let turns = Arc::new(Semaphore::new(members.len()));
        let places = Semaphore::new(members.len() + MAX_WAITING);
        Self { members, turns, places, patience }
    }

    pub(super) fn health(&self) -> Vec<Health> {
        self.members.iter().map(|member| member.session.health()).collect()
    }

    /// Makes an exchange when it has its turn. It comes to its end even when nobody waits for it any more.
    pub(super) async fn exchange<T, F>(&self, exchange: impl FnOnce(Arc<Client>) -> F) -> Result<T, NoExchange>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PgError>> + Send + 'static,
    {
        let _place = self.places.try_acquire().map_err(|_| NoExchange::Full)?;
        let turn = tokio::time::timeout(self.patience, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = match turn {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) => return Err(unavailable("stopping")),
            Err(_) => return Err(NoExchange::NoAnswer(AuthorizerError::Timeout)),
        };
        let Some((member, busy)) = self.free() else {
            return Err(unavailable("no connection is free"));
        };
        let turn = Turn { _busy: busy, _turn: turn };
        let answer = member.session.ask_shared(async move |client| {
            let exchange = exchange(client);
            let running = tokio::spawn(async move {
                let _turn = turn;
                exchange.await
            });
            let early = |_| Err(PgError::new(PgErrorKind::Other, "an exchange about a channel ended early"));
            running.await.unwrap_or_else(early)
        });
        answer.await.map_err(NoExchange::NoAnswer)
    }

    /// A member that is free, if possible one with a connection.
    fn free(&self) -> Option<(&Member, OwnedMutexGuard<()>)> {
        let up = self.members.iter().filter(|member| member.session.health().unavailable().is_none());
        up.chain(&self.members).find_map(|member| Some((member, Arc::clone(&member.busy).try_lock_owned().ok()?)))
    }
}

fn unavailable(reason: &str) -> NoExchange {
    NoExchange::NoAnswer(AuthorizerError::Unavailable(reason.to_owned()))
}
