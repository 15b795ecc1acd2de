//! A subscription prepared for one version of its table: column names become indices, once.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use reactor_model::filter::{CompiledFilter, IndexKey};
use reactor_model::{Code, Relation};
use reactor_policy_engine::CompiledPredicate;

use super::key::{EventMask, MatchSettings, SubscriptionKey};
use super::sets::SetRows;
use super::shape::Shape;
use crate::auth::ActiveOrg;
use crate::error::ApiError;

/// A subscription, or a group of equal ones, prepared for one relation version.
pub struct CompiledSubscription {
    relation: Arc<Relation>,
    pub(super) events: EventMask,
    pub(super) leave: bool,
    pub(super) filter: CompiledFilter,
    /// `None` when every row may be seen.
    pub(super) policy: Option<CompiledPredicate>,
    /// The sets that the policy names.
    pub(super) sets: Arc<[Arc<SetRows>]>,
    pub(super) check_key: Option<String>,
    pub(super) org: OrgTest,
    /// By column: whether a key-only old image holds it.
    pub(super) identity: Vec<bool>,
    pub(super) strict_deletes: bool,
    pub(super) shape: Arc<Shape>,
}

#[derive(PartialEq, Eq)]
pub(super) enum OrgTest {
    Any,
    Is(usize, String),
    Never,
}

impl fmt::Debug for OrgTest {
    /// Leaves the organisation out: claims never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Is(column, _) => write!(f, "Is(column {column})"),
            Self::Never => f.write_str("Never"),
        }
    }
}

/// Why a subscription cannot be served on a version of its table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It must be made anew.
    #[error(transparent)]
    Subscription(#[from] ApiError),
    /// The decision on it was about another version: it must be asked for again.
    #[error("{0}")]
    Decision(String),
}

/// Values of one column of which a row must have one to be seen.
pub(super) struct IndexOption {
    pub(super) keys: Vec<IndexKey>,
    /// Whether a row without a value in the column may be seen all the same, or must be asked about.
    pub(super) by_policy: bool,
}

impl fmt::Debug for CompiledSubscription {
    /// Leaves out what it compares with: operands and claims never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = (&self.relation.schema, &self.relation.table);
        f.debug_struct("CompiledSubscription").field("table", &table).field("org", &self.org).finish_non_exhaustive()
    }
}

impl CompiledSubscription {
    /// Prepares a subscription; `sets` are those of its policy, in order.
    ///
    /// # Errors
    /// Why it cannot be served on this version of the table.
    pub fn new(
        key: &SubscriptionKey,
        sets: Arc<[Arc<SetRows>]>,
        relation: &Arc<Relation>,
        settings: &MatchSettings,
    ) -> Result<Self, Unfit> {
        let name = || format!("{}.{}", key.schema, key.table);
        if relation.row_security && !key.row_security {
            return Err(Unfit::Decision(format!("row-level security was enabled on {}", name())));
        }
        if key.table_oid != 0 && key.table_oid != relation.table_oid {
            let message = format!("{} is another table than the one that was subscribed to", name());
            return Err(ApiError::new(Code::SchemaChanged, message).into());
        }
        let filter =
            key.filter.compile(relation).map_err(|error| ApiError::new(Code::SchemaChanged, error.to_string()))?;
        let policy = if key.policy.is_everything() {
            None
        } else {
            let compiled = key.policy.predicate.compile(relation);
            Some(compiled.map_err(|error| Unfit::Decision(format!("the policy of {}: {error}", name())))?)
        };
        let org = match (&key.org, relation.column_index(&settings.org_column)) {
            (ActiveOrg::Unscoped, _) | (_, None) => OrgTest::Any,
            (ActiveOrg::Org(org), Some(column)) => OrgTest::Is(column, org.clone()),
            (ActiveOrg::Unchosen, Some(_)) => OrgTest::Never,
        };
        let identity = relation.columns.iter().map(|column| column.identity_key).collect();
        Ok(Self {
            relation: Arc::clone(relation),
            events: key.events,
            leave: key.leave,
            filter,
            policy,
            sets,
            check_key: key.policy.check_key.clone(),
            org,
            identity,
            strict_deletes: settings.strict_deletes,
            shape: Arc::new(Shape::new(key, relation)),
        })
    }

    /// The relation version that this was prepared for.
    #[must_use]
    pub fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }

    /// Which columns are shown.
    pub(crate) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// Whether some rows can only be judged by Postgres.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        self.filter.may_ask() || self.policy_asks()
    }

    /// Whether a verdict depends on nothing but the row's values.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        self.sets.is_empty() && !self.policy_asks()
    }

    /// Whether the policy needs Postgres for some rows.
    pub(super) fn policy_asks(&self) -> bool {
        self.policy.as_ref().is_some_and(CompiledPredicate::may_ask)
    }

    /// By what the subscription can be found: it matches only rows that have a key of each option.
    pub(super) fn index_options(&self) -> Vec<IndexOption> {
        let by_policy = !self.strict_deletes || self.policy_asks();
        let policy = self.policy.as_ref().and_then(CompiledPredicate::index_keys);
        let org = match &self.org {
            OrgTest::Any => None,
            OrgTest::Never => Some(Vec::new()),
            OrgTest::Is(column, org) => Some(vec![IndexKey::Value { column: *column, text: org.as_bytes().into() }]),
        };
        let options = [(self.filter.index_keys(), false), (policy, by_policy), (org, false)];
        options.into_iter().filter_map(|(keys, by_policy)| Some(IndexOption { keys: keys?, by_policy })).collect()
    }

    /// Columns on whose values alone the verdict depends; `None` when it depends on the row itself.
    pub(super) fn columns(&self) -> Option<BTreeSet<usize>> {
        if self.policy_asks() {
            return None;
        }
        let mut columns = self.filter.columns();
        columns.extend(self.policy.iter().flat_map(CompiledPredicate::columns));
        if let OrgTest::Is(column, _) = &self.org {
            columns.insert(*column);
        }
        Some(columns)
    }
}
