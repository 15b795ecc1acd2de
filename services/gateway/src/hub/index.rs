//! Which groups a row may concern, by its values.
//!
//! A group is found by values of which a row must have one: of its filter, its policy or its organisation, whichever has
//! fewest others at the time. Cost follows what is found, not what is subscribed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use reactor_model::filter::IndexKey;

use super::compiled::IndexOption;
use super::sets::{Family, LaneSets, SetId};

pub(super) type GroupId = u64;

/// Groups whose verdict depends on the same columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ColumnsId(pub(super) u32);

type Posting = (ColumnsId, GroupId);

/// Groups in order. Most values are wanted by one.
#[derive(Default)]
enum Postings {
    #[default]
    None,
    One(Posting),
    Many(BTreeSet<Posting>),
}

impl Postings {
    fn insert(&mut self, posting: Posting) {
        match self {
            Self::None => *self = Self::One(posting),
            Self::One(known) if *known == posting => {}
            Self::One(known) => *self = Self::Many(BTreeSet::from([*known, posting])),
            Self::Many(all) => {
                all.insert(posting);
            }
        }
    }

    fn remove(&mut self, posting: Posting) {
        match self {
            Self::One(known) if *known == posting => *self = Self::None,
            Self::Many(all) => {
                all.remove(&posting);
                if all.is_empty() {
                    *self = Self::None;
                }
            }
            Self::None | Self::One(_) => {}
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(all) => all.len(),
        }
    }

    const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    fn iter(&self) -> impl Iterator<Item = &Posting> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(one) => (Some(one), None),
            Self::Many(all) => (None, Some(all)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

impl fmt::Debug for Postings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} groups", self.len())
    }
}

/// Where a group is entered.
#[derive(Debug, Default)]
pub(super) struct Entry {
    columns: Option<ColumnsId>,
    /// `None`: every row may concern it.
    keys: Option<Vec<EntryKey>>,
    by_policy: bool,
}

#[derive(Clone, Debug)]
enum EntryKey {
    Value { column: usize, value: ValueHash },
    Set { column: usize, family: Family, set: SetId },
}

/// A value by its hash: the values themselves, which may be claims, are held by the groups that want them. A group that is
/// found by another value with the same hash is judged like any other, and does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ValueHash(u64);

impl EntryKey {
    const fn column(&self) -> usize {
        match self {
            Self::Value { column, .. } | Self::Set { column, .. } => *column,
        }
    }
}

/// Groups by what a row must have to concern them.
#[derive(Debug, Default)]
pub(super) struct Index {
    hashing: RandomState,
    columns: BTreeMap<usize, ColumnIndex>,
    /// Groups that every row may concern.
    rest: Postings,
}

#[derive(Default)]
struct ColumnIndex {
    values: HashMap<ValueHash, Postings>,
    sets: HashMap<Family, HashMap<SetId, Postings>>,
    /// Groups that a row without a value here may concern, too.
    unheld: Postings,
}

impl fmt::Debug for ColumnIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets: usize = self.sets.values().map(HashMap::len).sum();
        write!(f, "ColumnIndex({} values, {sets} sets)", self.values.len())
    }
}

impl ColumnIndex {
    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.sets.is_empty() && self.unheld.is_empty()
    }
}

/// Groups by the columns that their verdict depends on.
pub(super) type Found = BTreeMap<ColumnsId, Vec<GroupId>>;

impl Index {
    /// Enters a group by the best of its options. `sets` are those of its policy.
    pub(super) fn insert(
        &mut self,
        id: GroupId,
        columns: ColumnsId,
        options: Vec<IndexOption>,
        sets: &[(SetId, Option<Family>)],
    ) -> Entry {
        let resolved = options.into_iter().filter_map(|option| {
            let keys: Option<Vec<EntryKey>> = option.keys.into_iter().map(|key| self.resolve(key, sets)).collect();
            Some((keys?, option.by_policy))
        });
        let best = resolved.min_by_key(|(keys, _)| (keys.iter().map(|key| self.crowd(key)).max(), keys.len()));
        let Some((keys, by_policy)) = best else {
            self.rest.insert((columns, id));
            return Entry { columns: Some(columns), keys: None, by_policy: false };
        };
        for key in &keys {
            let index = self.columns.entry(key.column()).or_default();
            match key {
                EntryKey::Value { value, .. } => index.values.entry(*value).or_default().insert((columns, id)),
                EntryKey::Set { family, set, .. } => {
                    let sets = index.sets.entry(family.clone()).or_default();
                    sets.entry(*set).or_default().insert((columns, id));
                }
            }
            if by_policy {
                index.unheld.insert((columns, id));
            }
        }
        Entry { columns: Some(columns), keys: Some(keys), by_policy }
    }

    /// About how many groups a row with the key's value would find. Of sets it is not known how many have a value: they come
    /// after values that few share.
    fn crowd(&self, key: &EntryKey) -> usize {
        let Some(index) = self.columns.get(&key.column()) else { return 0 };
        match key {
            EntryKey::Value { value, .. } => index.values.get(value).map_or(0, Postings::len),
            EntryKey::Set { .. } => SET_CROWD,
        }
    }

    /// Removes a group from where it was entered.
    pub(super) fn remove(&mut self, id: GroupId, entry: &Entry) {
        let Some(columns) = entry.columns else { return };
        let Some(keys) = &entry.keys else {
            self.rest.remove((columns, id));
            return;
        };
        for key in keys {
            let Some(index) = self.columns.get_mut(&key.column()) else { continue };
            match key {
                EntryKey::Value { value, .. } => remove_from(&mut index.values, value, (columns, id)),
                EntryKey::Set { family, set, .. } => {
                    if let Some(sets) = index.sets.get_mut(family) {
                        remove_from(sets, set, (columns, id));
                        if sets.is_empty() {
                            index.sets.remove(family);
                        }
                    }
                }
            }
            if entry.by_policy {
                index.unheld.remove((columns, id));
            }
            if index.is_empty() {
                self.columns.remove(&key.column());
            }
        }
    }

    fn resolve(&self, key: IndexKey, sets: &[(SetId, Option<Family>)]) -> Option<EntryKey> {
        match key {
            IndexKey::Value { column, text } => Some(EntryKey::Value { column, value: self.hash(&text) }),
            IndexKey::Set { column, set } => {
                let (set, family) = sets.get(set)?;
                Some(EntryKey::Set { column, family: family.clone()?, set: *set })
            }
        }
    }

    fn hash(&self, value: &[u8]) -> ValueHash {
        ValueHash(self.hashing.hash_one(value))
    }

    /// The columns by which groups are found.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> {
        self.columns.keys().copied()
    }

    /// Groups that every row may concern.
    pub(super) fn rest(&self) -> Found {
        by_columns(self.rest.iter())
    }

    /// Groups that a row may concern that lacks a value in this column.
    pub(super) fn unheld(&self, column: usize) -> Found {
        self.columns.get(&column).map(|index| by_columns(index.unheld.iter())).unwrap_or_default()
    }

    /// Groups that a row with this value may concern.
    pub(super) fn having(&self, column: usize, value: &[u8], sets: &LaneSets) -> Found {
        let Some(index) = self.columns.get(&column) else { return Found::new() };
        let mut found = by_columns(index.values.get(&self.hash(value)).into_iter().flat_map(Postings::iter));
        for (family, by_set) in &index.sets {
            for set in sets.having(family, value).into_iter().flatten() {
                for (columns, id) in by_set.get(set).into_iter().flat_map(Postings::iter) {
                    found.entry(*columns).or_default().push(*id);
                }
            }
        }
        found
    }
}

/// Groups that share a value before those are looked up by their sets instead.
const SET_CROWD: usize = 16;

fn by_columns<'a>(postings: impl Iterator<Item = &'a Posting>) -> Found {
    let mut found = Found::new();
    for (columns, id) in postings {
        found.entry(*columns).or_default().push(*id);
    }
    found
}

fn remove_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Postings>, key: &K, posting: Posting) {
    if let Some(postings) = map.get_mut(key) {
        postings.remove(posting);
        if postings.is_empty() {
            map.remove(key);
        }
    }
}
