//! What Postgres was asked about one batch, and what it said.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use reactor_model::filter::{BoundCondition, Truth};
use reactor_policy_engine::Principal;

/// A row image of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowPlace {
    /// Index of the change.
    pub change: usize,
    /// Whether it is the old row.
    pub old: bool,
}

/// What is not known yet.
#[derive(Default)]
pub struct Questions {
    /// Comparisons of a condition with a value.
    pub comparisons: HashSet<(BoundCondition, String)>,
    /// Rows to be judged, by the key of the policies that give the same answers.
    pub rows: HashMap<String, RowQuestions>,
}

/// Rows to be judged for everybody with the same key.
#[derive(Debug)]
pub struct RowQuestions {
    /// One of them.
    pub principal: Arc<Principal>,
    /// The rows.
    pub places: BTreeSet<RowPlace>,
}

impl Questions {
    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.comparisons.is_empty() && self.rows.is_empty()
    }

    pub(super) fn ask_row(&mut self, check_key: &str, principal: &Arc<Principal>, place: RowPlace) {
        if let Some(known) = self.rows.get_mut(check_key) {
            known.places.insert(place);
            return;
        }
        let questions = RowQuestions { principal: Arc::clone(principal), places: BTreeSet::from([place]) };
        self.rows.insert(check_key.to_owned(), questions);
    }
}

impl fmt::Debug for Questions {
    /// Leaves values and conditions out: row values never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Questions({} comparisons, {} principals)", self.comparisons.len(), self.rows.len())
    }
}

/// The answers for one batch. Empty on the fast lane.
#[derive(Default)]
pub struct Answers {
    comparisons: HashMap<BoundCondition, HashMap<String, Truth>>,
    rows: HashMap<String, HashMap<RowPlace, bool>>,
}

impl fmt::Debug for Answers {
    /// Leaves values and conditions out: row values never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answers({} conditions, {} principals)", self.comparisons.len(), self.rows.len())
    }
}

impl Answers {
    /// Records a comparison.
    pub fn insert(&mut self, condition: BoundCondition, value: String, truth: Truth) {
        self.comparisons.entry(condition).or_default().insert(value, truth);
    }

    /// Records whether a row is visible.
    pub fn insert_row(&mut self, check_key: &str, place: RowPlace, visible: bool) {
        if let Some(known) = self.rows.get_mut(check_key) {
            known.insert(place, visible);
            return;
        }
        self.rows.insert(check_key.to_owned(), HashMap::from([(place, visible)]));
    }

    /// A comparison's result, when it was asked for.
    #[must_use]
    pub fn get(&self, condition: &BoundCondition, value: &str) -> Option<Truth> {
        self.comparisons.get(condition)?.get(value).copied()
    }

    /// Whether a row is visible, when it was asked for.
    #[must_use]
    pub fn row(&self, check_key: &str, place: RowPlace) -> Option<bool> {
        self.rows.get(check_key)?.get(&place).copied()
    }
}
