//! Predicates made ready for rows of one relation version.

use reactor_model::filter::compare::Family;
use reactor_model::filter::{SchemaMismatch, Truth};
use reactor_model::relation::Collation;
use reactor_model::{Relation, oid};

use smallvec::{SmallVec, smallvec};

use super::expr::{Case, Expr};
use super::like::{Like, LikePattern, parsed};
use super::node::{Node, OneOf};
use super::types::Type;
use crate::program::{Predicate, Scalar};

/// Nesting that is followed, so that recursion is bounded; what is deeper is left to Postgres.
const MAX_DEPTH: usize = 200;

/// Compiles for one relation.
pub(super) struct Compiler<'r> {
    pub(super) relation: &'r Relation,
    depth: usize,
}

impl<'r> Compiler<'r> {
    pub(super) const fn new(relation: &'r Relation) -> Self {
        Self { relation, depth: 0 }
    }

    pub(super) fn predicate(&mut self, predicate: &Predicate) -> Result<Node, SchemaMismatch> {
        if self.depth >= MAX_DEPTH {
            return Ok(Node::Ask);
        }
        self.depth += 1;
        let node = self.node(predicate);
        self.depth -= 1;
        node
    }

    pub(super) fn scalar(&mut self, scalar: &Scalar) -> Result<(Expr, Type), SchemaMismatch> {
        if self.depth >= MAX_DEPTH {
            return Ok((Expr::Ask, Type::plain(0)));
        }
        self.depth += 1;
        let expr = self.expr(scalar);
        self.depth -= 1;
        expr
    }

    fn node(&mut self, predicate: &Predicate) -> Result<Node, SchemaMismatch> {
        Ok(match predicate {
            Predicate::Const(truth) => Node::Const(*truth),
            Predicate::And(parts) => self.group(parts, Truth::False)?,
            Predicate::Or(parts) => self.group(parts, Truth::True)?,
            Predicate::Not(operand) => negated(self.predicate(operand)?),
            Predicate::Is { operand, value, negated } => match self.predicate(operand)? {
                Node::Const(truth) => Node::Const(((truth == *value) != *negated).into()),
                operand => Node::Is { operand: Box::new(operand), value: *value, negated: *negated },
            },
            Predicate::Compare { operator, left, right } => {
                let (left, right) = (self.scalar(left)?, self.scalar(right)?);
                self.compare(*operator, left, right)
            }
            Predicate::IsNull(operand) => {
                let (operand, of) = self.scalar(operand)?;
                match operand {
                    Expr::Null => Node::Const(Truth::True),
                    Expr::Literal(_) if !of.may_be_composite(self.relation) => Node::Const(Truth::False),
                    _ if of.may_be_composite(self.relation) => Node::Ask,
                    operand => Node::IsNull(operand),
                }
            }
            Predicate::Quantified { operator, left, array, all } => {
                let (left, array) = (self.scalar(left)?, self.scalar(array)?);
                self.quantified(*operator, left, array, *all)
            }
            Predicate::Like { text, pattern, insensitive } => {
                let (text, pattern) = (self.scalar(text)?, self.scalar(pattern)?);
                self.like(text, pattern, *insensitive)
            }
            Predicate::Bool(operand) => match self.scalar(operand)? {
                (_, of) if of.oid != oid::BOOL => Node::Ask,
                (Expr::Null, _) => Node::Const(Truth::Unknown),
                (Expr::Literal(text), _) => Node::Const((*text == *b"t").into()),
                (Expr::Truth(node), _) => *node,
                (Expr::Raise, _) => Node::Raise,
                (operand, _) => Node::Bool(operand),
            },
            Predicate::Member { set, values, mode } => {
                let values = values.iter().map(|value| self.scalar(value).map(|(value, _)| value));
                Node::Member { set: *set, values: values.collect::<Result<_, _>>()?, mode: *mode }
            }
            Predicate::Raise => Node::Raise,
            Predicate::Ask => Node::Ask,
        })
    }

    /// A conjunction or disjunction; `decisive` is the truth that decides it.
    fn group(&mut self, parts: &[Predicate], decisive: Truth) -> Result<Node, SchemaMismatch> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut is_ended = false;
        for part in parts {
            // Those that are never evaluated are compiled too: their columns must be there.
            match self.predicate(part)? {
                _ if is_ended => {}
                Node::Const(truth) if truth == decisive.negate() => {}
                Node::Const(truth) if truth == decisive => {
                    is_ended = true;
                    if nodes.iter().all(Node::never_raises) {
                        nodes.clear();
                    }
                    nodes.push(Node::Const(truth));
                }
                node => {
                    is_ended = matches!(node, Node::Raise);
                    nodes.push(node);
                }
            }
        }
        Ok(match nodes.pop() {
            None => Node::Const(decisive.negate()),
            Some(only) if nodes.is_empty() => only,
            Some(last) => {
                nodes.push(last);
                if decisive == Truth::False { Node::And(nodes) } else { Node::Or(nodes) }
            }
        })
    }

    fn like(&self, (text, of): (Expr, Type), (pattern, of_pattern): (Expr, Type), insensitive: bool) -> Node {
        // A `bpchar` matches with its blanks, which only a column is known to have.
        let is_matched = of.is_text() || (of.oid == oid::BPCHAR && matches!(text, Expr::Column(_)));
        let collation = of.collation_with(of_pattern);
        if !is_matched
            || !of_pattern.is_text()
            || Family::of_type(self.relation, oid::TEXT, collation) == Family::Foreign
        {
            return Node::Ask;
        }
        let is_ascii = collation == Collation::Bytes;
        let case = insensitive.then_some(Case { upper: false, is_ascii });
        let pattern = match pattern {
            Expr::Null => return strict_with_null(text),
            Expr::Literal(pattern) => match parsed(&pattern, case) {
                Ok(pattern) => LikePattern::Known(pattern),
                Err(_) => return Node::Ask,
            },
            pattern => LikePattern::Of(pattern),
        };
        Node::Like(Like { text, pattern, case })
    }
}

/// What a strict operator gives when its other operand is NULL.
pub(super) fn strict_with_null(operand: Expr) -> Node {
    if operand.never_raises() {
        return Node::Const(Truth::Unknown);
    }
    Node::OneOf(OneOf { operand, values: SmallVec::new(), has_null: true, inverted: false, on_null: Truth::Unknown })
}

fn negated(node: Node) -> Node {
    match node {
        Node::Const(truth) => Node::Const(truth.negate()),
        Node::Not(operand) => *operand,
        Node::OneOf(one_of) => {
            Node::OneOf(OneOf { inverted: !one_of.inverted, on_null: one_of.on_null.negate(), ..one_of })
        }
        Node::Bool(operand) => {
            let values = smallvec![Box::from(&b"f"[..])];
            Node::OneOf(OneOf { operand, values, has_null: false, inverted: false, on_null: Truth::Unknown })
        }
        Node::Raise => Node::Raise,
        Node::Ask => Node::Ask,
        node => Node::Not(Box::new(node)),
    }
}
