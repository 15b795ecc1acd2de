//! Filters bound to the column types of a relation.

use super::family::{Comparisons, base_oid, may_be_text};
use super::native::like::ends_in_escape;
use super::{BoundCondition, BoundFilter, Condition, Filter, FilterError, IsKeyword, Operand, Operation, Operator};
use crate::limits;
use crate::relation::{Column, Relation};
use crate::render::oid;

impl BoundFilter {
    /// Binds a filter to a relation. `canonical` are the operands as the columns' types print them, in the order of
    /// [`Filter::conditions`]; those of `like`, `ilike`, `match`, `imatch` and `is` are the filter's own.
    ///
    /// # Errors
    /// [`FilterError`] when a column is unknown, an operator does not apply to its type, or a pattern is malformed.
    pub fn bind(filter: &Filter, relation: &Relation, canonical: &[Operand]) -> Result<Self, FilterError> {
        let conditions = filter.conditions();
        if conditions.len() > limits::MAX_FILTER_CONDITIONS {
            return Err(FilterError::TooManyConditions);
        }
        let fitting = conditions.iter().zip(canonical).filter(|(condition, operand)| fits(condition, operand)).count();
        if fitting != conditions.len() || fitting != canonical.len() {
            return Err(FilterError::OperandsDiffer { conditions: conditions.len(), operands: fitting });
        }
        bind(filter, relation, &mut canonical.iter())
    }
}

/// Whether this can be the condition's operand after Postgres has printed it.
fn fits(condition: &Condition, canonical: &Operand) -> bool {
    match (&condition.operation.operand, canonical) {
        (Operand::Text(_), Operand::Text(_)) => true,
        (Operand::List(own), Operand::List(canonical)) => own.len() == canonical.len(),
        (Operand::Keyword(own), Operand::Keyword(canonical)) => own == canonical,
        _ => false,
    }
}

fn bind(
    filter: &Filter,
    relation: &Relation,
    canonical: &mut std::slice::Iter<'_, Operand>,
) -> Result<BoundFilter, FilterError> {
    let mut all = |parts: &[Filter]| parts.iter().map(|part| bind(part, relation, canonical)).collect::<Result<_, _>>();
    Ok(match filter {
        Filter::And(parts) => BoundFilter::And(all(parts)?),
        Filter::Or(parts) => BoundFilter::Or(all(parts)?),
        Filter::Condition(condition) => {
            let operand = canonical.next().unwrap_or(&condition.operation.operand);
            BoundFilter::Condition(bind_condition(condition, relation, operand)?)
        }
    })
}

fn bind_condition(
    condition: &Condition,
    relation: &Relation,
    operand: &Operand,
) -> Result<BoundCondition, FilterError> {
    let column = relation.column_index(&condition.column).and_then(|index| relation.columns.get(index));
    let column = column.ok_or_else(|| FilterError::UnknownColumn {
        column: condition.column.clone(),
        table: format!("{}.{}", relation.schema, relation.table),
    })?;
    let operation = Operation { operator: condition.operation.operator, operand: operand.clone() };
    operator_is_applicable(&operation, relation, column)?;
    check_pattern(&operation, column)?;
    Ok(BoundCondition {
        condition: Condition { column: condition.column.clone(), negated: condition.negated, operation },
        type_oid: column.type_oid,
        type_mod: column.type_mod,
    })
}

/// Whether the column's type has the operator, as far as can be known without Postgres.
///
/// # Errors
/// [`FilterError::NotApplicable`], which says what the operator needs.
pub fn operator_is_applicable(operation: &Operation, relation: &Relation, column: &Column) -> Result<(), FilterError> {
    let type_oid = column.type_oid;
    let comparisons = Comparisons::of(relation, type_oid);
    let requirement = match operation.operator {
        Operator::Eq | Operator::In | Operator::IsDistinct => {
            (!comparisons.equality).then_some("the type has no equality")
        }
        Operator::Neq => (!comparisons.inequality).then_some("the type has no inequality; use `not.eq`"),
        Operator::Lt | Operator::Lte | Operator::Gt | Operator::Gte => {
            (!comparisons.order).then_some("the type has no order")
        }
        Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => {
            (!may_be_text(relation, type_oid)).then_some("it needs a text column")
        }
        Operator::Is => {
            let is_null = operation.operand == Operand::Keyword(IsKeyword::Null);
            let is_bool = base_oid(relation, type_oid) == oid::BOOL;
            (!is_null && !is_bool).then_some("true, false and unknown need a boolean column; only null applies")
        }
    };
    match requirement {
        None => Ok(()),
        Some(requirement) => Err(FilterError::NotApplicable {
            operator: operation.operator,
            column: column.name.clone(),
            type_name: relation
                .types
                .get(&type_oid)
                .map_or_else(|| format!("with oid {type_oid}"), |info| format!("`{}`", info.name)),
            requirement,
        }),
    }
}

/// Postgres refuses such a pattern only when a value reaches its end; we refuse it before any row comes.
fn check_pattern(operation: &Operation, column: &Column) -> Result<(), FilterError> {
    match (operation.operator, &operation.operand) {
        (Operator::Like | Operator::Ilike, Operand::Text(pattern)) if ends_in_escape(pattern) => {
            Err(FilterError::LikeEscape { column: column.name.clone() })
        }
        _ => Ok(()),
    }
}
