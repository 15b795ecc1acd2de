//! A tenant's presences as this process knows them: one reader, however many watch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::future::pending;
use reactor_model::TenantId;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::super::error::unavailable;
use super::super::subject::{entries_of_tenant, lease_key, owner_key};
use super::super::task::Task;
use super::feed::Feed;
use super::ledger::Ledger;
use super::store::Store;
use crate::board::Board;
use crate::{BusError, lock};

/// How long a mirror is kept at least that nobody watches.
const LINGER: Duration = Duration::from_secs(30);

/// The mirrors of the tenants that are watched, or were a moment ago.
#[derive(Default)]
pub(in super::super) struct Mirrors {
    tenants: Mutex<HashMap<TenantId, Arc<Mirror>>>,
}

impl Mirrors {
    /// The tenant's mirror, begun when there is none.
    pub(super) fn of(self: &Arc<Self>, tenant: &TenantId, store: impl FnOnce() -> Store) -> Arc<Mirror> {
        let begin = || Arc::new(Mirror::start(tenant.clone(), store(), Arc::downgrade(self)));
        Arc::clone(lock(&self.tenants).entry(tenant.clone()).or_insert_with(begin))
    }

    /// Whether it was, because nobody else holds it.
    fn let_go(&self, tenant: &TenantId) -> bool {
        let mut tenants = lock(&self.tenants);
        let idle = tenants.get(tenant).is_none_or(|mirror| Arc::strong_count(mirror) == 1);
        if idle {
            tenants.remove(tenant);
        }
        idle
    }
}

/// Held by each of its watchers.
pub(super) struct Mirror {
    board: Arc<Board>,
    ready: watch::Receiver<bool>,
    _task: Task,
}

impl Mirror {
    fn start(tenant: TenantId, store: Store, mirrors: Weak<Mirrors>) -> Self {
        let board = Arc::new(Board::default());
        let (ready, readiness) = watch::channel(false);
        let subjects = vec![owner_key("*"), lease_key("*"), entries_of_tenant(&tenant)];
        let feed = Feed::new(store, subjects);
        let _task = Task::spawn(run(feed, Arc::clone(&board), ready, tenant, mirrors));
        Self { board, ready: readiness, _task }
    }

    pub(super) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Resolves when the state was read once.
    pub(super) async fn ready(&self, within: Duration) -> Result<(), BusError> {
        let mut ready = self.ready.clone();
        match timeout(within, ready.wait_for(|ready| *ready)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(closed)) => Err(unavailable("the connection was closed", closed)),
            Err(late) => Err(unavailable("the presences cannot be read yet", late)),
        }
    }
}

async fn run(mut feed: Feed, board: Arc<Board>, ready: watch::Sender<bool>, tenant: TenantId, mirrors: Weak<Mirrors>) {
    let mut ledger = Ledger::new(Arc::clone(&board), Instant::now());
    let mut looks = interval(LINGER);
    // The first one is now.
    looks.tick().await;
    loop {
        let deadline = ledger.deadline();
        let time = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            item = feed.next() => {
                let Some(item) = item else { break };
                let complete = matches!(item, super::feed::Item::Complete);
                ledger.handle(item, Instant::now());
                if complete {
                    ready.send_replace(true);
                }
            }
            () = time => ledger.expire(Instant::now()),
            _ = looks.tick() => {
                if mirrors.upgrade().is_none_or(|mirrors| mirrors.let_go(&tenant)) {
                    return;
                }
            }
        }
    }
    board.close();
}
