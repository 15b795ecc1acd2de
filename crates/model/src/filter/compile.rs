//! Bound filters made ready for rows of one relation version.

use std::cmp::Ordering;

use regex::Regex;

use super::compare::printed;
use super::eval::{CompiledFilter, Node};
use super::family::{self, Family, base_oid, labels};
use super::native::like::Pattern;
use super::native::{Against, regexp};
use super::{BoundCondition, BoundFilter, IsKeyword, Operand, Operation, Operator, SchemaMismatch, Truth};
use crate::relation::{Collation, Column, Relation, TypeKind};

impl BoundFilter {
    /// Makes the filter ready for rows of this relation version.
    ///
    /// # Errors
    /// [`SchemaMismatch`] when a column is gone or has another type than when the filter was bound.
    pub fn compile(&self, relation: &Relation) -> Result<CompiledFilter, SchemaMismatch> {
        Ok(CompiledFilter { root: self.node(relation)? })
    }

    fn node(&self, relation: &Relation) -> Result<Node, SchemaMismatch> {
        let all = |parts: &[Self]| {
            let mut nodes = parts.iter().map(|part| part.node(relation)).collect::<Result<Vec<_>, _>>()?;
            // What is known here may make a question needless, so it comes first.
            nodes.sort_by_key(Node::may_ask);
            Ok(nodes)
        };
        match self {
            Self::And(parts) => all(parts).map(Node::And),
            Self::Or(parts) => all(parts).map(Node::Or),
            Self::Condition(condition) => Atom::new(condition, relation).map(Node::Atom),
        }
    }
}

/// One condition, ready for rows.
#[derive(Clone, Debug)]
pub(super) struct Atom {
    pub(super) condition: BoundCondition,
    /// The column's index.
    pub(super) column: usize,
    pub(super) test: Test,
    /// Whether the result is the opposite of the test's: by `not.` or by the operator.
    pub(super) inverted: bool,
    /// The result for NULL.
    pub(super) on_null: Truth,
    /// The result for a value that is not NULL but was not sent.
    pub(super) on_withheld: Truth,
}

/// How a value that is not NULL is tested.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// The same for all.
    Always(bool),
    /// Its bytes are one of these, which are sorted.
    AnyOf(Vec<Box<[u8]>>),
    /// It compares equal to one of these.
    EqualToAny(Vec<Against>),
    /// It is this `jsonb` or one of these.
    Jsonb(Vec<Box<[u8]>>),
    /// It compares so that the ordering is accepted.
    Ordered(Against, fn(Ordering) -> bool),
    /// It matches.
    Like(Pattern),
    /// Its lower case matches, when it is ASCII.
    Ilike(Pattern),
    /// It matches.
    Regex(Regex),
    /// It matches, when it is ASCII.
    AsciiRegex(Regex),
    /// Only Postgres knows.
    Ask,
}

impl Test {
    pub(super) const fn may_ask(&self) -> bool {
        match self {
            Self::Ask | Self::Ilike(_) | Self::AsciiRegex(_) | Self::Ordered(Against::Label { .. }, _) => true,
            Self::Always(_)
            | Self::AnyOf(_)
            | Self::EqualToAny(_)
            | Self::Jsonb(_)
            | Self::Ordered(..)
            | Self::Like(_)
            | Self::Regex(_) => false,
        }
    }
}

impl Atom {
    fn new(bound: &BoundCondition, relation: &Relation) -> Result<Self, SchemaMismatch> {
        let condition = &bound.condition;
        let mismatch = || SchemaMismatch { column: condition.column.clone() };
        let index = relation.column_index(&condition.column).ok_or_else(mismatch)?;
        let column = relation.columns.get(index).ok_or_else(mismatch)?;
        if column.type_oid != bound.type_oid || column.type_mod != bound.type_mod {
            return Err(mismatch());
        }
        let test = test(&condition.operation, relation, column);
        let unequal = matches!(condition.operation.operator, Operator::Neq | Operator::IsDistinct);
        let (on_null, on_withheld) = without_value(&condition.operation, &test);
        let negate = |truth: Truth| if condition.negated { truth.negate() } else { truth };
        Ok(Self {
            condition: bound.clone(),
            column: index,
            inverted: condition.negated != unequal,
            on_null: negate(on_null),
            on_withheld: negate(on_withheld),
            test,
        })
    }
}

/// Results, before `not.`, for NULL and for a value that was not sent but is known not to be NULL.
fn without_value(operation: &Operation, test: &Test) -> (Truth, Truth) {
    match &operation.operand {
        // A composite of NULLs is NULL too: that needs the value.
        Operand::Keyword(IsKeyword::Null | IsKeyword::Unknown) if test.may_ask() => (Truth::True, Truth::Unknown),
        Operand::Keyword(IsKeyword::Null | IsKeyword::Unknown) => (Truth::True, Truth::False),
        Operand::Keyword(IsKeyword::True | IsKeyword::False) => (Truth::False, Truth::Unknown),
        // No element is looked at, so that NULL does not matter.
        Operand::List(values) if values.is_empty() => (Truth::False, Truth::False),
        Operand::Text(_) if operation.operator == Operator::IsDistinct => (Truth::True, Truth::Unknown),
        Operand::Text(_) | Operand::List(_) => (Truth::Unknown, Truth::Unknown),
    }
}

fn test(operation: &Operation, relation: &Relation, column: &Column) -> Test {
    let native = match (operation.operator, &operation.operand) {
        (Operator::Is, Operand::Keyword(keyword)) => Some(is_keyword(*keyword, relation, column)),
        (Operator::Eq | Operator::Neq | Operator::IsDistinct, Operand::Text(value)) => {
            equality(std::slice::from_ref(value), relation, column)
        }
        (Operator::In, Operand::List(values)) => equality(values, relation, column),
        (Operator::Lt, Operand::Text(value)) => ordered(value, relation, column, Ordering::is_lt),
        (Operator::Lte, Operand::Text(value)) => ordered(value, relation, column, Ordering::is_le),
        (Operator::Gt, Operand::Text(value)) => ordered(value, relation, column, Ordering::is_gt),
        (Operator::Gte, Operand::Text(value)) => ordered(value, relation, column, Ordering::is_ge),
        (operator, Operand::Text(pattern)) if matches_patterns(relation, column) => pattern_test(operator, pattern),
        _ => None,
    };
    native.unwrap_or(Test::Ask)
}

fn is_keyword(keyword: IsKeyword, relation: &Relation, column: &Column) -> Test {
    let base = base_oid(relation, column.type_oid);
    match keyword {
        IsKeyword::Null | IsKeyword::Unknown => match relation.types.get(&base).map(|info| &info.kind) {
            Some(TypeKind::Composite { .. }) => Test::Ask,
            _ => Test::Always(false),
        },
        IsKeyword::True => Test::AnyOf(vec![(*b"t").into()]),
        IsKeyword::False => Test::AnyOf(vec![(*b"f").into()]),
    }
}

/// Equality with any of the values.
fn equality(values: &[String], relation: &Relation, column: &Column) -> Option<Test> {
    if values.is_empty() {
        return Some(Test::Always(false));
    }
    let family = Family::of(relation, column);
    let bytes = || values.iter().map(|value| printed(family, value));
    match family {
        Family::Foreign => None,
        Family::Jsonb => Some(Test::Jsonb(bytes().collect())),
        _ if family.has_equal_bytes() => {
            let mut sorted: Vec<_> = bytes().collect();
            sorted.sort_unstable();
            Some(Test::AnyOf(sorted))
        }
        _ => values
            .iter()
            .map(|value| against(family, value, relation, column))
            .collect::<Option<_>>()
            .map(Test::EqualToAny),
    }
}

fn ordered(value: &str, relation: &Relation, column: &Column, accepts: fn(Ordering) -> bool) -> Option<Test> {
    let family = Family::of(relation, column);
    if !family.has_order() {
        return None;
    }
    against(family, value, relation, column).map(|against| Test::Ordered(against, accepts))
}

/// The operand in the form in which its family compares; `None` when it has none.
fn against(family: Family, value: &str, relation: &Relation, column: &Column) -> Option<Against> {
    Against::new(family, value, labels(relation, column.type_oid))
}

/// Whether patterns match the column's values by their characters.
fn matches_patterns(relation: &Relation, column: &Column) -> bool {
    family::is_text(base_oid(relation, column.type_oid))
        && matches!(column.collation, Collation::Bytes | Collation::Deterministic)
}

fn pattern_test(operator: Operator, pattern: &str) -> Option<Test> {
    match operator {
        Operator::Like => Pattern::parse(pattern).map(Test::Like),
        Operator::Match => regexp::compile(pattern, false).map(Test::Regex),
        // Beyond ASCII, case depends on the collation's locale.
        Operator::Ilike if pattern.is_ascii() => Pattern::parse(&pattern.to_ascii_lowercase()).map(Test::Ilike),
        Operator::Imatch if pattern.is_ascii() => regexp::compile(pattern, true).map(Test::AsciiRegex),
        _ => None,
    }
}
