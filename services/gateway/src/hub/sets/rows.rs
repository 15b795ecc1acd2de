//! What one set holds, for lookups by everybody who has it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use reactor_policy_engine::{Lookup, Sets};

/// A row's values of a set's key columns as one text; `None` when one of them is NULL.
pub(super) type Keys = Option<Arc<[u8]>>;

/// The values that a set holds.
#[derive(Debug, Default)]
pub struct SetRows {
    values: RwLock<Values>,
}

#[derive(Default)]
struct Values {
    /// Rows without NULL keys, by them.
    rows: HashMap<Arc<[u8]>, usize>,
    /// Rows with a NULL key.
    with_null: usize,
    /// Whether the set is not kept any more.
    lost: bool,
}

impl std::fmt::Debug for Values {
    /// Leaves the values out: row values never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Values").field("rows", &self.rows.len()).field("with_null", &self.with_null).finish()
    }
}

/// Values as one text: a single one as it is, several each with its length before it.
pub(super) fn joined<'a>(values: impl IntoIterator<Item = Option<&'a [u8]>>, count: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for value in values {
        let value = value?;
        if count > 1 {
            out.extend_from_slice(&(value.len() as u64).to_be_bytes());
        }
        out.extend_from_slice(value);
    }
    Some(out)
}

impl SetRows {
    fn write<T>(&self, change: impl FnOnce(&mut Values) -> T) -> T {
        change(&mut self.values.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a row; whether it is the first with these keys.
    pub(super) fn add(&self, keys: &Keys) -> bool {
        self.write(|values| {
            let Some(keys) = keys else {
                values.with_null += 1;
                return false;
            };
            let count = values.rows.entry(Arc::clone(keys)).or_default();
            *count += 1;
            *count == 1
        })
    }

    /// Removes a row; whether it was the last with these keys.
    pub(super) fn remove(&self, keys: &Keys) -> bool {
        self.write(|values| {
            let Some(keys) = keys else {
                values.with_null = values.with_null.saturating_sub(1);
                return false;
            };
            let Some(count) = values.rows.get_mut(keys) else { return false };
            *count -= 1;
            let is_last = *count == 0;
            if is_last {
                values.rows.remove(keys);
            }
            is_last
        })
    }

    pub(super) fn clear(&self) {
        self.write(|values| {
            values.rows.clear();
            values.with_null = 0;
        });
    }

    pub(super) fn lose(&self) {
        self.write(|values| values.lost = true);
    }

    /// Whether the set is not kept any more, so that what it held has no meaning.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.values.read().unwrap_or_else(PoisonError::into_inner).lost
    }

    fn lookup(&self, keys: &[Option<&[u8]>]) -> Lookup {
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        let found = match keys {
            [] => !values.rows.is_empty(),
            [Some(only)] => values.rows.contains_key(*only),
            [None] => false,
            several => {
                joined(several.iter().copied(), several.len()).is_some_and(|keys| values.rows.contains_key(&*keys))
            }
        };
        let any_null_key = values.with_null > 0;
        Lookup { found, any_row: any_null_key || !values.rows.is_empty(), any_null_key }
    }
}

/// The sets of a policy by their index in it. One that is not there holds nothing: it is never used to decide.
pub(in crate::hub) struct NamedSets<'a>(pub(in crate::hub) &'a [Arc<SetRows>]);

impl Sets for NamedSets<'_> {
    fn lookup(&self, set: usize, values: &[Option<&[u8]>]) -> Lookup {
        self.0.get(set).map(|rows| rows.lookup(values)).unwrap_or_default()
    }
}
