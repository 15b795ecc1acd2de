//! The sets over one table, kept current by its changes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use reactor_model::filter::{IndexKey, RowImage, RowValue};
use reactor_model::{Batch, Change, ChangeKind, Position, Relation};
use reactor_policy_engine::MemberRow;

use super::condition::{Compiled, Identity, push_identity};
use super::rows::{Keys, SetRows, joined};
use super::{Broken, MAX_SET_ROWS, SetId};
use crate::hub::key::SharedSet;

/// How far back in commit time changes of a table are kept, and searched for, for sets that are being loaded: a commit is in the
/// log before other sessions see it, and so before a set that is read sees it. With a standby that commits wait for, that takes
/// a while.
pub(crate) const LOOK_BACK_US: i64 = 10_000_000;
/// Bytes of batches that are kept for that. What is older is dropped, and a set whose loading began before it is lost.
const LOOK_BACK_BYTES: usize = 32 * 1024 * 1024;

/// The sets over one table that name its rows by the same columns.
#[derive(Default)]
pub(super) struct KeptTable {
    relation: Option<(u64, Arc<Relation>)>,
    /// The newest batches of the table, in order and all of the present relation version.
    recent: VecDeque<Arc<Batch>>,
    /// No batch of the table after this is missing in `recent`.
    recent_after: Position,
    recent_bytes: usize,
    sets: HashMap<SetId, KeptSet>,
    /// Which sets have a row.
    holders: HashMap<Identity, BTreeSet<SetId>>,
    /// For sets with one key: by its column, which sets have a value.
    by_value: HashMap<String, HashMap<Arc<[u8]>, BTreeSet<SetId>>>,
    /// Sets that a row can only be in with one of these values, by column.
    index: HashMap<usize, HashMap<Box<[u8]>, BTreeSet<SetId>>>,
    /// The others.
    rest: BTreeSet<SetId>,
}

struct KeptSet {
    set: SharedSet,
    rows: Arc<SetRows>,
    /// For the table's relation version; `None` until a batch has shown it, or while the set is being loaded.
    compiled: Option<Compiled>,
    /// By identity the keys, and whether several equal rows may stand behind it.
    held: HashMap<Identity, (Keys, bool)>,
    /// While it is being loaded: the lane's position when that began.
    loading_since: Option<Position>,
}

impl fmt::Debug for KeptTable {
    /// Leaves identities and values out: row values never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sets, rows, recent) = (self.sets.len(), self.holders.len(), self.recent.len());
        write!(f, "KeptTable({sets} sets, {rows} rows, {recent} recent batches)")
    }
}

impl KeptTable {
    /// Begins with what the ring has of the table.
    pub(super) fn new(recent: Vec<Arc<Batch>>) -> Self {
        let mut table = Self::default();
        for batch in recent {
            table.adopt(&batch);
            table.remember(&batch);
        }
        table
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Adds a set that is about to be loaded.
    pub(super) fn begin(&mut self, id: SetId, set: SharedSet, since: Position) -> Arc<SetRows> {
        let rows = Arc::new(SetRows::default());
        let kept =
            KeptSet { set, rows: Arc::clone(&rows), compiled: None, held: HashMap::new(), loading_since: Some(since) };
        self.sets.insert(id, kept);
        rows
    }

    pub(super) fn is_ready(&self, id: SetId) -> bool {
        self.sets.get(&id).is_some_and(|kept| kept.loading_since.is_none())
    }

    pub(super) fn rows(&self, id: SetId) -> Option<&Arc<SetRows>> {
        self.sets.get(&id).map(|kept| &kept.rows)
    }

    /// The sets that have a value as their key in this column.
    pub(super) fn having(&self, key: &str, value: &[u8]) -> Option<&BTreeSet<SetId>> {
        self.by_value.get(key)?.get(value)
    }

    /// Takes what was read of a set, and applies the changes that may have been too new for that.
    pub(super) fn install(&mut self, id: SetId, rows: &[MemberRow]) -> Result<(), Broken> {
        let Some(kept) = self.sets.get_mut(&id) else { return Err(Broken::Gone) };
        if kept.loading_since.is_none() {
            return Ok(());
        }
        let begun = kept.loading_since.take().unwrap_or_default();
        if let Some((_, relation)) = &self.relation {
            kept.compiled = Some(Compiled::new(&kept.set, relation).ok_or(Broken::Schema)?);
        }
        for row in rows {
            let mut identity = Vec::new();
            row.identity.iter().for_each(|value| push_identity(&mut identity, value.as_deref().map(str::as_bytes)));
            let keys = joined(row.keys.iter().map(|value| value.as_deref().map(str::as_bytes)), row.keys.len());
            self.put(id, identity.into(), keys.map(Into::into))?;
        }
        if self.recent_after > begun {
            return Err(Broken::Overrun);
        }
        for batch in self.recent.clone() {
            for change in &batch.changes {
                self.change_one(id, change)?;
            }
        }
        self.enter_index(id);
        Ok(())
    }

    /// Removes a set.
    pub(super) fn remove(&mut self, id: SetId) {
        self.leave_index(id);
        let Some(kept) = self.sets.remove(&id) else { return };
        kept.rows.lose();
        for (identity, (keys, _)) in &kept.held {
            remove_from(&mut self.holders, identity, id);
            if let (Some(keys), [column]) = (keys, kept.set.keys.as_slice())
                && let Some(by_value) = self.by_value.get_mut(column)
            {
                remove_from(by_value, keys, id);
            }
        }
    }

    /// Applies changes of the table to all of its sets. Returns those that are no longer known, and why.
    pub(super) fn apply(&mut self, batch: &Arc<Batch>, range: Range<usize>) -> Vec<(SetId, Broken)> {
        let mut broken = self.adopt(batch);
        if self.recent.back().is_none_or(|newest| !Arc::ptr_eq(newest, batch)) {
            self.remember(batch);
        }
        for change in batch.changes.get(range).unwrap_or_default() {
            if change.kind == ChangeKind::Truncate {
                self.clear();
                continue;
            }
            for id in self.concerned(change) {
                if let Err(why) = self.change_one(id, change) {
                    broken.push((id, why));
                    self.leave_index(id);
                }
            }
        }
        broken
    }

    fn remember(&mut self, batch: &Arc<Batch>) {
        self.recent_bytes += batch.encoded_bytes;
        self.recent.push_back(Arc::clone(batch));
        let newest = batch.changes.last().map_or(0, |change| change.commit_time_us);
        let needed_from = self.sets.values().filter_map(|kept| kept.loading_since).min();
        while let Some(oldest) = self.recent.front() {
            let committed = oldest.changes.last().map_or(0, |change| change.commit_time_us);
            let is_needed = committed > newest - LOOK_BACK_US || needed_from.is_some_and(|from| oldest.last > from);
            if (is_needed && self.recent_bytes <= LOOK_BACK_BYTES) || self.recent.len() == 1 {
                return;
            }
            self.recent_bytes -= oldest.encoded_bytes;
            self.recent_after = self.recent_after.max(oldest.last);
            self.recent.pop_front();
        }
    }

    /// Prepares the sets for the relation version of a batch.
    fn adopt(&mut self, batch: &Batch) -> Vec<(SetId, Broken)> {
        let Some(relation) = &batch.relation else { return Vec::new() };
        if self.relation.as_ref().is_some_and(|(known, _)| *known == batch.fingerprint) {
            return Vec::new();
        }
        let known = self.relation.replace((batch.fingerprint, Arc::clone(relation)));
        if known.is_some() {
            self.recent.clear();
            self.recent_bytes = 0;
            self.recent_after = batch.previous;
        }
        // The condition holds the table's own policies, or none of them where there was no row-level security.
        let is_other = known.is_some_and(|(_, known)| known.row_security != relation.row_security);
        self.index.clear();
        self.rest.clear();
        let ready = self.sets.iter().filter(|(_, kept)| kept.loading_since.is_none()).map(|(id, _)| *id);
        let mut broken = Vec::new();
        for id in ready.collect::<Vec<_>>() {
            let Some(kept) = self.sets.get_mut(&id) else { continue };
            kept.compiled = if is_other { None } else { Compiled::new(&kept.set, relation) };
            if kept.compiled.is_some() {
                self.enter_index(id);
            } else {
                broken.push((id, Broken::Schema));
            }
        }
        broken
    }

    fn enter_index(&mut self, id: SetId) {
        let Some(compiled) = self.sets.get(&id).and_then(|kept| kept.compiled.as_ref()) else { return };
        match &compiled.index {
            None => {
                self.rest.insert(id);
            }
            Some(keys) => {
                for key in keys {
                    if let IndexKey::Value { column, text } = key {
                        self.index.entry(*column).or_default().entry(text.clone()).or_default().insert(id);
                    }
                }
            }
        }
    }

    fn leave_index(&mut self, id: SetId) {
        self.rest.remove(&id);
        let Some(compiled) = self.sets.get(&id).and_then(|kept| kept.compiled.as_ref()) else { return };
        for key in compiled.index.iter().flatten() {
            if let IndexKey::Value { column, text } = key
                && let Some(by_value) = self.index.get_mut(column)
            {
                remove_from(by_value, text, id);
            }
        }
    }

    fn clear(&mut self) {
        self.holders.clear();
        self.by_value.clear();
        for kept in self.sets.values_mut() {
            kept.held.clear();
            kept.rows.clear();
        }
    }

    /// The sets that a change may concern: those that have the row, and those that its new values may bring it into.
    fn concerned(&self, change: &Change) -> BTreeSet<SetId> {
        let mut found = self.rest.clone();
        if let Some(new) = RowImage::after(change) {
            for (column, by_value) in &self.index {
                match new.value(*column) {
                    RowValue::Text(text) => found.extend(by_value.get(text).into_iter().flatten()),
                    RowValue::Null => {}
                    // It may be in any of them.
                    RowValue::Missing | RowValue::Withheld => found.extend(by_value.values().flatten()),
                }
            }
        }
        if let Some(compiled) = self.sets.values().find_map(|kept| kept.compiled.as_ref()) {
            let images = [compiled.before(change), RowImage::after(change)];
            for identity in images.iter().flatten().filter_map(|image| compiled.identity(image).ok()) {
                found.extend(self.holders.get(&identity).into_iter().flatten());
            }
        }
        found
    }

    /// Applies a change to one set, which may have seen it already.
    fn change_one(&mut self, id: SetId, change: &Change) -> Result<(), Broken> {
        let Some(kept) = self.sets.get(&id) else { return Ok(()) };
        if change.kind == ChangeKind::Truncate {
            let held: Vec<Identity> = kept.held.keys().cloned().collect();
            for identity in held {
                self.take(id, &identity);
            }
            return Ok(());
        }
        // Without a relation version there was no batch, and so no change.
        let Some(compiled) = &kept.compiled else { return Ok(()) };
        let may_repeat = compiled.may_repeat;
        let entering = match RowImage::after(change) {
            Some(row) if compiled.has(&row)? => Some((compiled.identity(&row)?, compiled.keys(&row)?)),
            Some(_) | None => None,
        };
        // An UPDATE without an old image has left the identity alone.
        let leaving = match (compiled.before(change), RowImage::after(change)) {
            (Some(old), _) => Some(compiled.identity(&old)?),
            (None, Some(new)) if change.kind == ChangeKind::Update => Some(compiled.identity(&new)?),
            (None, _) => None,
        };
        if let Some(leaving) = leaving
            && entering.as_ref().is_none_or(|(identity, _)| *identity != leaving)
        {
            self.leave(id, &leaving, may_repeat)?;
        }
        match entering {
            Some((identity, keys)) => self.put(id, identity, keys),
            None => Ok(()),
        }
    }

    /// Takes a row out. Of several equal rows it cannot be known whether it was the last.
    fn leave(&mut self, id: SetId, identity: &Identity, may_repeat: bool) -> Result<(), Broken> {
        match self.take(id, identity) {
            Some(repeated) if repeated && may_repeat => Err(Broken::Repeated),
            Some(_) | None => Ok(()),
        }
    }

    fn take(&mut self, id: SetId, identity: &Identity) -> Option<bool> {
        let kept = self.sets.get_mut(&id)?;
        let (keys, repeated) = kept.held.remove(identity)?;
        if kept.rows.remove(&keys)
            && let (Some(keys), [column]) = (&keys, kept.set.keys.as_slice())
            && let Some(by_value) = self.by_value.get_mut(column)
        {
            remove_from(by_value, keys, id);
        }
        remove_from(&mut self.holders, identity, id);
        Some(repeated)
    }

    fn put(&mut self, id: SetId, identity: Identity, keys: Keys) -> Result<(), Broken> {
        let repeated = self.take(id, &identity).is_some();
        let Some(kept) = self.sets.get_mut(&id) else { return Ok(()) };
        if kept.held.len() >= MAX_SET_ROWS {
            return Err(Broken::TooMany);
        }
        if kept.rows.add(&keys)
            && let (Some(keys), [column]) = (&keys, kept.set.keys.as_slice())
        {
            if !self.by_value.contains_key(column) {
                self.by_value.insert(column.clone(), HashMap::new());
            }
            if let Some(by_value) = self.by_value.get_mut(column) {
                by_value.entry(Arc::clone(keys)).or_default().insert(id);
            }
        }
        kept.held.insert(Arc::clone(&identity), (keys, repeated));
        self.holders.entry(identity).or_default().insert(id);
        Ok(())
    }
}

fn remove_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<SetId>>, key: &K, id: SetId) {
    if let Some(ids) = map.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}
