//! Filters: what a subscriber asks for, and whether a row satisfies it, with Postgres's own results.
//!
//! A [`Filter`] is the parsed text. Binding it to a relation gives a [`BoundFilter`], whose operands are in the form in
//! which the column's type prints them. Compiling that for a relation version gives a `CompiledFilter`, which is evaluated
//! against rows: the result is one of SQL's three truth values, or the comparisons that only Postgres can make.

mod bind;
pub mod compare;
mod compile;
mod display;
mod error;
mod eval;
mod family;
mod index;
mod native;
mod parse;
mod row;
mod split;

pub use bind::operator_is_applicable;
pub use error::{FilterError, SchemaMismatch};
pub use eval::{CompiledFilter, Outcome, Question};
pub use index::IndexKey;
pub use row::{RowImage, RowValue};

/// SQL's three truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    /// True.
    True,
    /// False.
    False,
    /// Unknown (NULL).
    Unknown,
}

/// A filter as parsed, not yet bound to column types.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// All of these; empty is "every row".
    And(Vec<Filter>),
    /// Any of these.
    Or(Vec<Filter>),
    /// One comparison of a column.
    Condition(Condition),
}

/// One comparison of a column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The column's name.
    pub column: String,
    /// Whether `not.` stands before the operator.
    pub negated: bool,
    /// The operator and operand.
    pub operation: Operation,
}

/// An operator with its operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The operator.
    pub operator: Operator,
    /// What the column is compared with.
    pub operand: Operand,
}

/// The thirteen operators of the filter grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`
    Eq,
    /// `<>`
    Neq,
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `= ANY (…)`
    In,
    /// `LIKE`
    Like,
    /// `ILIKE`
    Ilike,
    /// `IS NULL`, `IS TRUE`, `IS FALSE`, `IS UNKNOWN`
    Is,
    /// `~`
    Match,
    /// `~*`
    Imatch,
    /// `IS DISTINCT FROM`
    IsDistinct,
}

/// What a column is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// One value in text form.
    Text(String),
    /// The values of `in`.
    List(Vec<String>),
    /// The keyword of `is`.
    Keyword(IsKeyword),
}

/// The keyword after `is`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IsKeyword {
    /// `NULL`
    Null,
    /// `TRUE`
    True,
    /// `FALSE`
    False,
    /// `UNKNOWN`
    Unknown,
}

/// A filter whose operands are in the column types' own text form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BoundFilter {
    /// All of these; empty is "every row".
    And(Vec<BoundFilter>),
    /// Any of these.
    Or(Vec<BoundFilter>),
    /// One comparison.
    Condition(BoundCondition),
}

/// A condition with the type that its operand was made canonical for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BoundCondition {
    /// The condition, its operand as the type prints it.
    pub condition: Condition,
    /// Oid of the column's type at binding. A relation version with another type cannot use this.
    pub type_oid: u32,
    /// The column's type modifier at binding.
    pub type_mod: i32,
}

impl Operator {
    /// The operators as the grammar writes them, for messages.
    pub const LIST: &'static str = "eq, neq, lt, lte, gt, gte, in, like, ilike, is, match, imatch, isdistinct";

    /// The operators in the order of [`Self::LIST`].
    pub const ALL: [Self; 13] = [
        Self::Eq,
        Self::Neq,
        Self::Lt,
        Self::Lte,
        Self::Gt,
        Self::Gte,
        Self::In,
        Self::Like,
        Self::Ilike,
        Self::Is,
        Self::Match,
        Self::Imatch,
        Self::IsDistinct,
    ];

    /// The operator's name in the grammar.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Neq => "neq",
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::In => "in",
            Self::Like => "like",
            Self::Ilike => "ilike",
            Self::Is => "is",
            Self::Match => "match",
            Self::Imatch => "imatch",
            Self::IsDistinct => "isdistinct",
        }
    }

    /// The operator with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.name() == name)
    }
}

impl std::fmt::Display for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl IsKeyword {
    /// The keyword as the grammar writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::True => "true",
            Self::False => "false",
            Self::Unknown => "unknown",
        }
    }
}

impl Truth {
    /// SQL's NOT.
    #[must_use]
    pub const fn negate(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}
