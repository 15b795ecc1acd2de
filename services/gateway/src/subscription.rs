//! What a connection asked for, and what policy says to that.

use std::sync::Arc;
use std::time::Duration;

use reactor_policy_engine::{AuthorizeRequest, Grant, Predicate, RowPolicy};

use crate::auth::ActiveOrg;
use crate::feed::Lane;
use crate::hub::{EventMask, NamedSubscriptions, SharedPolicy, SubscriptionKey};

/// What a subscription asked for and was granted.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its name in a request with several, else absent.
    pub name: Option<Arc<str>>,
    /// Kinds of change.
    pub events: EventMask,
    /// Whether an UPDATE that takes a row away is told.
    pub leave: bool,
    /// The question that was asked of policy.
    pub request: AuthorizeRequest,
    /// Whose rows.
    pub org: ActiveOrg,
    /// The answer.
    pub grant: Grant,
    /// Whether Postgres is asked about each row, since a set of the policy is too large to be kept.
    pub asks_instead: bool,
}

impl Subscription {
    /// Takes a newer answer.
    pub(crate) fn take(&mut self, grant: Grant) {
        self.asks_instead &= grant.policy == self.grant.policy;
        self.grant = grant;
    }

    /// Takes over what was learnt about its policy while others had it: of the same policy, the same set is too large.
    pub(crate) fn learn_from(&mut self, known: &[Self]) {
        self.asks_instead |= known.iter().any(|known| known.asks_instead && known.grant.policy == self.grant.policy);
    }

    fn policy(&self) -> RowPolicy {
        let policy = self.grant.policy.clone();
        if self.asks_instead { RowPolicy { predicate: Predicate::Ask, sets: Vec::new(), ..policy } } else { policy }
    }

    fn key(&self) -> Arc<SubscriptionKey> {
        let mut select = self.request.select.clone();
        select.sort_unstable();
        select.dedup();
        Arc::new(SubscriptionKey {
            schema: self.request.schema.clone(),
            table: self.request.table.clone(),
            table_oid: self.grant.table_oid,
            row_security: self.grant.row_security,
            events: self.events,
            leave: self.leave,
            filter: self.grant.filter.clone(),
            policy: SharedPolicy::new(self.policy()),
            columns: self.grant.columns.clone(),
            select,
            org: self.org.clone(),
        })
    }
}

/// Members' view of subscriptions.
#[must_use]
pub fn keys(subscriptions: &[Subscription]) -> NamedSubscriptions {
    subscriptions.iter().map(|subscription| (subscription.name.clone(), subscription.key())).collect()
}

/// The lane that can serve subscriptions.
#[must_use]
pub fn lane(subscriptions: &[Subscription]) -> Lane {
    let asks = subscriptions.iter().any(|subscription| subscription.grant.asks_postgres || subscription.asks_instead);
    if asks { Lane::Slow } else { Lane::Fast }
}

/// How long all of the answers are good.
#[must_use]
pub fn good_for(subscriptions: &[Subscription]) -> Duration {
    let times = subscriptions.iter().map(|subscription| subscription.grant.recheck_after);
    times.min().unwrap_or(Duration::from_secs(3600))
}
