//! What a row must have for a predicate to be true.

use reactor_model::filter::{IndexKey, Truth};

use super::expr::Expr;
use super::node::{Node, OneOf};

impl Node {
    /// Keys of which a row must have one for this to be true, whatever Postgres would answer; `None` when there are none.
    pub(super) fn index_keys(&self) -> Option<Vec<IndexKey>> {
        match self {
            Self::Const(Truth::False | Truth::Unknown) | Self::Raise => Some(Vec::new()),
            Self::And(parts) => IndexKey::of_all(parts.iter().map(Self::index_keys)),
            Self::Or(parts) => IndexKey::of_any(parts.iter().map(Self::index_keys)),
            Self::Is { operand, value: Truth::True, negated: false } => operand.index_keys(),
            Self::OneOf(one_of) => one_of.index_keys(),
            Self::Bool(Expr::Column(column)) => {
                Some(vec![IndexKey::Value { column: *column, text: Box::from(&b"t"[..]) }])
            }
            Self::Bool(Expr::Truth(operand)) => operand.index_keys(),
            Self::Member { set, values, .. } => match values.as_slice() {
                [Expr::Column(column)] => Some(vec![IndexKey::Set { column: *column, set: *set }]),
                _ => None,
            },
            Self::Const(Truth::True)
            | Self::Not(_)
            | Self::Is { .. }
            | Self::Against { .. }
            | Self::Compare { .. }
            | Self::IsNull(_)
            | Self::Bool(_)
            | Self::Quantified(_)
            | Self::Like(_)
            | Self::Ask => None,
        }
    }
}

impl OneOf {
    fn index_keys(&self) -> Option<Vec<IndexKey>> {
        match self.operand {
            _ if self.inverted || self.on_null == Truth::True => None,
            Expr::Column(column) => {
                let key = |text: Box<[u8]>| IndexKey::Value { column, text };
                IndexKey::of_any([Some(self.values.iter().cloned().map(key).collect())])
            }
            _ => None,
        }
    }
}
