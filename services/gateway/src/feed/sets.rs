//! Holding and loading the sets that a connection's policies look rows up in.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use reactor_policy_engine::{AuthorizerError, Members, MembersRequest, Principal};

use super::{Feed, Lane, Live};
use crate::hub::{Broken, LOOK_BACK_US, NamedSubscriptions, SetId, SetRows, SharedSet};

/// Why a set could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// It has more rows than are kept, or cannot be read as a whole.
    #[error("a subquery in the policies has too many rows")]
    TooMany(SharedSet),
    /// The decision that named it is out of date.
    #[error("the policies have changed")]
    Changed,
    /// It was lost while it was loaded.
    #[error("the set was lost: {0}")]
    Lost(#[from] Broken),
    /// It could not be read.
    #[error("the set could not be read")]
    Policy(#[source] Arc<AuthorizerError>),
}

type Loading = BoxFuture<'static, Result<Arc<Members>, LoadError>>;
type Load = Shared<Loading>;

/// Loads under way, by lane and set. They end with those who wait for them.
#[derive(Default)]
pub(super) struct Loads(Mutex<HashMap<(Lane, SetId), WeakShared<Loading>>>);

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loads")
    }
}

/// The sets that a connection's policies need, in its lane; let go when dropped. Not to be dropped under a lane's lock.
#[derive(Debug)]
pub struct HeldSets {
    feed: Arc<Feed>,
    lane: Lane,
    sets: Vec<HeldSet>,
}

#[derive(Debug)]
struct HeldSet {
    id: SetId,
    set: SharedSet,
    rows: Arc<SetRows>,
    /// Schema and name of the table whose policy has it.
    table: (String, String),
}

impl Drop for HeldSets {
    fn drop(&mut self) {
        if self.sets.is_empty() {
            return;
        }
        self.feed.in_lane(self.lane, |hub| self.sets.iter().for_each(|held| hub.release_set(held.id)));
        let mut loads = self.feed.loads.0.lock().unwrap_or_else(PoisonError::into_inner);
        for held in &self.sets {
            let key = (self.lane, held.id);
            if loads.get(&key).is_some_and(|load| load.upgrade().is_none()) {
                loads.remove(&key);
            }
        }
    }
}

impl HeldSets {
    /// Whether these are exactly the sets of some subscriptions in a lane, and none of them is lost.
    #[must_use]
    pub fn serve(&self, subscriptions: &NamedSubscriptions, lane: Lane) -> bool {
        let is_kept = |set: &SharedSet| self.rows(set).is_some_and(|rows| !rows.is_lost());
        lane == self.lane
            && wanted(subscriptions).count() == self.sets.len()
            && wanted(subscriptions).all(|(set, _)| is_kept(set))
    }

    /// Whether the policies need no set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// What a set holds.
    #[must_use]
    pub fn rows(&self, set: &SharedSet) -> Option<&Arc<SetRows>> {
        self.sets.iter().find(|held| held.set == *set).map(|held| &held.rows)
    }

    /// Loads what is not loaded yet.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load(&self, principal: &Arc<Principal>) -> Result<(), LoadError> {
        for held in &self.sets {
            if held.rows.is_lost() {
                return Err(Broken::Gone.into());
            }
            if !self.feed.in_lane(self.lane, |hub| hub.is_loading(held.id)) {
                continue;
            }
            let members = self.loading(held, principal).await?;
            let rows = match &*members {
                Members::Rows(rows) => rows,
                Members::TooMany => return Err(LoadError::TooMany(held.set.clone())),
                Members::Changed => return Err(LoadError::Changed),
            };
            self.feed.in_lane(self.lane, |hub| {
                // The first who gets here does it for all.
                if hub.is_loading(held.id) { hub.install_set(held.id, rows) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    /// The load of a set, shared with everybody who waits for it.
    fn loading(&self, held: &HeldSet, principal: &Arc<Principal>) -> Load {
        let mut loads = self.feed.loads.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = loads.get(&(self.lane, held.id)).and_then(WeakShared::upgrade) {
            return load;
        }
        let request = MembersRequest {
            tenant: self.feed.tenant().clone(),
            principal: Principal::clone(principal),
            schema: held.table.0.clone(),
            table: held.table.1.clone(),
            set: held.set.clone_inner(),
        };
        let authorizer = Arc::clone(self.feed.authorizer());
        self.feed.metrics.sets_loaded.inc();
        let load =
            async move { authorizer.members(request).await.map(Arc::new).map_err(|e| LoadError::Policy(Arc::new(e))) };
        let load = load.boxed().shared();
        if let Some(weak) = load.downgrade() {
            loads.insert((self.lane, held.id), weak);
        }
        load
    }
}

/// The sets of subscriptions, each once, with the table that it is wanted for.
fn wanted(subscriptions: &NamedSubscriptions) -> impl Iterator<Item = (&SharedSet, (&str, &str))> {
    let mut seen = std::collections::HashSet::new();
    let all = subscriptions
        .iter()
        .flat_map(|(_, key)| key.policy.sets().iter().map(move |set| (set, (key.schema.as_str(), key.table.as_str()))));
    all.filter(move |(set, _)| seen.insert((*set).clone()))
}

impl Feed {
    /// Holds the sets that subscriptions need in a lane.
    #[must_use]
    pub fn hold_sets(self: &Arc<Self>, subscriptions: &NamedSubscriptions, lane: Lane) -> HeldSets {
        let mut sets = Vec::new();
        for (set, (schema, table)) in wanted(subscriptions) {
            let (id, rows) = match lane {
                Lane::Fast => {
                    let Live { ring, hub } = &mut *self.live();
                    let upto = hub.taken();
                    hub.hold_set(set, |schema, table| ring.newest_of(schema, table, upto, LOOK_BACK_US))
                }
                Lane::Slow => {
                    let mut hub = self.slow();
                    let upto = hub.taken();
                    hub.hold_set(set, |schema, table| self.live().ring.newest_of(schema, table, upto, LOOK_BACK_US))
                }
            };
            sets.push(HeldSet { id, set: set.clone(), rows, table: (schema.to_owned(), table.to_owned()) });
        }
        HeldSets { feed: Arc::clone(self), lane, sets }
    }
}
