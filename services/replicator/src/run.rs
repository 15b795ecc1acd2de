//! The replicator of one tenant: holds the lease and keeps a session running.

use std::sync::Arc;
use std::time::Duration;

use reactor_bus::{BusError, ChangeLog, Lease, Leases};
use reactor_runtime::Backoff;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::attempt::{Context, Memory, SessionEnd, on_own_thread};
use crate::error::SessionError;
use crate::realtime_schema;
use crate::settings::ReplicatorSettings;
use crate::status::ReplicatorStatus;

/// A dead replicator is replaced after this long.
const LEASE_TTL: Duration = Duration::from_secs(8);
/// Three renewals may fail before the lease lapses.
const RENEW_EVERY: Duration = Duration::from_millis(2500);
/// The lease counts as lost this long before it lapses, so that the session is over when another one begins.
const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// Between attempts to take a lease that another one holds.
const ACQUIRE_EVERY: Duration = Duration::from_secs(1);
/// Between attempts at a session: short, since a restart of Postgres is over in a second.
const RETRY_BASE: Duration = Duration::from_millis(200);
const RETRY_CAP: Duration = Duration::from_secs(5);
/// A session that lasted this long was a good one: what ended it is a new failure.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// The same reason is a warning again after this long.
const REPEAT_WARNING: Duration = Duration::from_secs(60);

/// Replicates until `shutdown` is cancelled, then stops in order: no more WAL is read, what is on its way is stored,
/// Postgres is told, the lease is given back. The slot stays.
pub async fn run(
    settings: ReplicatorSettings,
    log: Arc<dyn ChangeLog>,
    leases: Arc<dyn Leases>,
    shutdown: CancellationToken,
    status: Arc<ReplicatorStatus>,
) {
    let span = info_span!("replicator", tenant = %settings.tenant);
    let replicator = Replicator {
        key: format!("replicator.{}", settings.tenant),
        holder: format!("{}-{:08x}", std::process::id(), rand::random::<u32>()),
        settings: Arc::new(settings),
        log,
        leases,
        shutdown,
        status,
        warned: None,
    };
    Box::pin(replicator.run()).instrument(span).await;
}

struct Replicator {
    settings: Arc<ReplicatorSettings>,
    log: Arc<dyn ChangeLog>,
    leases: Arc<dyn Leases>,
    shutdown: CancellationToken,
    status: Arc<ReplicatorStatus>,
    key: String,
    holder: String,
    /// The reason that was warned of last, and when.
    warned: Option<(String, Instant)>,
}

impl Replicator {
    async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP);
        while let Some(lease) = self.acquire().await {
            info!("lease taken");
            self.status.metrics().leading.set(1);
            let stopped = self.lead(lease, &mut backoff).await;
            self.status.metrics().leading.set(0);
            if stopped {
                break;
            }
        }
        self.status.set_unready("stopped");
        info!("replicator stopped");
    }

    /// Waits for the lease; `None` when the process stops before.
    async fn acquire(&mut self) -> Option<Lease> {
        loop {
            let attempt = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                attempt = self.leases.try_acquire(&self.key, &self.holder, LEASE_TTL) => attempt,
            };
            match attempt {
                Ok(Some(lease)) => return Some(lease),
                Ok(None) => self.status.set_standing_by(),
                Err(error) => self.report(&SessionError::Bus(error)),
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                () = tokio::time::sleep(jittered(ACQUIRE_EVERY)) => {}
            }
        }
    }

    /// Runs sessions while the lease lasts. Whether the process stops.
    async fn lead(&mut self, mut lease: Lease, backoff: &mut Backoff) -> bool {
        let abort = CancellationToken::new();
        // Whoever drops the replicator ends its session too, which is on a thread of its own.
        let _ends_with_us = abort.clone().drop_guard();
        let leases = Arc::clone(&self.leases);
        let lost = {
            let settings = Arc::clone(&self.settings);
            let sessions = self.sessions(abort.clone(), backoff);
            let renewals = keep(&*leases, &mut lease);
            let janitor = realtime_schema::keep_partitions(&settings);
            tokio::pin!(sessions, renewals, janitor);
            tokio::select! {
                biased;
                () = &mut sessions => false,
                never = &mut janitor => match never {},
                () = &mut renewals => {
                    warn!("the lease was lost, the session ends at once");
                    abort.cancel();
                    sessions.await;
                    true
                }
            }
        };
        if !lost && let Err(error) = self.leases.release(lease).await {
            debug!(%error, "the lease could not be given back and will lapse");
        }
        self.shutdown.is_cancelled()
    }

    /// One session after another, until the process stops, the lease is lost or another writer shows up.
    async fn sessions(&mut self, abort: CancellationToken, backoff: &mut Backoff) {
        let mut memory = Memory::default();
        loop {
            let context = Context {
                settings: Arc::clone(&self.settings),
                log: Arc::clone(&self.log),
                status: Arc::clone(&self.status),
                may_terminate: self.leases.spans_processes(),
                stop: self.shutdown.clone(),
                abort: abort.clone(),
            };
            let begun = Instant::now();
            let (kept, ended) = on_own_thread(context, memory).await;
            memory = kept;
            if begun.elapsed() >= GOOD_SESSION {
                backoff.reset();
            }
            let fenced = match &ended {
                Ok(SessionEnd::Stopped | SessionEnd::Aborted) => return,
                Ok(SessionEnd::PublicationJoins) => continue,
                Ok(SessionEnd::ServerStopping) => {
                    self.status.set_unready("postgres is shutting down");
                    false
                }
                Err(error) => {
                    self.report(error);
                    error.is_fenced()
                }
            };
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = abort.cancelled() => return,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
            if fenced {
                return;
            }
        }
    }

    /// Says why changes do not flow: in `/ready`, and in the log, repeatedly but not each time.
    fn report(&mut self, error: &SessionError) {
        let reason = error.reason();
        self.status.metrics().session_errors.inc();
        self.status.set_unready(reason.clone());
        let known = self.warned.as_ref().is_some_and(|(last, at)| *last == reason && at.elapsed() < REPEAT_WARNING);
        if known {
            debug!(reason, "no replication, trying again");
        } else {
            warn!(reason, "no replication, trying again");
            self.warned = Some((reason, Instant::now()));
        }
    }
}

/// Renews the lease until it is lost, or cannot be shown not to be.
async fn keep(leases: &dyn Leases, lease: &mut Lease) {
    let mut renewed_at = Instant::now();
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let begun = Instant::now();
        let left = (renewed_at + LEASE_TTL - LEASE_MARGIN).saturating_duration_since(begun);
        match tokio::time::timeout(left, leases.renew(lease)).await {
            Ok(Ok(())) => renewed_at = begun,
            Ok(Err(BusError::LeaseLost)) | Err(_) => return,
            Ok(Err(error)) => debug!(%error, "the lease could not be renewed, trying again"),
        }
    }
}

fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.5..1.5))
}
