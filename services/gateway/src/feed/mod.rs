//! One tenant's log, followed once however many subscribers it has.
//!
//! The feed reads every batch, keeps the newest in a byte-bounded ring, and gives each to two lanes: the fast lane
//! decides by itself and never waits; the slow lane holds the connections with rows that only Postgres can judge.
//! Subscribing is: read history up to a lane's head, then join the lane at exactly that head, under its lock.

mod ask;
mod follow;
mod history;
mod ring;
mod sets;
mod slow;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use reactor_bus::ChangeLog;
use reactor_model::{Batch, EventId, Lsn, Position, TenantId};
use reactor_policy_engine::{Authorizer, PolicyVersion};
use reactor_runtime::Backoff;
use tokio::sync::watch;

use crate::hub::{Delivered, Hub, MatchSettings, Member, NotLoaded, Withheld};
use crate::metrics::Metrics;
use crate::replay::SharedFrames;
pub use ask::ask;
pub use history::{History, HistoryCursor, HistoryError};
pub use ring::Ring;
pub use sets::{HeldSets, LoadError};

/// Batches that a catching-up connection takes from the ring at a time, in bytes: enough to amortise the lock, little
/// enough to be encoded between two checks of the connection.
const CHUNK_BYTES: usize = 512 * 1024;

/// First and longest pause before the policies' version is watched again.
const WATCH_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What a feed is made of.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// The tenant.
    pub tenant: TenantId,
    /// Bytes of batches that the ring keeps.
    pub ring_bytes: usize,
    /// Matching.
    pub matching: Arc<MatchSettings>,
}

/// Where a feed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedStatus {
    /// Position of the newest batch; `None` until the log has been found.
    pub head: Option<EventId>,
    /// Before this, the replicator is reading the past again.
    pub live_from: Lsn,
    /// Whether the log is being followed right now.
    pub following: bool,
}

impl FeedStatus {
    /// Whether commits from now on are delivered as they happen: the log is known and past the replicator's start.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.head.is_some_and(|head| head.position.lsn >= self.live_from)
    }
}

/// Which lane serves a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Everything is decided in the gateway.
    Fast,
    /// Some rows are judged by Postgres.
    Slow,
}

/// What a connection must do next to become live.
#[derive(Debug)]
pub enum Step {
    /// It is live: it gets everything after its cursor.
    Attached,
    /// It must deliver these first. When there are none, the lane is within the next one, and it must wait for the end of that.
    Chunk(Vec<Arc<Batch>>),
    /// Its cursor is older than the ring: it must read the log.
    History,
    /// Its cursor is ahead of this gateway, or nothing is known yet: it must wait for the head to move.
    Wait,
    /// Its epoch is not the present one.
    EpochChanged,
    /// A set that its policies need is not loaded any more.
    NotLoaded,
}

/// Is shown every change once, in order.
#[derive(Default)]
struct Observer(OnceLock<Observe>);

/// What is done with a batch that was read, of which the changes after a position are new.
pub type Observe = Box<dyn Fn(&Batch, Position) + Send + Sync>;

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// One tenant's feed.
#[derive(Debug)]
pub struct Feed {
    settings: FeedSettings,
    log: Arc<dyn ChangeLog>,
    authorizer: Arc<dyn Authorizer>,
    live: Mutex<Live>,
    slow: Mutex<Hub>,
    history: History,
    shared_frames: SharedFrames,
    status: watch::Sender<FeedStatus>,
    loads: sets::Loads,
    /// Whether something was withheld in the slow lane for want of an answer, and its subscribers were not told yet.
    owes_resync: AtomicBool,
    policy_version: watch::Sender<Option<PolicyVersion>>,
    observer: Observer,
    metrics: Arc<Metrics>,
}

/// The ring and the fast lane, under one lock: a connection joins exactly between two batches.
#[derive(Debug)]
struct Live {
    ring: Ring,
    hub: Hub,
}

impl Feed {
    /// A feed that has not begun to follow; see [`Feed::run`].
    #[must_use]
    pub fn new(
        settings: FeedSettings,
        log: Arc<dyn ChangeLog>,
        authorizer: Arc<dyn Authorizer>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let hub = |answers| Hub::new(Arc::clone(&settings.matching), answers);
        Arc::new(Self {
            live: Mutex::new(Live { ring: Ring::new(settings.ring_bytes), hub: hub(false) }),
            slow: Mutex::new(hub(true)),
            history: History::new(Arc::clone(&log), settings.tenant.clone()),
            shared_frames: SharedFrames::default(),
            status: watch::Sender::new(FeedStatus::default()),
            loads: sets::Loads::default(),
            owes_resync: AtomicBool::new(false),
            policy_version: watch::Sender::new(None),
            observer: Observer::default(),
            settings,
            log,
            authorizer,
            metrics,
        })
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slow(&self) -> MutexGuard<'_, Hub> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every batch shown as it comes, from before the first. Only the first who asks for this gets it.
    pub fn observe(&self, observer: Observe) {
        let _ = self.observer.0.set(observer);
    }

    /// Follows the log and serves both lanes until the token is cancelled.
    pub async fn run(self: Arc<Self>, stop: tokio_util::sync::CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.follow_forever() => {}
            () = self.serve_slow_lane() => {}
            () = self.watch_policy() => {}
        }
    }

    /// Follows the version of the policies for ever. While it is not known, the last one known stands.
    async fn watch_policy(&self) {
        let mut backoff = Backoff::new(WATCH_RETRY.0, WATCH_RETRY.1);
        loop {
            let mut versions = self.authorizer.watch(self.settings.tenant.clone());
            while let Some(version) = versions.next().await {
                backoff.reset();
                self.policy_version.send_if_modified(|known| known.replace(version) != Some(version));
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// The version of the policies that was seen last, and whenever there is another.
    #[must_use]
    pub fn policy_version(&self) -> watch::Receiver<Option<PolicyVersion>> {
        self.policy_version.subscribe()
    }

    fn in_lane<T>(&self, lane: Lane, work: impl FnOnce(&mut Hub) -> T) -> T {
        match lane {
            Lane::Fast => work(&mut self.live().hub),
            Lane::Slow => work(&mut self.slow()),
        }
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.settings.tenant
    }

    /// Settings of matching.
    #[must_use]
    pub fn matching(&self) -> &Arc<MatchSettings> {
        &self.settings.matching
    }

    /// Who answers comparisons and decisions.
    #[must_use]
    pub fn authorizer(&self) -> &Arc<dyn Authorizer> {
        &self.authorizer
    }

    /// The older batches.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Frames that replaying connections share.
    #[must_use]
    pub fn shared_frames(&self) -> &SharedFrames {
        &self.shared_frames
    }

    /// Where the feed is, and whenever that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<FeedStatus> {
        self.status.subscribe()
    }

    /// Why new subscriptions cannot be taken; `None` when they can.
    #[must_use]
    pub fn unavailable(&self) -> Option<String> {
        let status = *self.status.borrow();
        if status.head.is_none() {
            return Some("no change log yet: is the replicator running?".to_owned());
        }
        if !status.following {
            return Some("the change log is not being followed".to_owned());
        }
        None
    }

    /// Up to where a lane has served its members.
    #[must_use]
    pub fn head(&self, lane: Lane) -> Option<EventId> {
        self.in_lane(lane, |hub| hub.head())
    }

    /// One step of becoming live after `cursor`. [`Step::Attached`] has called `greet` and added the member to its lane
    /// between two batches.
    pub fn attach(&self, member: &Member, lane: Lane, cursor: EventId, greet: impl FnOnce()) -> Step {
        let joined = self.in_lane(lane, |hub| {
            let head = hub.head().ok_or(Step::Wait)?;
            if head != cursor {
                return Ok(head);
            }
            // What greets must come before what is delivered, and only if something will be.
            hub.attach_after(member.clone(), greet).map_err(|NotLoaded| Step::NotLoaded)?;
            Err(Step::Attached)
        });
        let head = match joined {
            Ok(head) => head,
            Err(step) => return step,
        };
        if head.epoch != cursor.epoch {
            return Step::EpochChanged;
        }
        if head.position < cursor.position {
            return Step::Wait;
        }
        let chunk = self.live().ring.between(cursor.position, head.position, CHUNK_BYTES);
        chunk.map_or(Step::History, Step::Chunk)
    }

    /// Adds a member at the lane's present head, whatever it is, after `greet` was told that head; false when there is no head
    /// yet. `greet` runs under the lane's lock and must not call the feed.
    ///
    /// # Errors
    /// [`NotLoaded`] when a set that its policies need is not loaded.
    pub fn attach_now(&self, member: &Member, lane: Lane, greet: impl FnOnce(EventId)) -> Result<bool, NotLoaded> {
        self.in_lane(lane, |hub| {
            let Some(head) = hub.head() else { return Ok(false) };
            hub.attach_after(member.clone(), || greet(head))?;
            Ok(true)
        })
    }

    /// Removes a member from its lane; up to where it was served, when it was there.
    pub fn leave(&self, member: &Member, lane: Lane) -> Option<EventId> {
        self.in_lane(lane, |hub| hub.leave(member.conn))
    }

    /// Puts a member with other subscriptions in the place of itself, between two batches. A member that was closed
    /// meanwhile stays away.
    ///
    /// # Errors
    /// Up to where it was served, when a set that its policies need is not loaded.
    pub fn replace(&self, member: &Member, lane: Lane) -> Result<(), EventId> {
        self.in_lane(lane, |hub| {
            let Some(head) = hub.leave(member.conn) else { return Ok(()) };
            hub.attach(member.clone()).map_err(|NotLoaded| head)
        })
    }

    /// Sends a heartbeat with the position that the member has been served up to.
    pub fn heartbeat(&self, member: &Member, lane: Lane, data: &str) {
        self.in_lane(lane, |hub| hub.heartbeat(member.conn, data));
    }

    /// The oldest event that the ring can serve a resume from.
    #[must_use]
    pub fn oldest(&self) -> Option<EventId> {
        let live = self.live();
        Some(EventId { epoch: live.hub.head()?.epoch, position: live.ring.oldest()? })
    }

    fn count(&self, delivered: &Delivered) {
        self.metrics.delivered.inc_by(delivered.frames);
        self.metrics.changes_matched.inc_by(delivered.matched);
        for code in &delivered.closed {
            self.metrics.closed.with_label_values(&[code.as_str()]).inc();
        }
        let Withheld { raised, missing, unanswered } = delivered.withheld;
        for (reason, count) in [("raised", raised), ("value_missing", missing), ("policy_unavailable", unanswered)] {
            if count > 0 {
                self.metrics.withheld.with_label_values(&[reason]).inc_by(count);
            }
        }
    }

    fn set_status(&self, change: impl FnOnce(&mut FeedStatus)) {
        self.status.send_modify(change);
    }
}

/// The place after which a batch brings something new, or the gap before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It follows on what is known (perhaps overlapping it).
    Next,
    /// Everything in it is known already.
    Known,
    /// Something between is missing.
    Gap,
    /// Another history.
    OtherEpoch,
}

fn fit(head: EventId, batch: &Batch) -> Fit {
    if batch.epoch != head.epoch {
        return Fit::OtherEpoch;
    }
    if batch.previous > head.position {
        return Fit::Gap;
    }
    // A mark may repeat the position that it follows.
    if batch.last < head.position || (batch.last == head.position && batch.relation.is_some()) {
        return Fit::Known;
    }
    Fit::Next
}
