//! Comparisons made ready for rows.

use reactor_model::filter::Truth;
use reactor_model::filter::compare::{Family, labels};

use smallvec::{SmallVec, smallvec};

use super::array;
use super::compile::{Compiler, strict_with_null};
use super::expr::Expr;
use super::node::{Elements, Literal, Measure, Node, OneOf, Quantified};
use super::scalar::Typed;
use super::types::Type;
use crate::program::Comparator;

impl Compiler<'_> {
    pub(super) fn compare(&self, operator: Comparator, left: Typed, right: Typed) -> Node {
        if left.0.is_constant() && !right.0.is_constant() {
            return self.compare(flipped(operator), right, left);
        }
        let ((left, of_left), (right, of_right)) = (left, right);
        let is_distinct = matches!(operator, Comparator::Distinct | Comparator::NotDistinct);
        match (&left, &right) {
            (Expr::Raise, _) | (_, Expr::Raise) => return Node::Raise,
            (_, Expr::Null) if is_distinct => {
                let is_null = Node::IsNull(left);
                return if operator == Comparator::Distinct { Node::Not(Box::new(is_null)) } else { is_null };
            }
            (_, Expr::Null) => return strict_with_null(left),
            (Expr::Null, _) if !is_distinct => return Node::Const(Truth::Unknown),
            _ => {}
        }
        let Some(measure) = self.measure(operator, of_left, of_right) else { return Node::Ask };
        let Expr::Literal(text) = &right else { return Node::Compare { comparator: operator, left, right, measure } };
        let on_null = match operator {
            Comparator::Distinct => Truth::True,
            Comparator::NotDistinct => Truth::False,
            _ => Truth::Unknown,
        };
        if let (true, Some(inverted)) = (measure.family.has_equal_bytes(), inequality(operator)) {
            let values = smallvec![text.clone()];
            return Node::OneOf(OneOf { operand: left, values, has_null: false, inverted, on_null });
        }
        match Literal::new(text, &measure) {
            Some(literal) => Node::Against { comparator: operator, operand: left, literal },
            None => Node::Ask,
        }
    }

    pub(super) fn quantified(
        &self,
        operator: Comparator,
        (left, of_left): Typed,
        (array, of_array): Typed,
        all: bool,
    ) -> Node {
        let element = of_array.element(self.relation).or_else(|| {
            // The array of an enum is the only one that an enum compares with; no column need have its type.
            (!labels(self.relation, of_left.oid).is_empty()).then_some(of_left)
        });
        let measure = element.and_then(|element| self.measure(operator, of_left, element));
        let is_distinct = matches!(operator, Comparator::Distinct | Comparator::NotDistinct);
        let Some(measure) = measure.filter(|_| !is_distinct) else { return Node::Ask };
        match array {
            Expr::Null => strict_with_null(left),
            Expr::Literal(text) => match array::elements(&text) {
                Some(elements) => known_elements(operator, left, &elements, &measure, all).unwrap_or(Node::Ask),
                None => Node::Ask,
            },
            array => {
                Node::Quantified(Quantified { comparator: operator, left, array: Elements::Of(array, measure), all })
            }
        }
    }

    /// How values of the types compare; `None` when only Postgres knows.
    fn measure(&self, operator: Comparator, left: Type, right: Type) -> Option<Measure> {
        let family = left.family_with(right, self.relation);
        let is_known = family != Family::Foreign && (inequality(operator).is_some() || family.has_order());
        is_known.then(|| Measure { family, labels: labels(self.relation, left.oid).to_vec() })
    }
}

/// `ANY` or `ALL` of an array that is known.
fn known_elements(
    operator: Comparator,
    left: Expr,
    elements: &[array::Element<'_>],
    measure: &Measure,
    all: bool,
) -> Option<Node> {
    if elements.is_empty() && left.never_raises() {
        return Some(Node::Const(all.into()));
    }
    if measure.family.has_equal_bytes() && matches!((operator, all), (Comparator::Eq, false) | (Comparator::Ne, true)) {
        let mut values: SmallVec<[Box<[u8]>; 1]> =
            elements.iter().flatten().map(|element| Box::from(&**element)).collect();
        values.sort_unstable();
        values.dedup();
        let has_null = elements.contains(&None);
        return Some(Node::OneOf(OneOf { operand: left, values, has_null, inverted: all, on_null: Truth::Unknown }));
    }
    let literal = |element: &array::Element<'_>| match element {
        Some(text) => Literal::new(text, measure).map(Some),
        None => Some(None),
    };
    let literals = elements.iter().map(literal).collect::<Option<_>>()?;
    Some(Node::Quantified(Quantified { comparator: operator, left, array: Elements::Known(literals), all }))
}

/// Whether the operator tells equal from unequal, and which of them it wants.
const fn inequality(operator: Comparator) -> Option<bool> {
    match operator {
        Comparator::Eq | Comparator::NotDistinct => Some(false),
        Comparator::Ne | Comparator::Distinct => Some(true),
        Comparator::Lt | Comparator::Le | Comparator::Gt | Comparator::Ge => None,
    }
}

/// The operator with its operands exchanged.
const fn flipped(operator: Comparator) -> Comparator {
    match operator {
        Comparator::Lt => Comparator::Gt,
        Comparator::Le => Comparator::Ge,
        Comparator::Gt => Comparator::Lt,
        Comparator::Ge => Comparator::Le,
        Comparator::Eq | Comparator::Ne | Comparator::Distinct | Comparator::NotDistinct => operator,
    }
}
