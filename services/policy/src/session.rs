//! One connection to Postgres that is always being kept: opened again with backoff when it ends or stops answering.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reactor_pg::{Client, PgError, PgErrorKind, PgTarget, connect};
use reactor_policy_engine::AuthorizerError;
use reactor_runtime::Backoff;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

/// How often an idle connection is asked whether it still answers. A server that went away without a word is noticed
/// by the next question at the latest; this is for `/ready`.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked whether the connection was closed, which the server says by itself.
const CLOSED_INTERVAL: Duration = Duration::from_millis(500);

/// Delays between attempts grow from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What the answer to a question that is still running when its deadline comes may take longer: Postgres itself ends
/// it at the deadline, so that the connection stays of use.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

#[derive(Clone)]
enum State {
    Connecting,
    Up(Arc<Client>),
    Down(String),
}

struct Shared {
    name: &'static str,
    target: PgTarget,
    deadline: Duration,
    state: watch::Sender<State>,
    suspect: Notify,
}

/// A connection that is kept until this value is dropped.
pub(crate) struct Session {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl Session {
    /// Begins to connect. Must be called within a runtime.
    pub(crate) fn start(target: PgTarget, name: &'static str, deadline: Duration) -> Self {
        let (state, _) = watch::channel(State::Connecting);
        let shared = Arc::new(Shared { name, target, deadline, state, suspect: Notify::new() });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(supervise(Arc::clone(&shared))));
        Self { shared, _stop: stop.drop_guard() }
    }

    /// For those who only want to know whether there is a connection.
    pub(crate) fn health(&self) -> Health {
        Health(self.shared.state.subscribe())
    }

    /// Asks with the deadline. Whatever goes wrong is no answer; errors of single statements that mean something to the
    /// question are looked at by `question` itself.
    pub(crate) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, PgError>,
    ) -> Result<T, AuthorizerError> {
        self.ask_shared(async |client| question(&client).await).await
    }

    /// As [`Self::ask`], for a question that may go on when nobody waits for it any more.
    pub(crate) async fn ask_shared<T>(
        &self,
        question: impl AsyncFnOnce(Arc<Client>) -> Result<T, PgError>,
    ) -> Result<T, AuthorizerError> {
        let within = self.shared.deadline + ANSWER_GRACE;
        let result = tokio::time::timeout(within, async {
            let client = self.client().await?;
            question(client).await.map_err(no_answer)
        });
        let result = result.await.unwrap_or(Err(AuthorizerError::Timeout));
        if result.is_err() {
            self.shared.suspect.notify_one();
        }
        result
    }

    async fn client(&self) -> Result<Arc<Client>, AuthorizerError> {
        let mut state = self.shared.state.subscribe();
        // The first connection is waited for; once one attempt has failed, questions fail at once.
        let decided = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match decided.as_deref() {
            Ok(State::Up(client)) => Ok(Arc::clone(client)),
            Ok(State::Down(reason)) => Err(AuthorizerError::Unavailable(reason.clone())),
            Ok(State::Connecting) | Err(_) => Err(AuthorizerError::Unavailable("stopping".to_owned())),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("name", &self.shared.name).field("target", &self.shared.target).finish()
    }
}

/// Whether a [`Session`] has its connection.
#[derive(Clone)]
pub(crate) struct Health(watch::Receiver<State>);

impl Health {
    /// Why there is no connection, if there is none.
    pub(crate) fn unavailable(&self) -> Option<String> {
        match &*self.0.borrow() {
            State::Connecting => Some("connecting to Postgres".to_owned()),
            State::Up(_) => None,
            State::Down(reason) => Some(reason.clone()),
        }
    }
}

pub(crate) fn no_answer(error: impl Into<PgError>) -> AuthorizerError {
    let error = error.into();
    match error.kind() {
        PgErrorKind::Timeout => AuthorizerError::Timeout,
        _ => AuthorizerError::Unavailable(error.to_string()),
    }
}

async fn supervise(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        let down = match open(&shared).await {
            Ok(client) => {
                info!(database = %shared.target, session = shared.name, "connected to Postgres");
                backoff.reset();
                let client = Arc::new(client);
                shared.state.send_replace(State::Up(Arc::clone(&client)));
                until_lost(&shared, &client).await;
                "the connection to Postgres was lost".to_owned()
            }
            Err(error) => format!("{error}: {}", error.remedy()),
        };
        let news = !matches!(&*shared.state.borrow(), State::Down(reason) if *reason == down);
        if news {
            warn!(database = %shared.target, session = shared.name, reason = %down, "no connection to Postgres");
        }
        shared.state.send_replace(State::Down(down));
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn open(shared: &Shared) -> Result<Client, PgError> {
    let client = connect(&shared.target, shared.name).await?;
    client.batch_execute(&format!("set statement_timeout = {}", shared.deadline.as_millis())).await?;
    Ok(client)
}

/// Returns when the connection is closed or does not answer.
async fn until_lost(shared: &Shared, client: &Client) {
    let mut probe = tokio::time::interval(PROBE_INTERVAL);
    probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shared.suspect.notified() => {}
            _ = probe.tick() => {}
            () = tokio::time::sleep(CLOSED_INTERVAL) => {
                if client.is_closed() {
                    return;
                }
                continue;
            }
        }
        // A question that is still running is ended by Postgres at the deadline, so the probe waits for that much more.
        let answered = tokio::time::timeout(shared.deadline * 2, client.simple_query("")).await;
        if client.is_closed() || !matches!(answered, Ok(Ok(_))) {
            return;
        }
    }
}
