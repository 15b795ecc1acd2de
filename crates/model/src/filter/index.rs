//! What a row must have for a condition to be true, so that conditions can be found by a row's values.

use super::Truth;
use super::compile::{Atom, Test};
use super::eval::{CompiledFilter, Node};

/// Keys of one condition; more are no longer an index but a list of everything.
const MAX_KEYS: usize = 1024;

/// Something that a row may have.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexKey {
    /// A column's value in text form.
    Value {
        /// The column's index.
        column: usize,
        /// The text.
        text: Box<[u8]>,
    },
    /// A column's value that is the one key of a row of a policy's set.
    Set {
        /// The column's index.
        column: usize,
        /// The set's index in the policy.
        set: usize,
    },
}

impl std::fmt::Debug for IndexKey {
    /// Leaves the text out: it may be a claim, which never reaches logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value { column, .. } => write!(f, "Value(column {column})"),
            Self::Set { column, set } => write!(f, "Set(column {column}, set {set})"),
        }
    }
}

impl IndexKey {
    /// Keys of a conjunction, each part's being given: those of the part with the fewest, and without sets if there is one.
    #[must_use]
    pub fn of_all(parts: impl IntoIterator<Item = Option<Vec<Self>>>) -> Option<Vec<Self>> {
        parts.into_iter().flatten().min_by_key(|keys| {
            let sets = keys.iter().filter(|key| matches!(key, Self::Set { .. })).count();
            (sets, keys.len())
        })
    }

    /// Keys of a disjunction: those of all parts; `None` when a part has none, or when they are too many.
    #[must_use]
    pub fn of_any(parts: impl IntoIterator<Item = Option<Vec<Self>>>) -> Option<Vec<Self>> {
        let mut keys = Vec::new();
        for part in parts {
            keys.extend(part?);
        }
        keys.sort_unstable();
        keys.dedup();
        (keys.len() <= MAX_KEYS).then_some(keys)
    }
}

impl CompiledFilter {
    /// Keys of which a row must have one to satisfy the filter, whatever the answers to its questions; `None` when there
    /// are no such. A row that lacks the value of a key's column does not satisfy the filter.
    #[must_use]
    pub fn index_keys(&self) -> Option<Vec<IndexKey>> {
        self.root.index_keys()
    }

    /// Indexes of the columns that evaluation reads, in order and each once.
    #[must_use]
    pub fn columns(&self) -> std::collections::BTreeSet<usize> {
        let mut columns = std::collections::BTreeSet::new();
        self.root.for_each_atom(&mut |atom| {
            columns.insert(atom.column);
        });
        columns
    }
}

impl Node {
    fn index_keys(&self) -> Option<Vec<IndexKey>> {
        match self {
            Self::And(parts) => IndexKey::of_all(parts.iter().map(Self::index_keys)),
            Self::Or(parts) => IndexKey::of_any(parts.iter().map(Self::index_keys)),
            Self::Atom(atom) => atom.index_keys(),
        }
    }

    fn for_each_atom(&self, visit: &mut dyn FnMut(&Atom)) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.for_each_atom(visit)),
            Self::Atom(atom) => visit(atom),
        }
    }
}

impl Atom {
    fn index_keys(&self) -> Option<Vec<IndexKey>> {
        if self.inverted || self.on_null == Truth::True || self.on_withheld == Truth::True {
            return None;
        }
        match &self.test {
            Test::AnyOf(values) => {
                let key = |text: Box<[u8]>| IndexKey::Value { column: self.column, text };
                IndexKey::of_any([Some(values.iter().cloned().map(key).collect())])
            }
            Test::Always(false) => Some(Vec::new()),
            Test::Always(true)
            | Test::EqualToAny(_)
            | Test::Jsonb(_)
            | Test::Ordered(..)
            | Test::Like(_)
            | Test::Ilike(_)
            | Test::Regex(_)
            | Test::AsciiRegex(_)
            | Test::Ask => None,
        }
    }
}
