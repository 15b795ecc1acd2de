//! Proof that the server has worked off what was sent: a message to ourselves, behind it on the same connection.
//!
//! One is on the way at a time, and answers all who asked before it was sent.

use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::connect::Link;
use super::error::unavailable;
use super::task::Task;
use crate::BusError;

/// Silence after which the message is sent again: it may have been lost with a connection.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Which connection to a server. Known to the client before anything is sent over it, other than the state that events
/// tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    server: String,
    number: u64,
}

impl Connection {
    pub(super) fn of(client: &Client) -> Self {
        let info = client.server_info();
        Self { server: info.server_id, number: info.client_id }
    }
}

#[derive(Debug)]
pub(super) struct RoundTrips {
    client: Client,
    /// Number of the newest question.
    asked: watch::Sender<u64>,
    /// Number of the newest question that is answered.
    answered: watch::Receiver<u64>,
    deadline: Duration,
    _task: Task,
}

impl RoundTrips {
    pub(super) fn start(client: Client, link: watch::Receiver<Link>, deadline: Duration) -> Self {
        let (asked, questions) = watch::channel(0);
        let (answers, answered) = watch::channel(0);
        let _task = Task::spawn(run(client.clone(), link, questions, answers));
        Self { client, asked, answered, deadline, _task }
    }

    /// Resolves when the server has worked off everything that was handed to the client before the call, if it was sent
    /// over the connection that there is now.
    pub(super) async fn complete(&self) -> Result<Connection, BusError> {
        let mut question = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            question = *asked;
        });
        let mut answered = self.answered.clone();
        let answer = timeout(self.deadline, answered.wait_for(|answered| *answered >= question)).await;
        match answer {
            Ok(Ok(_)) => Ok(Connection::of(&self.client)),
            Ok(Err(closed)) => Err(unavailable("the connection was closed", closed)),
            Err(late) => Err(unavailable("no answer from NATS", late)),
        }
    }
}

async fn run(
    client: Client,
    mut link: watch::Receiver<Link>,
    mut asked: watch::Receiver<u64>,
    done: watch::Sender<u64>,
) {
    let inbox = client.new_inbox();
    let Ok(mut echoes) = client.subscribe(inbox.clone()).await else { return };
    while asked.changed().await.is_ok() {
        let question = *asked.borrow_and_update();
        loop {
            // Without a connection they would pile up.
            if link.wait_for(|link| link.connected).await.is_err() {
                return;
            }
            let generation = link.borrow().generation;
            let sent = client.publish(inbox.clone(), question.to_be_bytes().to_vec().into()).await;
            if sent.is_err() {
                return;
            }
            let answered = tokio::select! {
                answered = timeout(AGAIN_AFTER, echo_of(question, &mut echoes)) => answered.unwrap_or(false),
                _ = link.wait_for(|link| !link.connected || link.generation != generation) => false,
            };
            if answered {
                break;
            }
        }
        done.send_replace(question);
    }
}

/// Passes over those of earlier questions, which were sent twice.
async fn echo_of(question: u64, echoes: &mut Subscriber) -> bool {
    while let Some(echo) = echoes.next().await {
        if echo.payload == question.to_be_bytes().as_slice() {
            return true;
        }
    }
    false
}
