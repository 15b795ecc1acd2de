//! Boolean expressions as predicates.

use reactor_model::filter::Truth;

use super::compare::{Typed, comparator, has_patterns, is_decidable, unify};
use super::compiler::{Compiler, constant};
use super::fixed::PLANNED;
use super::scalar::is_bare;
use super::scope::Scope;
use super::types::{self, BOOL, TEXT, Texts};
use crate::program::{Comparator, Predicate, Scalar};
use crate::sql::{Expr, Query, Test};

/// A `CASE` grows by the square of its branches; longer ones are left to Postgres.
const MAX_BRANCHES: usize = 8;

impl Compiler<'_> {
    /// What a boolean expression says. `positive`: only whether it is true matters, false and unknown are the same.
    pub(super) fn predicate(&mut self, expr: &Expr, scope: &Scope<'_>, positive: bool) -> Predicate {
        match self.enter(|compiler| compiler.known(expr, scope, positive)) {
            Some(predicate) => predicate,
            None => self.ask(expr, scope),
        }
    }

    /// `None`: only Postgres knows.
    fn known(&mut self, expr: &Expr, scope: &Scope<'_>, positive: bool) -> Option<Predicate> {
        match expr {
            Expr::Bool(value) => return Some(constant(*value)),
            Expr::Null => return Some(Predicate::Const(Truth::Unknown)),
            _ => {}
        }
        if self.facts(expr, scope).can_be_bound() {
            return self.bound(expr, scope, Some(BOOL)).filter(|typed| typed.oid == BOOL).map(truth);
        }
        match expr {
            Expr::And(parts) => self.connective(parts, true, scope, positive),
            Expr::Or(parts) => self.connective(parts, false, scope, positive),
            Expr::Not(operand) => Some(not(self.predicate(operand, scope, false))),
            Expr::Is { operand, test, negated } => self.is(operand, *test, *negated, scope, positive),
            Expr::Distinct { left, right, negated } => {
                let operator = if *negated { Comparator::NotDistinct } else { Comparator::Distinct };
                self.compare(operator, left, right, scope)
            }
            Expr::Binary { operator, left, right } => self.operator(operator, left, right, scope),
            Expr::Between { operand, low, high, negated } => {
                let low = self.compare(Comparator::Ge, operand, low, scope)?;
                let high = self.compare(Comparator::Le, operand, high, scope)?;
                let within = Predicate::And(vec![low, high]);
                Some(if *negated { not(within) } else { within })
            }
            Expr::InList { operand, list, negated } => {
                let any = list
                    .iter()
                    .map(|item| self.compare(Comparator::Eq, operand, item, scope))
                    .collect::<Option<Vec<_>>>()?;
                let any = Predicate::Or(any);
                Some(if *negated { not(any) } else { any })
            }
            Expr::Quantified { operator, left, right, all } => {
                self.quantified(operator, left, right, *all, scope, positive)
            }
            Expr::InQuery { operand, query, negated } => {
                let is_in = self.in_query(operand, query, scope, positive && !negated)?;
                Some(if *negated { not(is_in) } else { is_in })
            }
            Expr::Exists(query) => self.exists(query, scope),
            Expr::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref(), scope, positive)
            }
            Expr::Query(query) => {
                let inner = transparent(query)?;
                // What is constant in it is not so for the planner.
                let predicate = PLANNED.fold(self.predicate(inner, scope, positive));
                (!matches!(predicate, Predicate::Const(_))).then_some(predicate)
            }
            Expr::Call { name, arguments } => self.call_predicate(name, arguments, scope, positive),
            _ => {
                let typed = self.scalar(expr, scope, Some(BOOL))?;
                (typed.oid == BOOL).then(|| truth(typed))
            }
        }
    }

    fn is(
        &mut self,
        operand: &Expr,
        test: Test,
        negated: bool,
        scope: &Scope<'_>,
        positive: bool,
    ) -> Option<Predicate> {
        let value = match test {
            Test::Null => {
                let is_null = self.is_null(operand, scope)?;
                return Some(if negated { not(is_null) } else { is_null });
            }
            Test::True => Truth::True,
            Test::False => Truth::False,
            Test::Unknown => Truth::Unknown,
        };
        let positive = positive && value == Truth::True && !negated;
        let operand = Box::new(self.predicate(operand, scope, positive));
        Some(Predicate::Is { operand, value, negated })
    }

    fn is_null(&mut self, operand: &Expr, scope: &Scope<'_>) -> Option<Predicate> {
        let typed = self.scalar(operand, scope, None)?;
        Some(match typed.scalar {
            Scalar::Truth(operand) => Predicate::Is { operand, value: Truth::Unknown, negated: false },
            scalar => Predicate::IsNull(scalar),
        })
    }

    fn operator(&mut self, operator: &str, left: &Expr, right: &Expr, scope: &Scope<'_>) -> Option<Predicate> {
        if let Some(comparator) = comparator(operator) {
            return self.compare(comparator, left, right, scope);
        }
        let (insensitive, negated) = match operator {
            "~~" => (false, false),
            "!~~" => (false, true),
            "~~*" => (true, false),
            "!~~*" => (true, true),
            _ => return None,
        };
        let text = self.scalar(left, scope, Some(TEXT))?;
        let pattern = self.scalar(right, scope, Some(TEXT))?;
        let texts = text.texts.max(pattern.texts);
        if !has_patterns(text.oid) || !has_patterns(pattern.oid) || texts == Texts::Foreign {
            return None;
        }
        let as_text = |side: Typed| if side.oid == TEXT { side.scalar } else { side.cast(TEXT).scalar };
        let like = Predicate::Like { text: as_text(text), pattern: as_text(pattern), insensitive };
        Some(if negated { not(like) } else { like })
    }

    pub(super) fn compare(
        &mut self,
        operator: Comparator,
        left: &Expr,
        right: &Expr,
        scope: &Scope<'_>,
    ) -> Option<Predicate> {
        let (left, right) = self.pair(left, right, scope)?;
        let (left, right) = unify(left, right)?;
        is_decidable(operator, &left, &right).then_some(Predicate::Compare {
            operator,
            left: left.scalar,
            right: right.scalar,
        })
    }

    /// Both operands; a bare literal takes the other's type.
    pub(super) fn pair(&mut self, left: &Expr, right: &Expr, scope: &Scope<'_>) -> Option<(Typed, Typed)> {
        if is_bare(left) {
            let right = self.scalar(right, scope, None)?;
            let left = self.literal_for(left, &right, scope)?;
            return Some((left, right));
        }
        let left = self.scalar(left, scope, None)?;
        let right = self.literal_for(right, &left, scope)?;
        Some((left, right))
    }

    fn quantified(
        &mut self,
        operator: &str,
        left: &Expr,
        right: &Expr,
        all: bool,
        scope: &Scope<'_>,
        positive: bool,
    ) -> Option<Predicate> {
        let operator = comparator(operator)?;
        if let Expr::Query(query) = right
            && !self.facts(right, scope).can_be_bound()
        {
            return match (operator, all) {
                (Comparator::Eq, false) => self.in_query(left, query, scope, positive),
                (Comparator::Ne, true) => self.in_query(left, query, scope, false).map(not),
                _ => None,
            };
        }
        let left = self.scalar(left, scope, None)?;
        let array = match right {
            // A bare literal takes the type of an array of the left side's.
            Expr::Text(text) => {
                let name = types::builtin_name(left.oid)?;
                let array = types::builtin_array(left.oid)?;
                let sql = format!("{}::{name}[]", super::print::quote_text(text));
                Typed::new(self.binding(sql, array)?, array)
            }
            Expr::Query(query) => self.array_of_query(query, scope)?,
            right => self.scalar(right, scope, None)?,
        };
        self.over_array(operator, left, array, all, scope)
    }

    /// `left <operator> ANY (array)` or `ALL (array)`, of values that can be compared outside Postgres.
    pub(super) fn over_array(
        &mut self,
        operator: Comparator,
        left: Typed,
        array: Typed,
        all: bool,
        scope: &Scope<'_>,
    ) -> Option<Predicate> {
        let element = Typed { oid: self.element(&array, scope)?, is_enum: left.is_enum, ..array.clone() };
        let matches = element.oid == left.oid || (types::is_int(element.oid) && types::is_int(left.oid));
        (matches && is_decidable(operator, &left, &element)).then_some(Predicate::Quantified {
            operator,
            left: left.scalar,
            array: array.scalar,
            all,
        })
    }

    /// `CASE` evaluates its conditions in turn, and only the value of the first that is true.
    fn case(
        &mut self,
        operand: Option<&Expr>,
        branches: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        scope: &Scope<'_>,
        positive: bool,
    ) -> Option<Predicate> {
        if branches.len() > MAX_BRANCHES {
            return None;
        }
        let mut before: Vec<Predicate> = Vec::new();
        let mut any = Vec::new();
        for (condition, value) in branches {
            let condition = match operand {
                Some(operand) => self.compare(Comparator::Eq, operand, condition, scope)?,
                None => self.predicate(condition, scope, false),
            };
            let is_true = |negated| Predicate::Is { operand: Box::new(condition.clone()), value: Truth::True, negated };
            let mut all = before.clone();
            all.push(is_true(false));
            all.push(self.predicate(value, scope, positive));
            any.push(Predicate::And(all));
            before.push(is_true(true));
        }
        before.push(match otherwise {
            Some(value) => self.predicate(value, scope, positive),
            None => Predicate::Const(Truth::Unknown),
        });
        any.push(Predicate::And(before));
        let any = Predicate::Or(any);
        // As a whole, so that its parts are not arranged with others.
        Some(if positive { Predicate::Is { operand: Box::new(any), value: Truth::True, negated: false } } else { any })
    }
}

/// The expression of a query that is nothing but that.
pub(super) fn transparent(query: &Query) -> Option<&Expr> {
    match query.items.as_slice() {
        [item] if query.from.is_empty() && query.filter.is_none() && query.limit.is_none() => Some(&item.expr),
        _ => None,
    }
}

pub(super) fn not(predicate: Predicate) -> Predicate {
    Predicate::Not(Box::new(predicate))
}

/// A boolean value as a predicate.
fn truth(typed: Typed) -> Predicate {
    match typed.scalar {
        Scalar::Truth(predicate) => *predicate,
        scalar => Predicate::Bool(scalar),
    }
}
