//! What of a change is shown: which columns, in which form.

use reactor_model::Relation;
use reactor_policy_engine::ColumnMask;

use super::key::SubscriptionKey;

/// Which columns of a relation version are shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Shown columns, in order.
    pub(super) shown: Vec<usize>,
    /// Shown columns of the primary key, or of the replica identity where there is no primary key.
    pub(super) keys: Vec<usize>,
}

/// How a change is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Form {
    /// As an update that took the row away: the old row's key columns.
    Leave,
    /// Of the old row only the key columns: policy does not show the rest of it.
    OldKeys,
    /// As it is.
    Whole,
}

impl Shape {
    pub(super) fn new(key: &SubscriptionKey, relation: &Relation) -> Self {
        let has_primary_key = relation.columns.iter().any(|column| column.primary_key);
        let is_key = |index: usize| {
            relation
                .columns
                .get(index)
                .is_some_and(|column| if has_primary_key { column.primary_key } else { column.identity_key })
        };
        let may_leave = |name: &str| match &key.columns {
            ColumnMask::All => true,
            ColumnMask::Only(names) => names.contains(name),
        };
        let wanted = |index: usize, name: &String| key.select.is_empty() || is_key(index) || key.select.contains(name);
        let columns = relation.columns.iter().enumerate();
        let shown: Vec<usize> = columns
            .filter(|(index, column)| may_leave(&column.name) && wanted(*index, &column.name))
            .map(|(index, _)| index)
            .collect();
        let keys = shown.iter().copied().filter(|index| is_key(*index)).collect();
        Self { shown, keys }
    }

    /// The columns that either shows.
    pub(super) fn union(&self, other: &Self) -> Self {
        let merge = |left: &[usize], right: &[usize]| {
            let mut all = [left, right].concat();
            all.sort_unstable();
            all.dedup();
            all
        };
        Self { shown: merge(&self.shown, &other.shown), keys: merge(&self.keys, &other.keys) }
    }
}
