//! What makes two subscriptions the same.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use reactor_model::ChangeKind;
use reactor_model::filter::BoundFilter;
use reactor_policy_engine::{ColumnMask, MemberSet, RowPolicy};

use crate::auth::ActiveOrg;

/// Identifies a connection within this process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// Which kinds of change a subscription wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventMask(u8);

impl EventMask {
    /// Every kind.
    pub const ALL: Self = Self(0b1111);

    const fn bit(kind: ChangeKind) -> u8 {
        match kind {
            ChangeKind::Insert => 1,
            ChangeKind::Update => 2,
            ChangeKind::Delete => 4,
            ChangeKind::Truncate => 8,
        }
    }

    /// One kind.
    #[must_use]
    pub const fn only(kind: ChangeKind) -> Self {
        Self(Self::bit(kind))
    }

    /// Whether this kind is wanted. A truncation removes rows, so who wants deletes wants it too.
    #[must_use]
    pub const fn has(self, kind: ChangeKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    /// Reads names separated by commas; `*`, `all` or nothing is every kind.
    ///
    /// # Errors
    /// The name that is not one of `insert`, `update`, `delete`, `truncate` and `*`.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut mask = 0;
        for name in names {
            mask |= match name.trim().to_ascii_lowercase().as_str() {
                "" => 0,
                "*" | "all" => Self::ALL.0,
                "insert" => Self::bit(ChangeKind::Insert),
                "update" => Self::bit(ChangeKind::Update),
                "delete" => Self::bit(ChangeKind::Delete) | Self::bit(ChangeKind::Truncate),
                "truncate" => Self::bit(ChangeKind::Truncate),
                _ => return Err(name.trim().to_owned()),
            };
        }
        Ok(if mask == 0 { Self::ALL } else { Self(mask) })
    }
}

/// A value that many hold, with its hash computed once.
#[derive(Clone, Debug)]
pub struct Shared<T> {
    value: Arc<T>,
    hash: u64,
}

impl<T: Hash> Shared<T> {
    /// Takes the value and its hash.
    pub fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self { value: Arc::new(value), hash: hasher.finish() }
    }
}

impl<T: Clone> Shared<T> {
    /// A copy of the value.
    #[must_use]
    pub fn clone_inner(&self) -> T {
        T::clone(&self.value)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.value, &other.value) || self.value == other.value)
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A set that policies look rows up in.
pub type SharedSet = Shared<MemberSet>;

/// A row policy with the sets that it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SharedPolicy {
    policy: Shared<RowPolicy>,
    sets: Arc<[SharedSet]>,
}

impl SharedPolicy {
    /// Prepares a policy for being shared.
    #[must_use]
    pub fn new(policy: RowPolicy) -> Self {
        let sets = policy.sets.iter().cloned().map(Shared::new).collect();
        Self { policy: Shared::new(policy), sets }
    }

    /// The sets, in the order in which the policy names them.
    #[must_use]
    pub fn sets(&self) -> &[SharedSet] {
        &self.sets
    }
}

impl Deref for SharedPolicy {
    type Target = RowPolicy;

    fn deref(&self) -> &RowPolicy {
        &self.policy
    }
}

/// All that decides which changes a subscription gets and how they look. Equal keys form one group.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionKey {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// Oid of the table that policy decided on; 0 when it did not tell.
    pub table_oid: u32,
    /// Whether the table had row-level security when it was decided on.
    pub row_security: bool,
    /// Kinds of change.
    pub events: EventMask,
    /// Whether an UPDATE that takes a row away from the subscription is told.
    pub leave: bool,
    /// The filter, bound to column types.
    pub filter: BoundFilter,
    /// Which rows policy allows.
    pub policy: SharedPolicy,
    /// Columns that may leave.
    pub columns: ColumnMask,
    /// Columns asked for, sorted; empty for all.
    pub select: Vec<String>,
    /// Whose rows.
    pub org: ActiveOrg,
}

impl fmt::Debug for SubscriptionKey {
    /// Leaves filter and organisation out: operands and claims never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = (&self.schema, &self.table);
        f.debug_struct("SubscriptionKey").field("table", &table).field("events", &self.events).finish_non_exhaustive()
    }
}

/// The subscriptions of a connection with their names, which are given in requests with several.
pub type NamedSubscriptions = Arc<[(Option<Arc<str>>, Arc<SubscriptionKey>)]>;

/// Settings of a tenant that matching depends on.
#[derive(Clone, Debug)]
pub struct MatchSettings {
    /// Name of the column that holds a row's organisation.
    pub org_column: String,
    /// Bytes of one event's data before it is cut down to its key columns.
    pub max_payload_bytes: usize,
    /// Whether a DELETE is withheld when the old row lacks a value that the policy needs; else its key columns are sent.
    pub strict_deletes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read() {
        let has = |text: &str, kind| EventMask::parse(text.split(',')).expect(text).has(kind);
        assert!(has("insert", ChangeKind::Insert) && !has("insert", ChangeKind::Update));
        assert!(has("INSERT, delete", ChangeKind::Delete) && has("delete", ChangeKind::Truncate));
        assert!(has("", ChangeKind::Update) && has("*", ChangeKind::Truncate));
        assert_eq!(EventMask::parse(["insert", "upsert"]), Err("upsert".to_owned()));
    }
}
