//! The sets that a lane's policies look rows up in.
//!
//! A set is read once for all connections with an equal one, and from then on kept by the changes of its table, in the order
//! of the lane: so that whoever is added to a room sees the next message, and whoever is removed does not. It lives as long as a
//! connection holds it. One that can no longer be known for certain is lost: its connections leave the lane, load it anew and
//! are brought up again.

mod condition;
mod kept;
mod rows;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use reactor_model::{Batch, Position};
use reactor_policy_engine::MemberRow;

use super::fanout::TableName;
use super::key::SharedSet;
use kept::KeptTable;
pub(crate) use kept::LOOK_BACK_US;
pub(super) use rows::NamedSets;
pub use rows::SetRows;

/// Rows of one set; what policy reads is limited to as many. A set that grows beyond them is lost, and Postgres is asked
/// about rows instead.
pub const MAX_SET_ROWS: usize = 50_000;

/// Identifies a set within its lane; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(u64);

/// Why a set is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A value that it needs was not sent.
    #[error("a value that it needs was not sent")]
    Value,
    /// Its condition raises an error for a row.
    #[error("its condition raises an error for a row")]
    Condition,
    /// Its table is not as it was.
    #[error("its table was altered")]
    Schema,
    /// Its table changed too fast while it was read.
    #[error("its table changed too fast while it was read")]
    Overrun,
    /// A row was removed of which there may be another that is equal.
    #[error("one of several equal rows was removed")]
    Repeated,
    /// It has more rows than are kept.
    #[error("it has too many rows")]
    TooMany,
    /// Nobody holds it.
    #[error("nobody holds it")]
    Gone,
}

/// Identifies the sets over one table that name its rows by the same columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct TableId(u64);

/// The columns that name a row, and the sets that name rows so.
type ByIdentity = (Vec<String>, TableId);

/// Sets that have their one key from the same column of the same table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Family {
    table: TableId,
    key: String,
}

/// The sets of one lane.
#[derive(Debug, Default)]
pub(super) struct LaneSets {
    ids: HashMap<SharedSet, SetId>,
    holds: HashMap<SetId, Hold>,
    tables: HashMap<TableId, KeptTable>,
    /// By schema and table, and by the columns that name a row.
    table_ids: HashMap<TableName, Vec<ByIdentity>>,
    next_id: u64,
    /// Changes up to here were applied.
    applied: Position,
}

#[derive(Debug)]
struct Hold {
    set: SharedSet,
    table: TableId,
    holders: usize,
}

impl LaneSets {
    /// Whether nobody holds a set.
    pub(super) fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Holds a set for a connection; it must be loaded when it is not ready. `at` is the lane's position, and `recent` gives the
    /// newest batches of a table up to there.
    pub(super) fn hold(
        &mut self,
        set: &SharedSet,
        at: Position,
        recent: impl FnOnce(&str, &str) -> Vec<Arc<Batch>>,
    ) -> (SetId, Arc<SetRows>) {
        if let Some(id) = self.ids.get(set).copied()
            && let Some(hold) = self.holds.get_mut(&id)
            && let Some(rows) = self.tables.get(&hold.table).and_then(|table| table.rows(id))
        {
            hold.holders += 1;
            return (id, Arc::clone(rows));
        }
        let table_id = self.table_id(set, recent);
        let id = SetId(self.next());
        let rows = self.tables.entry(table_id).or_default().begin(id, set.clone(), at);
        self.ids.insert(set.clone(), id);
        self.holds.insert(id, Hold { set: set.clone(), table: table_id, holders: 1 });
        (id, rows)
    }

    fn next(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn table_id(&mut self, set: &SharedSet, recent: impl FnOnce(&str, &str) -> Vec<Arc<Batch>>) -> TableId {
        let fresh = TableId(self.next());
        let known = self.table_ids.entry((set.schema.clone(), set.table.clone())).or_default();
        if let Some((_, id)) = known.iter().find(|(identity, _)| *identity == set.identity) {
            return *id;
        }
        known.push((set.identity.clone(), fresh));
        self.tables.insert(fresh, KeptTable::new(recent(&set.schema, &set.table)));
        fresh
    }

    /// Ends a hold.
    pub(super) fn release(&mut self, id: SetId) {
        let Some(hold) = self.holds.get_mut(&id) else { return };
        hold.holders -= 1;
        if hold.holders == 0 {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: SetId) {
        let Some(hold) = self.holds.remove(&id) else { return };
        self.ids.remove(&hold.set);
        let Some(table) = self.tables.get_mut(&hold.table) else { return };
        table.remove(id);
        if table.is_empty() {
            self.tables.remove(&hold.table);
            let name = (hold.set.schema.clone(), hold.set.table.clone());
            if let Some(known) = self.table_ids.get_mut(&name) {
                known.retain(|(_, id)| *id != hold.table);
                if known.is_empty() {
                    self.table_ids.remove(&name);
                }
            }
        }
    }

    /// A set that is loaded.
    pub(super) fn ready(&self, set: &SharedSet) -> Option<(SetId, &Arc<SetRows>)> {
        let id = *self.ids.get(set)?;
        let table = self.tables.get(&self.holds.get(&id)?.table)?;
        if table.is_ready(id) { Some((id, table.rows(id)?)) } else { None }
    }

    /// Whether a set still has to be loaded.
    pub(super) fn is_loading(&self, id: SetId) -> bool {
        let table = self.holds.get(&id).and_then(|hold| self.tables.get(&hold.table));
        table.is_some_and(|table| !table.is_ready(id))
    }

    /// Takes what was read of a set.
    ///
    /// # Errors
    /// Why it is lost.
    pub(super) fn install(&mut self, id: SetId, rows: &[MemberRow]) -> Result<(), Broken> {
        let table = self.holds.get(&id).and_then(|hold| self.tables.get_mut(&hold.table)).ok_or(Broken::Gone)?;
        let installed = table.install(id, rows);
        if installed.is_err() {
            self.forget(id);
        }
        installed
    }

    /// Whether changes of a table keep a set.
    pub(super) fn are_over(&self, table: &TableName) -> bool {
        self.table_ids.contains_key(table)
    }

    /// Applies some changes of a batch, once; `name` is its table's. Returns whether sets were lost by them.
    pub(super) fn apply(&mut self, batch: &Arc<Batch>, range: Range<usize>, name: &TableName) -> bool {
        let changes = batch.changes.get(range.clone()).unwrap_or_default();
        let Some(last) = changes.last().map(|change| change.position).filter(|last| *last > self.applied) else {
            return false;
        };
        let known = changes.iter().take_while(|change| change.position <= self.applied).count();
        self.applied = last;
        let mut lost = false;
        let Some(ids) = self.table_ids.get(name).cloned() else { return false };
        for (_, table_id) in ids {
            let Some(table) = self.tables.get_mut(&table_id) else { continue };
            for (id, why) in table.apply(batch, range.start + known..range.end) {
                tracing::debug!(%why, table = %name.1, "a policy's set is not known any more");
                self.forget(id);
                lost = true;
            }
        }
        lost
    }

    /// Changes were lost: no set is known any more.
    pub(super) fn lose_all(&mut self, at: Position) {
        self.applied = at;
        for id in self.holds.keys().copied().collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    /// What sets with this one's single key are found by.
    pub(super) fn family(&self, id: SetId) -> Option<Family> {
        let hold = self.holds.get(&id)?;
        match hold.set.keys.as_slice() {
            [key] => Some(Family { table: hold.table, key: key.clone() }),
            _ => None,
        }
    }

    /// The sets of a family that have a value.
    pub(super) fn having(&self, family: &Family, value: &[u8]) -> Option<&BTreeSet<SetId>> {
        self.tables.get(&family.table)?.having(&family.key, value)
    }
}
