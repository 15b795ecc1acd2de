//! What can be wrong with a filter, said so that a client can mend it.

use super::Operator;
use crate::limits;

/// The filter is refused. The text names the part that is wrong and what is allowed there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text is too long.
    #[error("filter has {bytes} bytes, allowed are {}", limits::MAX_FILTER_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Groups in groups in groups.
    #[error("filter groups are nested more than {} deep", limits::MAX_FILTER_DEPTH)]
    TooDeep,
    /// Too many comparisons.
    #[error("filter has more than {} conditions", limits::MAX_FILTER_CONDITIONS)]
    TooManyConditions,
    /// Two commas in a row, or one at an end.
    #[error("filter must not contain empty segments (check for extra commas)")]
    EmptySegment,
    /// Not of the form `column=operator.value`.
    #[error("`{part}` is not a condition: expected `{expected}`")]
    NotACondition {
        /// The part that is wrong.
        part: String,
        /// The form that is expected there.
        expected: &'static str,
    },
    /// No column name before the operator.
    #[error("`{part}` names no column")]
    NoColumn {
        /// The part that is wrong.
        part: String,
    },
    /// Not one of the operators.
    #[error(
        "unknown operator `{operator}` in `{part}`: allowed are {}, each also with `not.` before it",
        Operator::LIST
    )]
    UnknownOperator {
        /// What stands where the operator should.
        operator: String,
        /// The part that it stands in.
        part: String,
    },
    /// The value of `in` has no parentheses.
    #[error("`in` filter value must be wrapped by parentheses")]
    InNotWrapped,
    /// Too many values in `in`.
    #[error("too many values for `in` filter. Maximum {}", limits::MAX_IN_VALUES)]
    InTooLong,
    /// Not a keyword of `is`.
    #[error("unknown keyword `{keyword}` in `{part}`: `is` allows null, true, false, unknown")]
    UnknownKeyword {
        /// What stands where the keyword should.
        keyword: String,
        /// The part that it stands in.
        part: String,
    },
    /// `or` or `and` without a list in parentheses.
    #[error("`{part}` must be a list of conditions in parentheses, as in `or=(a.eq.1,b.gt.2)`")]
    GroupNotWrapped {
        /// The part that is wrong.
        part: String,
    },
    /// `not.or(…)` or `not.and(…)`.
    #[error("`{part}` negates a group: put `not.` before each operator instead")]
    NegatedGroup {
        /// The part that is wrong.
        part: String,
    },
    /// The table has no such column.
    #[error("unknown column `{column}` in the filter: `{table}` has no such column")]
    UnknownColumn {
        /// The column.
        column: String,
        /// The table.
        table: String,
    },
    /// The column's type does not have the operator.
    #[error("operator `{operator}` does not apply to column `{column}` of type {type_name}: {requirement}")]
    NotApplicable {
        /// The operator.
        operator: Operator,
        /// The column.
        column: String,
        /// Name of its type.
        type_name: String,
        /// What the operator needs.
        requirement: &'static str,
    },
    /// A pattern that ends within an escape.
    #[error("filter on column `{column}`: LIKE pattern must not end with escape character")]
    LikeEscape {
        /// The column.
        column: String,
    },
    /// The caller's canonical operands are not those of the filter's conditions.
    #[error("filter has {conditions} conditions but {operands} canonical operands of their kind")]
    OperandsDiffer {
        /// Conditions of the filter.
        conditions: usize,
        /// Operands that fit.
        operands: usize,
    },
}

/// A bound filter does not fit this version of the relation: it must be bound again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}` is gone or has another type than when the filter was bound")]
pub struct SchemaMismatch {
    /// The column.
    pub column: String,
}
