//! Functions in SQL whose body is one expression: a call is that expression, over the arguments.

use std::rc::Rc;

use reactor_model::filter::Truth;

use super::compare::Typed;
use super::compiler::{Compiler, Function};
use super::facts::body_names;
use super::fixed::PLANNED;
use super::knowledge::FunctionInfo;
use super::predicate::{not, transparent};
use super::raising::value_never_raises;
use super::scalar::as_assigned;
use super::scope::{Call, Names, Scope};
use super::types::BOOL;
use crate::program::{Predicate, Scalar};
use crate::sql::{Expr, Query};

impl Compiler<'_> {
    /// A call where a truth value stands.
    pub(super) fn call_predicate(
        &mut self,
        name: &[String],
        arguments: &[Expr],
        scope: &Scope<'_>,
        positive: bool,
    ) -> Option<Predicate> {
        let Function::User(function) = self.function(name, arguments.len(), scope.names) else { return None };
        if function.result != BOOL || function.returns_set {
            return None;
        }
        let (body, names) = self.inlined(function, arguments, scope)?;
        let inner = scope_of(function, arguments, scope, &names);
        let result = PLANNED.fold(self.predicate(expression(&body)?, &inner, positive));
        // What is constant is not so for the planner when it does not put the body in the call's place.
        if matches!(result, Predicate::Const(_)) {
            return None;
        }
        // Nor are then arguments left out that are not needed, but raise.
        let needs_all = !function.strict && is_one_comparison(&result);
        if !needs_all && self.may_raise(function, arguments, scope)? {
            return None;
        }
        if !function.strict {
            return Some(result);
        }
        let any_null = self.nulls(function, arguments, scope)?;
        let when_not_null = Predicate::And(vec![not(any_null.clone()), result]);
        let when_null = Predicate::And(vec![any_null, Predicate::Const(Truth::Unknown)]);
        Some(if positive { when_not_null } else { Predicate::Or(vec![when_not_null, when_null]) })
    }

    /// A call where another value stands.
    pub(super) fn inline_value(
        &mut self,
        function: &FunctionInfo,
        arguments: &[Expr],
        scope: &Scope<'_>,
    ) -> Option<Typed> {
        if function.returns_set || (function.strict && !arguments.is_empty()) {
            return None;
        }
        if function.result == BOOL {
            return None;
        }
        let (body, names) = self.inlined(function, arguments, scope)?;
        let inner = scope_of(function, arguments, scope, &names);
        let value = self.scalar(expression(&body)?, &inner, Some(function.result))?;
        if has_choice(&value.scalar) && self.may_raise(function, arguments, scope)? {
            return None;
        }
        as_assigned(value, function.result)
    }

    /// The query of a function that returns the rows of one, where its single column is looked up.
    pub(super) fn in_function_query(
        &mut self,
        operand: &Expr,
        query: &Query,
        scope: &Scope<'_>,
        positive: bool,
    ) -> Option<Predicate> {
        let Some(Expr::Call { name, arguments }) = transparent(query) else { return None };
        let Function::User(function) = self.function(name, arguments.len(), scope.names) else { return None };
        if !function.returns_set || (function.strict && !arguments.is_empty()) {
            return None;
        }
        let (body, names) = self.inlined(function, arguments, scope)?;
        let inner = scope_of(function, arguments, scope, &names);
        let Expr::Query(query) = &*body else { return None };
        self.member(Some((operand, scope, function.result)), query, &inner, positive)
    }

    /// The body, where a call can be replaced by it.
    fn inlined(&mut self, function: &FunctionInfo, arguments: &[Expr], scope: &Scope<'_>) -> Option<(Rc<Expr>, Names)> {
        let may_execute = function.executable || scope.reader == Some(function.owner.as_str());
        let only_path = function.settings.iter().all(|setting| setting.starts_with("search_path="));
        if !may_execute || !only_path || arguments.len() != function.arguments.len() || scope.is_within(function) {
            return None;
        }
        Some((self.body(function)?, body_names(function, scope)?))
    }

    /// Whether the evaluation of an argument may raise.
    fn may_raise(&mut self, function: &FunctionInfo, arguments: &[Expr], scope: &Scope<'_>) -> Option<bool> {
        for (argument, parameter) in arguments.iter().zip(&function.arguments) {
            let value = self.scalar(argument, scope, Some(parameter.type_oid))?;
            if !value_never_raises(&value.scalar) {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Whether any argument is NULL.
    fn nulls(&mut self, function: &FunctionInfo, arguments: &[Expr], scope: &Scope<'_>) -> Option<Predicate> {
        let mut any = Vec::new();
        for (argument, parameter) in arguments.iter().zip(&function.arguments) {
            let value = self.scalar(argument, scope, Some(parameter.type_oid))?;
            any.push(match value.scalar {
                Scalar::Truth(operand) => Predicate::Is { operand, value: Truth::Unknown, negated: false },
                scalar => Predicate::IsNull(scalar),
            });
        }
        Some(Predicate::Or(any))
    }
}

/// Whether all that is in it is evaluated for every row, or asked about when it raises.
fn is_one_comparison(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::And(_) | Predicate::Or(_) => false,
        Predicate::Not(operand) | Predicate::Is { operand, .. } => is_one_comparison(operand),
        Predicate::Compare { left, right, .. }
        | Predicate::Quantified { left, array: right, .. }
        | Predicate::Like { text: left, pattern: right, .. } => !has_choice(left) && !has_choice(right),
        Predicate::IsNull(value) | Predicate::Bool(value) => !has_choice(value),
        Predicate::Const(_) | Predicate::Member { .. } | Predicate::Raise | Predicate::Ask => true,
    }
}

/// Whether some of it is evaluated for some rows only.
fn has_choice(value: &Scalar) -> bool {
    match value {
        Scalar::Column { .. } | Scalar::Literal { .. } | Scalar::Bound { .. } => false,
        Scalar::Cast { operand, .. } | Scalar::Lower(operand) | Scalar::Upper(operand) => has_choice(operand),
        Scalar::Concat(left, right)
        | Scalar::JsonGet { json: left, key: right, .. }
        | Scalar::JsonPath { json: left, path: right, .. } => has_choice(left) || has_choice(right),
        Scalar::Coalesce(_) => true,
        Scalar::Truth(predicate) => !is_one_comparison(predicate),
    }
}

/// The scope of a function's body.
pub(super) fn scope_of<'a>(
    function: &'a FunctionInfo,
    arguments: &'a [Expr],
    caller: &'a Scope<'a>,
    names: &'a Names,
) -> Scope<'a> {
    let reader = if function.security_definer { Some(function.owner.as_str()) } else { caller.reader };
    Scope { table: None, outer: None, names, call: Some(Call { function, arguments, caller }), reader }
}

/// The one expression of a body.
pub(super) fn expression(body: &Expr) -> Option<&Expr> {
    match body {
        Expr::Query(query) => transparent(query),
        body => Some(body),
    }
}
