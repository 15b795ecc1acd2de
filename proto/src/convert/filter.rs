//! Filters, as parsed and as bound.

use reactor_model::filter::{BoundCondition, BoundFilter, Condition, Filter, IsKeyword, Operand, Operation, Operator};

use super::{NotUnderstood, Result, required};
use crate::policy::v1;

impl From<Filter> for v1::Filter {
    fn from(filter: Filter) -> Self {
        let parts = |parts: Vec<Filter>| v1::Filters { parts: parts.into_iter().map(Into::into).collect() };
        let node = match filter {
            Filter::And(all) => v1::filter::Node::All(parts(all)),
            Filter::Or(any) => v1::filter::Node::Any(parts(any)),
            Filter::Condition(condition) => v1::filter::Node::Condition(condition.into()),
        };
        Self { node: Some(node) }
    }
}

impl TryFrom<v1::Filter> for Filter {
    type Error = NotUnderstood;

    fn try_from(filter: v1::Filter) -> Result<Self> {
        let parts = |filters: v1::Filters| filters.parts.into_iter().map(Self::try_from).collect::<Result<Vec<_>>>();
        Ok(match required(filter.node, "filter node")? {
            v1::filter::Node::All(all) => Self::And(parts(all)?),
            v1::filter::Node::Any(any) => Self::Or(parts(any)?),
            v1::filter::Node::Condition(condition) => Self::Condition(condition.try_into()?),
        })
    }
}

impl From<BoundFilter> for v1::BoundFilter {
    fn from(filter: BoundFilter) -> Self {
        let parts = |parts: Vec<BoundFilter>| v1::BoundFilters { parts: parts.into_iter().map(Into::into).collect() };
        let node = match filter {
            BoundFilter::And(all) => v1::bound_filter::Node::All(parts(all)),
            BoundFilter::Or(any) => v1::bound_filter::Node::Any(parts(any)),
            BoundFilter::Condition(bound) => v1::bound_filter::Node::Condition(v1::BoundCondition {
                condition: Some(bound.condition.into()),
                type_oid: bound.type_oid,
                type_mod: bound.type_mod,
            }),
        };
        Self { node: Some(node) }
    }
}

impl TryFrom<v1::BoundFilter> for BoundFilter {
    type Error = NotUnderstood;

    fn try_from(filter: v1::BoundFilter) -> Result<Self> {
        let parts =
            |filters: v1::BoundFilters| filters.parts.into_iter().map(Self::try_from).collect::<Result<Vec<_>>>();
        Ok(match required(filter.node, "filter node")? {
            v1::bound_filter::Node::All(all) => Self::And(parts(all)?),
            v1::bound_filter::Node::Any(any) => Self::Or(parts(any)?),
            v1::bound_filter::Node::Condition(bound) => Self::Condition(BoundCondition {
                condition: required(bound.condition, "condition")?.try_into()?,
                type_oid: bound.type_oid,
                type_mod: bound.type_mod,
            }),
        })
    }
}

impl From<Condition> for v1::Condition {
    fn from(condition: Condition) -> Self {
        Self { column: condition.column, negated: condition.negated, operation: Some(condition.operation.into()) }
    }
}

impl TryFrom<v1::Condition> for Condition {
    type Error = NotUnderstood;

    fn try_from(condition: v1::Condition) -> Result<Self> {
        Ok(Self {
            column: condition.column,
            negated: condition.negated,
            operation: required(condition.operation, "operation")?.try_into()?,
        })
    }
}

impl From<Operation> for v1::Operation {
    fn from(operation: Operation) -> Self {
        let operand = match operation.operand {
            Operand::Text(text) => v1::operation::Operand::Text(text),
            Operand::List(values) => v1::operation::Operand::List(v1::Values { values }),
            Operand::Keyword(keyword) => v1::operation::Operand::Keyword(v1::Keyword::from(keyword).into()),
        };
        Self { operator: v1::Operator::from(operation.operator).into(), operand: Some(operand) }
    }
}

impl TryFrom<v1::Operation> for Operation {
    type Error = NotUnderstood;

    fn try_from(operation: v1::Operation) -> Result<Self> {
        let operand = match required(operation.operand, "operand")? {
            v1::operation::Operand::Text(text) => Operand::Text(text),
            v1::operation::Operand::List(list) => Operand::List(list.values),
            v1::operation::Operand::Keyword(keyword) => Operand::Keyword(is_keyword(keyword)?),
        };
        Ok(Self { operator: operator(operation.operator)?, operand })
    }
}

impl From<Operator> for v1::Operator {
    fn from(operator: Operator) -> Self {
        match operator {
            Operator::Eq => Self::Eq,
            Operator::Neq => Self::Neq,
            Operator::Lt => Self::Lt,
            Operator::Lte => Self::Lte,
            Operator::Gt => Self::Gt,
            Operator::Gte => Self::Gte,
            Operator::In => Self::In,
            Operator::Like => Self::Like,
            Operator::Ilike => Self::Ilike,
            Operator::Is => Self::Is,
            Operator::Match => Self::Match,
            Operator::Imatch => Self::Imatch,
            Operator::IsDistinct => Self::IsDistinct,
        }
    }
}

fn operator(number: i32) -> Result<Operator> {
    Ok(match v1::Operator::try_from(number) {
        Ok(v1::Operator::Eq) => Operator::Eq,
        Ok(v1::Operator::Neq) => Operator::Neq,
        Ok(v1::Operator::Lt) => Operator::Lt,
        Ok(v1::Operator::Lte) => Operator::Lte,
        Ok(v1::Operator::Gt) => Operator::Gt,
        Ok(v1::Operator::Gte) => Operator::Gte,
        Ok(v1::Operator::In) => Operator::In,
        Ok(v1::Operator::Like) => Operator::Like,
        Ok(v1::Operator::Ilike) => Operator::Ilike,
        Ok(v1::Operator::Is) => Operator::Is,
        Ok(v1::Operator::Match) => Operator::Match,
        Ok(v1::Operator::Imatch) => Operator::Imatch,
        Ok(v1::Operator::IsDistinct) => Operator::IsDistinct,
        Ok(v1::Operator::Unspecified) | Err(_) => return Err(NotUnderstood("operator")),
    })
}

impl From<IsKeyword> for v1::Keyword {
    fn from(keyword: IsKeyword) -> Self {
        match keyword {
            IsKeyword::Null => Self::Null,
            IsKeyword::True => Self::True,
            IsKeyword::False => Self::False,
            IsKeyword::Unknown => Self::Unknown,
        }
    }
}

fn is_keyword(number: i32) -> Result<IsKeyword> {
    Ok(match v1::Keyword::try_from(number) {
        Ok(v1::Keyword::Null) => IsKeyword::Null,
        Ok(v1::Keyword::True) => IsKeyword::True,
        Ok(v1::Keyword::False) => IsKeyword::False,
        Ok(v1::Keyword::Unknown) => IsKeyword::Unknown,
        Ok(v1::Keyword::Unspecified) | Err(_) => return Err(NotUnderstood("keyword")),
    })
}
