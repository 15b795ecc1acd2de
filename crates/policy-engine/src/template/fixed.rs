//! What Postgres's planner knows before any row, and how it simplifies a condition by it.
//!
//! Of `AND` and `OR` it leaves out everything else when one part is a constant that decides, wherever that stands: literals
//! and what depends on them by immutable functions. What is the same for all rows, but only known when they are evaluated,
//! is evaluated in its place: then an error of a part before it is raised.

use reactor_model::filter::Truth;

use super::compiler::{Compiler, Function};
use super::fold::{Folder, Stage};
use super::knowledge::{FunctionInfo, Volatility};
use super::raising::never_raises;
use super::scope::Scope;
use super::types;
use crate::program::{Predicate, Scalar};
use crate::sql::Expr;

/// Folds as the planner does.
pub(super) const PLANNED: Folder = Folder { stage: Stage::Plan };

impl Compiler<'_> {
    /// The parts of an `AND` or `OR`, with those that the planner knows before the others. `None`: whether it knows one, and
    /// so whether another raises, cannot be told.
    pub(super) fn connective(
        &mut self,
        parts: &[Expr],
        is_and: bool,
        scope: &Scope<'_>,
        positive: bool,
    ) -> Option<Predicate> {
        let mut flat = Vec::new();
        flatten(parts, is_and, &mut flat);
        let (mut planned, mut rest) = (Vec::new(), Vec::new());
        for part in flat {
            let predicate = self.predicate(part, scope, positive);
            let is_bound = matches!(predicate, Predicate::Bool(Scalar::Bound { .. }));
            match if is_bound { self.fixed(part, scope) } else { Some(false) } {
                Some(true) => planned.push(predicate),
                Some(false) => rest.push(predicate),
                None if rest.iter().all(never_raises) => rest.push(predicate),
                None => return None,
            }
        }
        planned.append(&mut rest);
        Some(if is_and { Predicate::And(planned) } else { Predicate::Or(planned) })
    }

    /// Whether the planner knows the value of an expression without columns; `None`: that cannot be told.
    fn fixed(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<bool> {
        self.enter(|compiler| compiler.fixed_here(expr, scope))
    }

    fn fixed_here(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<bool> {
        match expr {
            Expr::Null | Expr::Bool(_) | Expr::Number(_) | Expr::Text(_) => Some(true),
            Expr::Keyword(_) | Expr::Query(_) | Expr::ArrayQuery(_) | Expr::Exists(_) | Expr::InQuery { .. } => {
                Some(false)
            }
            Expr::Cast { .. } if is_value(expr) => Some(true),
            Expr::Cast { operand, to } => match self.fixed(operand, scope)? {
                // Of other types the reading depends on settings.
                true => (to.builtin && !to.array && types::builtin_oid(to).is_some_and(is_read_alike)).then_some(true),
                false => Some(false),
            },
            Expr::Name(_) | Expr::Parameter(_) => {
                let (call, index) = super::scalar::parameter_of(expr, scope)?;
                let argument = call.arguments.get(index)?;
                self.fixed(argument, call.caller).filter(|fixed| !fixed)
            }
            Expr::Not(operand) | Expr::Is { operand, .. } => self.fixed(operand, scope),
            Expr::Prefix { operand, .. } => self.strict([&**operand], scope),
            Expr::Binary { left, right, .. } | Expr::Distinct { left, right, .. } => {
                self.strict([&**left, &**right], scope)
            }
            Expr::Subscript { operand, index } => self.strict([&**operand, &**index], scope),
            Expr::Quantified { left, right, .. } => self.strict([&**left, &**right], scope),
            Expr::Between { operand, low, high, .. } => self.strict([&**operand, &**low, &**high], scope),
            Expr::InList { operand, list, .. } => self.strict(std::iter::once(&**operand).chain(list), scope),
            Expr::And(parts) | Expr::Or(parts) | Expr::Array(parts) => {
                let first = self.fixed(parts.first()?, scope)?;
                parts.iter().all(|part| self.fixed(part, scope) == Some(first)).then_some(first)
            }
            // What is not known first is not left out.
            Expr::Special { name, arguments } if name == "coalesce" => {
                self.fixed(arguments.first()?, scope).filter(|fixed| !fixed)
            }
            Expr::Case { operand, branches, .. } => {
                let first = operand.as_deref().or(branches.first().map(|(condition, _)| condition))?;
                self.fixed(first, scope).filter(|fixed| !fixed)
            }
            Expr::Special { name, arguments } if name == "nullif" => self.strict(arguments, scope),
            Expr::Call { name, arguments } => self.fixed_call(name, arguments, scope),
            Expr::Special { .. } | Expr::Star(_) | Expr::Unfit(_) | Expr::Opaque => None,
        }
    }

    fn fixed_call(&mut self, name: &[String], arguments: &[Expr], scope: &Scope<'_>) -> Option<bool> {
        match self.function(name, arguments.len(), scope.names) {
            Function::Claims(_) => Some(false),
            Function::Catalog { .. } if name.last().is_some_and(|name| name == "current_setting") => {
                arguments.iter().all(is_value).then_some(false)
            }
            Function::Catalog { .. } => self.strict(arguments, scope),
            Function::User(function) => self.fixed_user_call(function, arguments, scope),
            Function::Unknown => None,
        }
    }

    fn fixed_user_call(&mut self, function: &FunctionInfo, arguments: &[Expr], scope: &Scope<'_>) -> Option<bool> {
        let known = arguments.iter().all(|argument| self.fixed(argument, scope) == Some(true));
        if function.volatility == Volatility::Immutable && known {
            return Some(true);
        }
        if function.volatility != Volatility::Immutable && !may_be_inlined(function) && !function.strict {
            return Some(false);
        }
        if scope.is_within(function) {
            return None;
        }
        // The planner may put the body in its place.
        let body = self.body(function)?;
        let names = super::facts::body_names(function, scope)?;
        let expr = super::inline::expression(&body)?;
        self.fixed(expr, &super::inline::scope_of(function, arguments, scope, &names)).filter(|fixed| !fixed)
    }

    /// Of an operator or function that may be NULL for a NULL: not known when one operand is not and no other can be NULL.
    fn strict<'e>(&mut self, operands: impl IntoIterator<Item = &'e Expr>, scope: &Scope<'_>) -> Option<bool> {
        let mut is_known = true;
        for operand in operands {
            if is_value(operand) {
                continue;
            }
            match self.fixed(operand, scope)? {
                true => return None,
                false => is_known = false,
            }
        }
        // The operator of two literals may depend on settings.
        (!is_known).then_some(false)
    }
}

/// Whether Postgres may put the function's body in the place of a call.
pub(super) fn may_be_inlined(function: &FunctionInfo) -> bool {
    function.language == "sql" && !function.security_definer && function.settings.is_empty()
}

/// The parts of nested `AND`s or `OR`s.
pub(super) fn flatten<'e>(parts: &'e [Expr], is_and: bool, flat: &mut Vec<&'e Expr>) {
    for part in parts {
        match part {
            Expr::And(inner) if is_and => flatten(inner, is_and, flat),
            Expr::Or(inner) if !is_and => flatten(inner, is_and, flat),
            part => flat.push(part),
        }
    }
}

/// Whether it is a literal that is not NULL.
fn is_value(expr: &Expr) -> bool {
    match expr {
        Expr::Bool(_) | Expr::Number(_) | Expr::Text(_) => true,
        Expr::Cast { operand, to } => to.builtin && matches!(**operand, Expr::Text(_) | Expr::Number(_)),
        _ => false,
    }
}

/// Whether texts of the type are read and printed in the same way under all settings.
const fn is_read_alike(oid: u32) -> bool {
    types::is_int(oid) || matches!(oid, types::BOOL | types::TEXT | types::VARCHAR | types::NUMERIC | types::UUID)
}

/// The condition of a query as the planner arranges it: a part of an `AND` that is NULL makes it false, and what all
/// alternatives have in common is evaluated once, before them.
pub(super) fn arranged(predicate: Predicate) -> Predicate {
    match predicate {
        Predicate::And(parts) => {
            let parts = parts.into_iter().map(arranged).collect();
            match PLANNED.fold_one(Predicate::And(parts)) {
                Predicate::And(parts) if parts.contains(&Predicate::Const(Truth::Unknown)) => {
                    Predicate::Const(Truth::False)
                }
                predicate => predicate,
            }
        }
        Predicate::Or(parts) => {
            let parts: Vec<Predicate> = parts.into_iter().map(arranged).collect();
            match PLANNED.fold_one(Predicate::Or(parts)) {
                Predicate::Or(parts) => without_common(parts),
                predicate => predicate,
            }
        }
        predicate => predicate,
    }
}

fn without_common(parts: Vec<Predicate>) -> Predicate {
    let conjuncts: Vec<Vec<Predicate>> = parts
        .into_iter()
        .filter(|part| *part != Predicate::Const(Truth::Unknown))
        .map(|part| match part {
            Predicate::And(inner) => inner,
            part => vec![part],
        })
        .collect();
    // Of what is left to Postgres it is not known here whether it is the same.
    let is_common = |part: &Predicate| *part != Predicate::Ask && conjuncts.iter().all(|arm| arm.contains(part));
    let mut common: Vec<Predicate> = Vec::new();
    if conjuncts.len() > 1 {
        let shortest = conjuncts.iter().min_by_key(|arm| arm.len());
        shortest.into_iter().flatten().filter(|part| is_common(part)).for_each(|part| {
            if !common.contains(part) {
                common.push(part.clone());
            }
        });
    }
    let rest = conjuncts.into_iter().map(|arm| {
        let rest = arm.into_iter().filter(|part| !common.contains(part)).collect();
        PLANNED.fold_one(Predicate::And(rest))
    });
    // An alternative with nothing else in it is true when the common parts are.
    let rest = PLANNED.fold_one(Predicate::Or(rest.collect()));
    if common.is_empty() {
        return rest;
    }
    common.push(rest);
    PLANNED.fold_one(Predicate::And(common))
}
