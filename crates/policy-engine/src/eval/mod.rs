//! Whether a policy lets a row be seen: what a predicate says of a row image, exactly as Postgres would say it.
//!
//! What is not provably judged as Postgres would is [`Verdict::Ask`]. A value that is not of the form that its type
//! prints cannot come from Postgres; it counts as raising, so that such a row is never delivered.

mod array;
mod cast;
mod compare;
mod compile;
mod expr;
mod index;
mod json;
mod like;
mod node;
mod printed;
mod scalar;
mod types;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use reactor_model::Relation;
pub use reactor_model::filter::{IndexKey, RowImage};
use reactor_model::filter::{SchemaMismatch, Truth};

use crate::program::Predicate;
use compile::Compiler;
use node::Node;
pub(crate) use printed::printed;

/// What is known of a predicate's truth for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// True: the row may be seen.
    True,
    /// False.
    False,
    /// Unknown (NULL), or false: for a whole predicate both mean that the row may not be seen.
    Unknown,
    /// Only Postgres knows.
    Ask,
    /// It depends on a value that the image lacks.
    Missing,
    /// Evaluation raises an error: the row may not be seen.
    Raised,
}

impl From<Truth> for Verdict {
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::True => Self::True,
            Truth::False => Self::False,
            Truth::Unknown => Self::Unknown,
        }
    }
}

/// The sets of a policy, as they are at the row's position.
pub trait Sets {
    /// Looks values up in a set, one for each of its keys.
    fn lookup(&self, set: usize, values: &[Option<&[u8]>]) -> Lookup;
}

/// What a set has for some values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Whether a row has exactly these values as its keys, none of them NULL.
    pub found: bool,
    /// Whether it has any row.
    pub any_row: bool,
    /// Whether a key of any row is NULL.
    pub any_null_key: bool,
}

/// A predicate ready to be evaluated against rows of one relation version.
#[derive(Clone)]
pub struct CompiledPredicate {
    root: Node,
    may_ask: bool,
}

impl fmt::Debug for CompiledPredicate {
    /// Leaves the predicate out: its literals hold claims, which never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledPredicate").field("may_ask", &self.may_ask).finish_non_exhaustive()
    }
}

impl Predicate {
    /// Makes the predicate ready for rows of this relation version.
    ///
    /// # Errors
    /// [`SchemaMismatch`] when a column is gone or has another type than when the policy was read.
    pub fn compile(&self, relation: &Relation) -> Result<CompiledPredicate, SchemaMismatch> {
        let mut root = Compiler::new(relation).predicate(self)?;
        if root.may_ask() {
            root = root.for_filter();
        }
        Ok(CompiledPredicate { may_ask: root.may_ask(), root })
    }
}

impl CompiledPredicate {
    /// Evaluates against a row image.
    #[must_use]
    pub fn evaluate(&self, row: &RowImage<'_>, sets: &dyn Sets) -> Verdict {
        self.root.judge(&Scope { row: *row, sets }, Purpose::Filter)
    }

    /// Whether some row can lead to [`Verdict::Ask`].
    #[must_use]
    pub const fn may_ask(&self) -> bool {
        self.may_ask
    }

    /// Keys of which a row must have one to be seen, whatever Postgres would answer; `None` when there are no such, and
    /// empty when no row can be seen. A row that lacks the value of a key's column may have any of the column's keys: it
    /// must be evaluated too, and can be [`Verdict::Missing`].
    #[must_use]
    pub fn index_keys(&self) -> Option<Vec<IndexKey>> {
        self.root.index_keys()
    }

    /// Indexes of the columns that evaluation reads.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<usize> {
        let mut columns = BTreeSet::new();
        self.root.collect_columns(&mut columns);
        columns
    }
}

/// What an evaluation has at hand.
struct Scope<'a> {
    row: RowImage<'a>,
    sets: &'a dyn Sets,
}

/// What a truth value is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To know whether the row is seen: it is not when this is false, unknown, or raises.
    Filter,
    /// One of several alternatives: false and unknown are the same, but what raises keeps those after it from being seen.
    Alternative,
    /// The value itself.
    Value,
}

impl Purpose {
    /// What the operand of `IS value` is wanted for.
    fn within_is(self, value: Truth, negated: bool) -> Self {
        match (value, negated, self) {
            (Truth::True, false, Self::Filter) => Self::Filter,
            // It is not asked whether it is false or unknown.
            (Truth::True, ..) => Self::Alternative,
            _ => Self::Value,
        }
    }
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Ask,
    Missing,
    Raised,
}

impl Stop {
    /// The reason when two operands are both evaluated and both have none: an error is one, whatever the other is.
    const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Raised, _) | (_, Self::Raised) => Self::Raised,
            (Self::Ask, _) | (_, Self::Ask) => Self::Ask,
            (Self::Missing, Self::Missing) => Self::Missing,
        }
    }
}

impl From<Stop> for Verdict {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Ask => Self::Ask,
            Stop::Missing => Self::Missing,
            Stop::Raised => Self::Raised,
        }
    }
}
