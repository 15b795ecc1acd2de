//! From the domain to the wire.

use prost::Message;
use reactor_policy_engine::{Comparator, MemberMode, MemberSet, Predicate, RowPolicy, Scalar};

use crate::policy::v1;

/// Larger policies travel as a question for Postgres: a message may have 4 MiB, and a gateway keeps a policy for each
/// subscription.
pub const MAX_POLICY_BYTES: usize = 1024 * 1024;

/// Deeper nodes travel as a question for Postgres. A level is at most two messages within each other; a reader takes a hundred,
/// and a decision has four around a predicate.
const MAX_LEVELS: usize = 44;

impl From<RowPolicy> for v1::RowPolicy {
    fn from(policy: RowPolicy) -> Self {
        let mut message = Self {
            predicate: Some(predicate(policy.predicate, 0)),
            sets: policy.sets.into_iter().map(Into::into).collect(),
            check_key: policy.check_key,
        };
        if message.encoded_len() > MAX_POLICY_BYTES {
            message.predicate = Some(ask());
            message.sets.clear();
        }
        message
    }
}

impl From<MemberSet> for v1::MemberSet {
    fn from(set: MemberSet) -> Self {
        Self {
            id: set.id,
            schema: set.schema,
            table: set.table,
            table_oid: set.table_oid,
            keys: set.keys,
            identity: set.identity,
            condition: Some(predicate(set.condition, 0)),
        }
    }
}

fn ask() -> v1::Predicate {
    v1::Predicate { node: Some(v1::predicate::Node::Ask(v1::Ask {})) }
}

fn predicate(from: Predicate, level: usize) -> v1::Predicate {
    use v1::predicate::Node;
    if level >= MAX_LEVELS {
        return ask();
    }
    let parts = |parts: Vec<Predicate>| v1::Predicates {
        parts: parts.into_iter().map(|part| predicate(part, level + 1)).collect(),
    };
    let operand = |from: Scalar| Some(Box::new(scalar(from, level + 1)));
    let node = match from {
        Predicate::Const(truth) => Node::Constant(v1::Truth::from(truth).into()),
        Predicate::And(all) => Node::All(parts(all)),
        Predicate::Or(any) => Node::Any(parts(any)),
        Predicate::Not(negated) => Node::Not(Box::new(predicate(*negated, level + 1))),
        Predicate::Is { operand, value, negated } => Node::Is(Box::new(v1::IsTruth {
            operand: Some(Box::new(predicate(*operand, level + 1))),
            value: v1::Truth::from(value).into(),
            negated,
        })),
        Predicate::Compare { operator, left, right } => Node::Compare(Box::new(v1::Compare {
            comparator: v1::Comparator::from(operator).into(),
            left: operand(left),
            right: operand(right),
        })),
        Predicate::IsNull(tested) => Node::IsNull(Box::new(scalar(tested, level + 1))),
        Predicate::Quantified { operator, left, array, all } => Node::Quantified(Box::new(v1::Quantified {
            comparator: v1::Comparator::from(operator).into(),
            left: operand(left),
            array: operand(array),
            all,
        })),
        Predicate::Like { text, pattern, insensitive } => {
            Node::Like(Box::new(v1::Like { text: operand(text), pattern: operand(pattern), insensitive }))
        }
        Predicate::Bool(expression) => Node::Boolean(Box::new(scalar(expression, level + 1))),
        Predicate::Member { set, values, mode } => Node::Member(v1::Member {
            // What does not fit is the index of no set.
            set: u32::try_from(set).unwrap_or(u32::MAX),
            values: values.into_iter().map(|value| scalar(value, level + 1)).collect(),
            mode: v1::MemberMode::from(mode).into(),
        }),
        Predicate::Raise => Node::Raise(v1::Raise {}),
        Predicate::Ask => Node::Ask(v1::Ask {}),
    };
    v1::Predicate { node: Some(node) }
}

/// An expression without a node is not understood by any reader: so travels what is too deep, and a binding, which has no value.
fn scalar(from: Scalar, level: usize) -> v1::Scalar {
    use v1::scalar::Node;
    if level >= MAX_LEVELS {
        return v1::Scalar { node: None };
    }
    let operand = |from: Box<Scalar>| Some(Box::new(scalar(*from, level + 1)));
    let node = match from {
        Scalar::Column { name, type_oid } => Node::Column(v1::Column { name, type_oid }),
        Scalar::Literal { type_oid, text } => Node::Literal(v1::Literal { type_oid, text }),
        Scalar::Bound { .. } => return v1::Scalar { node: None },
        Scalar::Cast { operand: from, type_oid } => Node::Cast(Box::new(v1::Cast { operand: operand(from), type_oid })),
        Scalar::Concat(left, right) => {
            Node::Concat(Box::new(v1::Concat { left: operand(left), right: operand(right) }))
        }
        Scalar::Coalesce(parts) => {
            Node::Coalesce(v1::Scalars { parts: parts.into_iter().map(|part| scalar(part, level + 1)).collect() })
        }
        Scalar::Lower(text) => Node::Lower(Box::new(scalar(*text, level + 1))),
        Scalar::Upper(text) => Node::Upper(Box::new(scalar(*text, level + 1))),
        Scalar::JsonGet { json, key, as_text } => {
            Node::JsonGet(Box::new(v1::JsonGet { json: operand(json), key: operand(key), as_text }))
        }
        Scalar::JsonPath { json, path, as_text } => {
            Node::JsonPath(Box::new(v1::JsonPath { json: operand(json), path: operand(path), as_text }))
        }
        Scalar::Truth(from) => Node::Truth(Box::new(predicate(*from, level + 1))),
    };
    v1::Scalar { node: Some(node) }
}

impl From<Comparator> for v1::Comparator {
    fn from(comparator: Comparator) -> Self {
        match comparator {
            Comparator::Eq => Self::Eq,
            Comparator::Ne => Self::Ne,
            Comparator::Lt => Self::Lt,
            Comparator::Le => Self::Le,
            Comparator::Gt => Self::Gt,
            Comparator::Ge => Self::Ge,
            Comparator::Distinct => Self::Distinct,
            Comparator::NotDistinct => Self::NotDistinct,
        }
    }
}

impl From<MemberMode> for v1::MemberMode {
    fn from(mode: MemberMode) -> Self {
        match mode {
            MemberMode::Exists => Self::Exists,
            MemberMode::In => Self::In,
        }
    }
}
