//! What one connection gets of older batches, before it joins its lane.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reactor_model::{Batch, EventId, Position, TenantId};
use reactor_policy_engine::{Authorizer, AuthorizerError};

use crate::error::ApiError;
use crate::feed::{HeldSets, ask};
use crate::hub::{
    Answers, Asking, CompiledSubscription, Form, FrameCache, Judged, MatchSettings, Member, Questions, SetRows,
    SubscriptionKey, Unfit, Wire,
};

/// Bytes of frames that are kept for others who replay the same.
const SHARED_BYTES: u64 = 32 * 1024 * 1024;
/// How long they are kept: a wave of resumes, or of readers that a burst left behind, is over by then.
const SHARED_FOR: Duration = Duration::from_secs(10);

/// The frames of whole batches, shared by connections with the same only subscription.
#[derive(Clone)]
pub struct SharedFrames(moka::future::Cache<SharedKey, Bytes>);

/// Which frames: after which position, up to which event, of which subscription, for whom. Batches that end alike need not begin
/// alike.
type SharedKey = (Position, EventId, Arc<SubscriptionKey>, Wire);

impl fmt::Debug for SharedFrames {
    /// Leaves the frames out: row values never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedFrames({} entries)", self.0.entry_count())
    }
}

impl Default for SharedFrames {
    fn default() -> Self {
        let weigh = |_: &SharedKey, frames: &Bytes| u32::try_from(frames.len() + 128).unwrap_or(u32::MAX);
        Self(moka::future::Cache::builder().weigher(weigh).max_capacity(SHARED_BYTES).time_to_live(SHARED_FOR).build())
    }
}

/// The subscriptions of a connection, prepared for the relation versions that it meets in the past.
#[derive(Debug)]
pub struct Replay {
    member: Member,
    /// By index of the subscription: the sets of its policy.
    sets: Vec<Arc<[Arc<SetRows>]>>,
    settings: Arc<MatchSettings>,
    shared: SharedFrames,
    /// By index of the subscription: fingerprint and what was prepared for it.
    prepared: HashMap<usize, (u64, CompiledSubscription)>,
}

/// Why older batches could not be delivered to this connection.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A subscription does not fit the table as it was then.
    #[error("a subscription does not fit an older version of its table")]
    Schema(#[source] ApiError),
    /// A decision is about another version of its table.
    #[error("a decision is about another version of its table: {0}")]
    Decision(String),
    /// A set of a policy is not known any more.
    #[error("a set of a policy is not known any more")]
    NotLoaded,
    /// Rows could not be judged.
    #[error("rows could not be judged")]
    Policy(#[from] AuthorizerError),
}

impl Replay {
    /// Prepares nothing yet.
    #[must_use]
    pub fn new(member: Member, sets: &HeldSets, settings: Arc<MatchSettings>, shared: SharedFrames) -> Self {
        let of = |key: &SubscriptionKey| key.policy.sets().iter().filter_map(|set| sets.rows(set)).cloned().collect();
        let sets = member.subscriptions.iter().map(|(_, key)| of(key)).collect();
        Self { member, sets, settings, shared, prepared: HashMap::new() }
    }

    /// Whether this was prepared for the subscriptions that a member has now.
    #[must_use]
    pub fn is_of(&self, member: &Member) -> bool {
        Arc::ptr_eq(&self.member.subscriptions, &member.subscriptions)
    }

    /// The frames of a batch's changes after `after`.
    ///
    /// # Errors
    /// [`ReplayError`] when the batch cannot be judged; nothing of it was delivered then.
    pub async fn frames(
        &mut self,
        batch: &Batch,
        after: Position,
        tenant: &TenantId,
        authorizer: &Arc<dyn Authorizer>,
    ) -> Result<Bytes, ReplayError> {
        let concerned = self.prepare(batch)?;
        if concerned.is_empty() {
            return Ok(Bytes::new());
        }
        if self.sets.iter().flat_map(|sets| sets.iter()).any(|rows| rows.is_lost()) {
            return Err(ReplayError::NotLoaded);
        }
        let shared = match &*self.member.subscriptions {
            [(None, key)] if after <= batch.previous && self.is_lasting() => {
                let newest = EventId { epoch: batch.epoch, position: batch.last };
                Some((batch.previous, newest, Arc::clone(key), self.member.wire.clone()))
            }
            _ => None,
        };
        if let Some(key) = &shared
            && let Some(frames) = self.shared.0.get(key).await
        {
            return Ok(frames);
        }
        let mut answers = Answers::default();
        let frames = loop {
            let mut questions = Questions::default();
            let hits = self.hits(batch, after, &concerned, &answers, &mut questions);
            if questions.is_empty() {
                break self.encode(batch, hits);
            }
            ask(authorizer, tenant, batch, questions, &mut answers).await?;
        };
        if let Some(key) = shared {
            self.shared.0.insert(key, frames.clone()).await;
        }
        Ok(frames)
    }

    /// Whether the same will be said of the same row in a moment: what sets hold and Postgres sees is another thing then.
    fn is_lasting(&self) -> bool {
        self.prepared.values().all(|(_, compiled)| compiled.is_lasting())
    }

    /// Prepares the subscriptions of the batch's table and returns their indices.
    fn prepare(&mut self, batch: &Batch) -> Result<Vec<usize>, ReplayError> {
        let Some(relation) = &batch.relation else { return Ok(Vec::new()) };
        let mut concerned = Vec::new();
        for (index, (_, key)) in self.member.subscriptions.iter().enumerate() {
            if key.table != relation.table || key.schema != relation.schema {
                continue;
            }
            concerned.push(index);
            if self.prepared.get(&index).is_none_or(|(fingerprint, _)| *fingerprint != batch.fingerprint) {
                let sets = self.sets.get(index).cloned().unwrap_or_default();
                let compiled = CompiledSubscription::new(key, sets, relation, &self.settings);
                let compiled = compiled.map_err(|unfit| match unfit {
                    Unfit::Subscription(error) => ReplayError::Schema(error),
                    Unfit::Decision(why) => ReplayError::Decision(why),
                })?;
                self.prepared.insert(index, (batch.fingerprint, compiled));
            }
        }
        Ok(concerned)
    }

    /// By change the subscriptions that it goes to.
    fn hits(
        &self,
        batch: &Batch,
        after: Position,
        concerned: &[usize],
        answers: &Answers,
        questions: &mut Questions,
    ) -> Hits {
        let mut hits = Hits::new();
        let mut asking = Some(Asking { questions, principal: &self.member.principal });
        for (index, change) in batch.changes.iter().enumerate().filter(|(_, change)| change.position > after) {
            for subscription in concerned {
                let Some((_, compiled)) = self.prepared.get(subscription) else { continue };
                if let Judged::Hit(form) = compiled.judge(change, index, answers, &mut asking) {
                    hits.entry(index).or_default().push((*subscription, form));
                }
            }
        }
        hits
    }

    fn encode(&self, batch: &Batch, hits: Hits) -> Bytes {
        let mut out = BytesMut::new();
        let mut cache = FrameCache::default();
        if let Wire::Socket(wire) = &self.member.wire {
            let hits = hits.into_iter().flat_map(|(index, subscriptions)| {
                subscriptions.into_iter().filter_map(move |(subscription, form)| {
                    let (_, compiled) = self.prepared.get(&subscription)?;
                    Some((index, *wire.ids.get(subscription)?, Arc::clone(compiled.shape()), form))
                })
            });
            cache.write_socket(&mut out, batch, wire, &hits.collect::<Vec<_>>());
            return out.freeze();
        }
        for (index, subscriptions) in hits {
            let matched = subscriptions.iter().filter_map(|(subscription, form)| {
                let (name, _) = self.member.subscriptions.get(*subscription)?;
                let (_, compiled) = self.prepared.get(subscription)?;
                Some((name.as_deref(), compiled, *form))
            });
            cache.write(&mut out, batch, index, matched, self.settings.max_payload_bytes);
        }
        out.freeze()
    }
}

/// By index of the change the subscriptions that it goes to, and the form in which it comes.
type Hits = BTreeMap<usize, Vec<(usize, Form)>>;
