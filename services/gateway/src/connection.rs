//! One SSE connection: becomes live, stays allowed, and ends with a reason.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use rand::Rng;
use reactor_model::{Code, EventId};
use reactor_policy_engine::{Decision, PolicyVersion};
use reactor_protocol::sse;
use reactor_runtime::clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth::Identity;
use crate::catch_up::{CatchUp, CaughtUp};
use crate::error::ApiError;
use crate::feed::{Feed, HeldSets, Lane, LoadError};
use crate::hub::{Cause, Left, Member, NamedSubscriptions, NotLoaded, Resync, SharedSet, Wire};
use crate::metrics::Metrics;
use crate::replay::Replay;
use crate::subscription::{Subscription, good_for, keys, lane};
use crate::timestamp;

/// How long a connection may wait to become live: a replicator that restarts is back within this.
const LIVE_DEADLINE: Duration = Duration::from_secs(30);
/// Decisions are asked again after this share of the time that they are good for, so that a policy service that is away for
/// a while costs nobody a connection.
const RECHECK_SHARE: u32 = 6;
/// Pause after a recheck or a load that got no answer.
pub(crate) const RECHECK_PAUSE: Duration = Duration::from_secs(1);
/// Over how long connections ask again when policies have changed.
const VERSION_SPREAD: Duration = Duration::from_secs(1);
/// How long decisions that do not fit are asked for again before the connection is closed: policy sees every change within this.
const UNDECIDED_PATIENCE: Duration = Duration::from_secs(8);
/// Pause between those.
const UNDECIDED_PAUSE: Duration = Duration::from_millis(200);
/// Subscriptions of one connection that are decided on at once.
pub(crate) const CONCURRENT_DECISIONS: usize = 16;

/// When one of many asks again after policies have changed.
pub(crate) fn version_spread() -> Duration {
    VERSION_SPREAD.mul_f64(rand::rng().random_range(0.0..1.0))
}

/// About so long: what many do at once when something fails, they do not all do again at once.
pub(crate) fn about(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.5))
}

/// After how many milliseconds a client should reconnect: soon, and not all at once.
fn retry_ms() -> u64 {
    rand::rng().random_range(500..3000)
}

/// Where a connection wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next commit.
    Now,
    /// After this event.
    After(EventId),
    /// After an event whose id this server never gave out.
    Unknown,
}

/// What a connection has to do with the rest of the gateway. It leaves its lane when this is dropped, which must not be under a
/// lane's lock.
#[derive(Debug)]
pub struct Link {
    /// Its place in the fan-out.
    pub member: Member,
    /// Which lane serves it.
    pub lane: Lane,
    /// The sets of its policies, in that lane.
    pub sets: HeldSets,
    /// The tenant's feed.
    pub feed: Arc<Feed>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.feed.leave(&self.member, self.lane);
    }
}

impl Link {
    /// Takes other subscriptions, a lane and the sets that they need there. The member is in no lane meanwhile.
    fn renew(&mut self, subscriptions: NamedSubscriptions, lane: Lane) {
        if !self.sets.serve(&subscriptions, lane) {
            // The old ones are let go only then, so that those that both have stay.
            self.sets = self.feed.hold_sets(&subscriptions, lane);
        }
        self.member.subscriptions = subscriptions;
        self.lane = lane;
    }

    /// Prepares for delivering older batches to the present subscriptions.
    #[must_use]
    pub fn replay(&self) -> Replay {
        let (matching, frames) = (Arc::clone(self.feed.matching()), self.feed.shared_frames().clone());
        Replay::new(self.member.clone(), &self.sets, matching, frames)
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Connection {
    /// Its place in the gateway.
    pub link: Link,
    /// What it asked for.
    pub subscriptions: Vec<Subscription>,
    /// Who it is.
    pub identity: Identity,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Cancelled when the server leaves.
    pub drain: CancellationToken,
    /// Over how long connections are closed then.
    pub drain_window: Duration,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// What became known since it was accepted.
    pub state: Standing,
}

/// What a connection has learnt about its decisions.
#[derive(Debug)]
pub struct Standing {
    /// Until when they are good.
    good_until: Instant,
    /// Since when they do not fit their tables, if so.
    undecided_since: Option<Instant>,
    /// Whether it must have the slow lane, whatever they say.
    asks: bool,
}

impl Standing {
    /// That of decisions that were just made.
    #[must_use]
    pub fn new(subscriptions: &[Subscription]) -> Self {
        Self { good_until: clock::now() + good_for(subscriptions), undecided_since: None, asks: false }
    }

    /// Other decisions were made.
    fn renew(&mut self, subscriptions: &[Subscription]) {
        self.good_until = clock::now() + good_for(subscriptions);
    }

    /// Whether the decisions are still good.
    pub(crate) fn is_good(&self) -> bool {
        clock::now() < self.good_until
    }
}

/// How far a connection has come.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Waits for the feed to be live.
    Opening(Start),
    /// Is being brought up from the past.
    CatchingUp { catch_up: Box<CatchUp>, left_behind: bool },
    /// Is in its lane: every later commit reaches it.
    Live,
    /// What it missed cannot be had, for this reason. Only of a WebSocket client's channel, which goes on by itself.
    Lost(&'static str),
}

impl Connection {
    /// Drives the connection to its end.
    pub async fn run(mut self, start: Start) {
        let ended = self.link.member.ended.clone();
        let error = tokio::select! {
            biased;
            () = ended.cancelled() => None,
            error = self.serve(start) => Some(error),
        };
        if let Some(error) = error {
            tracing::debug!(code = error.code.as_str(), "closing the connection");
            self.metrics.closed.with_label_values(&[error.code.as_str()]).inc();
            let retry_ms = (error.code == Code::Draining).then(retry_ms);
            self.link.member.close(&error, retry_ms);
        }
    }

    /// Brings the connection into its lane, keeps it alive and allowed, and returns why it must be closed. Sources, in
    /// priority: the server leaves; the token expires; policies have changed; a decision must be asked again; the fan-out left
    /// it behind; it is brought up; a heartbeat is due.
    async fn serve(&mut self, start: Start) -> ApiError {
        let mut phase = Phase::Opening(start);
        let expires_in = i64::try_from(self.identity.expires_at).unwrap_or(i64::MAX).saturating_sub(clock::unix_secs());
        let expires = tokio::time::sleep(Duration::from_secs(u64::try_from(expires_in).unwrap_or(0)));
        tokio::pin!(expires);
        let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + self.heartbeat, self.heartbeat);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut recheck_at = clock::now() + self.recheck_in();
        let mut version = self.watched_version();
        let drain = self.drain.clone();
        let behind = Arc::clone(&self.link.member.behind);
        loop {
            let live = matches!(phase, Phase::Live);
            tokio::select! {
                biased;
                () = drain.cancelled() => return self.drained().await,
                () = &mut expires => return ApiError::of(Code::TokenExpired),
                Ok(()) = version.changed() => recheck_at = recheck_at.min(clock::now() + version_spread()),
                () = tokio::time::sleep_until(recheck_at.into()) => match self.recheck().await {
                    Ok(true) => {
                        recheck_at = clock::now() + self.recheck_in();
                        self.settle(&mut phase);
                    }
                    Ok(false) => recheck_at = clock::now() + about(RECHECK_PAUSE),
                    Err(error) => return error,
                },
                left = behind.wait(), if live => phase = self.left_behind(left),
                next = self.advance(&mut phase), if !live => match next {
                    Ok(next) => phase = next,
                    Err(error) => return error,
                },
                _ = heartbeat.tick(), if live => {
                    let data = format!("{{\"ts\":\"{}\"}}", timestamp::text(clock::unix_micros()));
                    self.link.feed.heartbeat(&self.link.member, self.link.lane, &data);
                }
            }
        }
    }

    /// Goes back to be brought up again.
    pub(crate) fn left_behind(&mut self, left: Left) -> Phase {
        match left.cause {
            Cause::Slow => self.metrics.left_behind.inc(),
            Cause::Asks => self.state.asks = true,
            Cause::Lost(reason) if self.is_of_socket() => return Phase::Lost(reason),
            Cause::Decision | Cause::Sets | Cause::Lost(_) => {}
        }
        self.renew();
        let catch_up = Box::new(CatchUp::after(left.after, None, &self.link));
        Phase::CatchingUp { catch_up, left_behind: true }
    }

    /// Works towards being live and returns the next phase. May be dropped at any await and called again.
    pub(crate) async fn advance(&mut self, phase: &mut Phase) -> Result<Phase, ApiError> {
        match phase {
            Phase::Opening(start) => {
                self.wait_for_feed().await?;
                match *start {
                    Start::Now => self.join_now(None).await,
                    Start::Unknown => self.join_now(Some("unknown_id")).await,
                    Start::After(id) => {
                        let catch_up = Box::new(CatchUp::after(id, Some(self.ready_frame(id)), &self.link));
                        Ok(Phase::CatchingUp { catch_up, left_behind: false })
                    }
                }
            }
            Phase::CatchingUp { catch_up, left_behind } => loop {
                self.load_sets().await?;
                match catch_up.run(&self.link).await? {
                    CaughtUp::Joined => {
                        if !*left_behind {
                            self.metrics.resumes.with_label_values(&[catch_up.source()]).inc();
                        }
                        self.state.undecided_since = None;
                        return Ok(Phase::Live);
                    }
                    CaughtUp::NotLoaded => self.renew(),
                    CaughtUp::Undecided => match self.decide_again().await {
                        Ok(()) => {}
                        // Who resumes is told that what lies between cannot be had.
                        Err(error) if error.code == Code::SchemaChanged && !*left_behind => {
                            self.state.undecided_since = None;
                            if self.is_of_socket() {
                                return Ok(Phase::Lost("schema_changed"));
                            }
                            return self.join_now(Some("schema_changed")).await;
                        }
                        Err(error) => return Err(error),
                    },
                    CaughtUp::Lost(reason) if self.is_of_socket() => return Ok(Phase::Lost(reason)),
                    // A connected client is promised no gap: it is closed, and told when it comes back.
                    CaughtUp::Lost("schema_changed") if *left_behind => return Err(ApiError::of(Code::SchemaChanged)),
                    CaughtUp::Lost(_) if *left_behind => return Err(ApiError::of(Code::SlowConsumer)),
                    CaughtUp::Lost(reason) => return self.join_now(Some(reason)).await,
                }
            },
            Phase::Live | Phase::Lost(_) => std::future::pending().await,
        }
    }

    fn is_of_socket(&self) -> bool {
        matches!(self.link.member.wire, Wire::Socket(_))
    }

    /// Loads the sets that are not loaded, until there is none.
    async fn load_sets(&mut self) -> Result<(), ApiError> {
        loop {
            match self.link.sets.load(&self.link.member.principal).await {
                Ok(()) => return Ok(()),
                Err(LoadError::TooMany(set)) => self.ask_instead(&set)?,
                Err(LoadError::Changed) => self.decide_again().await?,
                Err(LoadError::Lost(why)) => {
                    tracing::debug!(%why, "a policy's set was lost while it was loaded");
                    self.decide_again().await?;
                }
                Err(LoadError::Policy(error)) => {
                    tracing::debug!(%error, "a policy's set could not be read yet");
                    if clock::now() >= self.state.good_until {
                        return Err(ApiError::of(Code::PolicyUnavailable));
                    }
                    tokio::time::sleep(about(RECHECK_PAUSE)).await;
                }
            }
        }
    }

    /// Has Postgres asked about each row where a set cannot be kept.
    fn ask_instead(&mut self, set: &SharedSet) -> Result<(), ApiError> {
        for subscription in &mut self.subscriptions {
            let policy = &subscription.grant.policy;
            if policy.sets.contains(set) {
                if policy.check_key.is_none() {
                    return Err(ApiError::of(Code::PolicyTooLarge));
                }
                tracing::debug!(table = %subscription.request.table, "a policy's set is too large: rows are asked about");
                subscription.asks_instead = true;
            }
        }
        self.renew();
        Ok(())
    }

    /// Asks for decisions that fit, after a pause.
    async fn decide_again(&mut self) -> Result<(), ApiError> {
        let since = *self.state.undecided_since.get_or_insert_with(clock::now);
        if clock::now() > since + UNDECIDED_PATIENCE {
            let message = "a table or its policies were altered, and no decision fits them";
            return Err(ApiError::new(Code::SchemaChanged, message));
        }
        tokio::time::sleep(about(UNDECIDED_PAUSE)).await;
        self.recheck().await?;
        self.renew();
        Ok(())
    }

    pub(crate) async fn wait_for_feed(&self) -> Result<(), ApiError> {
        let mut status = self.link.feed.status();
        let live = tokio::time::timeout(LIVE_DEADLINE, status.wait_for(crate::feed::FeedStatus::is_live)).await;
        live.map(|_| ()).map_err(|_| ApiError::of(Code::NotReady))
    }

    /// Joins at the head, saying first that what lies between cannot be had, if so.
    async fn join_now(&mut self, lost: Option<&'static str>) -> Result<Phase, ApiError> {
        let mut status = self.link.feed.status();
        loop {
            self.load_sets().await?;
            let Link { member, lane, feed, .. } = &self.link;
            let oldest = feed.oldest();
            let joined = feed.attach_now(member, *lane, |head| {
                if let Some(reason) = lost {
                    self.metrics.resyncs.with_label_values(&[reason]).inc();
                    self.greet(Resync { reason, oldest, newest: head }.frame());
                }
                self.greet(self.ready_frame(head));
            });
            match joined {
                Ok(true) => {
                    self.state.undecided_since = None;
                    return Ok(Phase::Live);
                }
                Err(NotLoaded) => self.renew(),
                Ok(false) if status.changed().await.is_err() => return Err(ApiError::of(Code::NotReady)),
                Ok(false) => {}
            }
        }
    }

    /// Queues what a connection is told once, whatever else waits there: without it, it would not know what it missed.
    fn greet(&self, frame: Bytes) {
        let _ = self.link.member.outbox.push_within(frame, usize::MAX);
    }

    fn ready_frame(&self, id: EventId) -> Bytes {
        let names: Vec<&str> =
            self.subscriptions.iter().filter_map(|subscription| subscription.name.as_deref()).collect();
        let mut data = serde_json::json!({"ts": timestamp::text(clock::unix_micros()), "event_id": id.to_string()});
        if !names.is_empty()
            && let Some(data) = data.as_object_mut()
        {
            data.insert("subscriptions".to_owned(), serde_json::json!(names));
        }
        let mut out = BytesMut::new();
        sse::write_retry(&mut out, retry_ms());
        sse::write_event(&mut out, "ready", Some(&id), data.to_string().as_bytes());
        out.freeze()
    }

    /// Waits for this connection's turn in the drain window.
    async fn drained(&self) -> ApiError {
        let turn = self.drain_window.mul_f64(rand::rng().random_range(0.0..1.0));
        tokio::time::sleep(turn).await;
        ApiError::of(Code::Draining)
    }

    /// The policies' version, and whenever there is another. One that differs from a decision's is another already: it may have
    /// come while that was on its way.
    pub(crate) fn watched_version(&self) -> watch::Receiver<Option<PolicyVersion>> {
        let mut version = self.link.feed.policy_version();
        let is_other = |seen| self.subscriptions.iter().any(|asked| asked.grant.policy_version != seen);
        if version.borrow().is_some_and(is_other) {
            version.mark_changed();
        }
        version
    }

    /// A little less for some than for others, so that they do not all ask at once.
    pub(crate) fn recheck_in(&self) -> Duration {
        (good_for(&self.subscriptions) / RECHECK_SHARE).mul_f64(rand::rng().random_range(0.8..1.0))
    }

    /// Asks for every decision again; false when no answer could be had and the old ones are still good.
    pub(crate) async fn recheck(&mut self) -> Result<bool, ApiError> {
        let authorizer = self.link.feed.authorizer();
        let requests: Vec<_> = self.subscriptions.iter().map(|subscription| subscription.request.clone()).collect();
        let asking = requests.into_iter().map(|request| authorizer.authorize(request));
        let answers: Vec<_> = futures::stream::iter(asking).buffered(CONCURRENT_DECISIONS).collect().await;
        for (subscription, answer) in self.subscriptions.iter_mut().zip(answers) {
            match answer {
                Ok(Decision::Allow(grant)) => subscription.take(grant),
                Ok(Decision::Deny(denial)) => return Err(denial.into()),
                Err(error) if clock::now() >= self.state.good_until => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(%error, "a decision could not be asked again yet");
                    return Ok(false);
                }
            }
        }
        self.state.renew(&self.subscriptions);
        Ok(true)
    }

    fn wanted_lane(&self) -> Lane {
        if self.state.asks { Lane::Slow } else { lane(&self.subscriptions) }
    }

    /// Takes what the present decisions say; the connection is in no lane meanwhile.
    fn renew(&mut self) {
        let lane = self.wanted_lane();
        self.link.renew(keys(&self.subscriptions), lane);
    }

    /// Takes decisions that were made anew, by others than [`Connection::recheck`].
    pub(crate) fn take(&mut self, mut subscriptions: Vec<Subscription>) {
        for subscription in &mut subscriptions {
            subscription.learn_from(&self.subscriptions);
        }
        self.state.renew(&subscriptions);
        self.subscriptions = subscriptions;
    }

    /// Puts in force what a recheck has brought.
    pub(crate) fn settle(&mut self, phase: &mut Phase) {
        let (known, lane) = (keys(&self.subscriptions), self.wanted_lane());
        if known == self.link.member.subscriptions && lane == self.link.lane {
            return;
        }
        match phase {
            Phase::Opening(_) | Phase::Lost(_) | Phase::CatchingUp { .. } => self.renew(),
            Phase::Live => {
                let after = if self.link.sets.serve(&known, lane) {
                    self.link.member.subscriptions = known;
                    self.link.feed.replace(&self.link.member, lane).err()
                } else {
                    self.link.feed.leave(&self.link.member, self.link.lane)
                };
                // One that is in no lane was left behind a moment ago: it takes the new ones then.
                if let Some(after) = after {
                    self.renew();
                    let catch_up = Box::new(CatchUp::after(after, None, &self.link));
                    *phase = Phase::CatchingUp { catch_up, left_behind: true };
                }
            }
        }
    }
}
