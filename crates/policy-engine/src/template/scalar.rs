//! Expressions of other types than boolean.

use reactor_model::relation::TypeKind;

use super::compare::{Typed, has_patterns};
use super::compiler::{Compiler, Function};
use super::facts::is_a_moment;
use super::knowledge::{Fact, Need};
use super::predicate::transparent;
use super::print::quote_text;
use super::scope::{Call, Meaning, Scope, base_type};
use super::types::{self, BOOL, INT2, INT4, INT8, JSONB, NUMERIC, TEXT, TEXT_ARRAY, Texts, UUID, VARCHAR};
use crate::program::{Predicate, Scalar};
use crate::sql::{Expr, Query, TypeName};

impl Compiler<'_> {
    /// What an expression's value is; `None`: only Postgres knows. A bare literal takes the type `wanted`.
    pub(super) fn scalar(&mut self, expr: &Expr, scope: &Scope<'_>, wanted: Option<u32>) -> Option<Typed> {
        self.enter(|compiler| compiler.scalar_here(expr, scope, wanted))
    }

    fn scalar_here(&mut self, expr: &Expr, scope: &Scope<'_>, wanted: Option<u32>) -> Option<Typed> {
        if let Some((call, index)) = parameter_of(expr, scope) {
            return self.parameter(expr, scope, call, index);
        }
        let facts = self.facts(expr, scope);
        if facts.can_be_bound() {
            return self.bound(expr, scope, wanted);
        }
        if facts.setting
            && let Some(setting) = self.setting(expr, scope)
        {
            return Some(setting);
        }
        if !facts.row && !facts.set && !facts.setting {
            return None;
        }
        match expr {
            Expr::Name(name) => match scope.meaning(name) {
                Meaning::Column { relation, column, .. } => column_value(relation, column),
                Meaning::Parameter(..) | Meaning::Local | Meaning::Unknown => None,
            },
            Expr::Cast { operand, to } => self.cast(operand, to, scope),
            Expr::Binary { operator, left, right } => match operator.as_str() {
                "||" => self.concat(left, right, scope),
                "->" | "->>" => self.json_get(left, right, operator == "->>", scope),
                "#>" | "#>>" => self.json_path(left, right, operator == "#>>", scope),
                _ => self.truth_value(expr, scope),
            },
            Expr::Special { name, arguments } if name == "coalesce" => self.coalesce(arguments, scope, wanted),
            Expr::Call { name, arguments } => self.call_value(name, arguments, scope),
            Expr::Query(query) => {
                let inner = transparent(query)?;
                self.scalar(inner, scope, wanted)
            }
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::Is { .. }
            | Expr::Distinct { .. }
            | Expr::InList { .. }
            | Expr::InQuery { .. }
            | Expr::Between { .. }
            | Expr::Quantified { .. }
            | Expr::Exists(_) => self.truth_value(expr, scope),
            _ => None,
        }
    }

    fn truth_value(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<Typed> {
        if matches!(expr, Expr::Binary { operator, .. } if !is_boolean(operator)) {
            return None;
        }
        match self.predicate(expr, scope, false) {
            Predicate::Ask => None,
            predicate => Some(Typed::new(Scalar::Truth(Box::new(predicate)), BOOL)),
        }
    }

    /// A value beside another: a bare literal takes the other's type.
    pub(super) fn literal_for(&mut self, expr: &Expr, other: &Typed, scope: &Scope<'_>) -> Option<Typed> {
        if !is_bare(expr) {
            return self.scalar(expr, scope, None);
        }
        let wanted = if other.oid == VARCHAR { TEXT } else { other.oid };
        let literal = match expr {
            Expr::Null => Scalar::Literal { type_oid: wanted, text: None },
            Expr::Text(text) if other.is_enum => {
                let known = match &self.source.relation.types.get(&wanted)?.kind {
                    TypeKind::Enum { labels } => labels.contains(text),
                    _ => false,
                };
                known.then(|| Scalar::Literal { type_oid: wanted, text: Some(text.clone()) })?
            }
            _ => return self.bound(expr, scope, Some(wanted)),
        };
        Some(Typed { is_enum: other.is_enum, ..Typed::new(literal, wanted) })
    }

    /// An expression that Postgres evaluates for each principal.
    pub(super) fn bound(&mut self, expr: &Expr, scope: &Scope<'_>, wanted: Option<u32>) -> Option<Typed> {
        if let Some(literal) = literal(expr, wanted) {
            return Some(literal);
        }
        if let (Expr::Text(text), Some(wanted)) = (expr, wanted) {
            if is_a_moment(expr, wanted) {
                return None;
            }
            let sql = format!("{}::{}", quote_text(text), types::builtin_name(wanted)?);
            return Some(Typed::new(self.binding(sql, wanted)?, wanted));
        }
        let sql = self.print(expr, scope)?;
        let (oid, is_enum) = self.type_of(expr, scope, &sql)?;
        Some(Typed { is_enum, ..Typed::new(self.binding(sql, oid)?, oid) })
    }

    /// The type of an expression without columns, and whether it is an enum.
    fn type_of(&mut self, expr: &Expr, scope: &Scope<'_>, sql: &str) -> Option<(u32, bool)> {
        let asked = self.asked();
        let known = match expr {
            Expr::Cast { to, .. } => {
                let known = self.sql_type(to, scope.names)?;
                return Some((known.oid, known.is_enum));
            }
            Expr::Query(query) => match transparent(query) {
                Some(inner) => return self.type_of(inner, scope, sql),
                None => None,
            },
            Expr::Call { name, arguments } => match self.function(name, arguments.len(), scope.names) {
                Function::Claims(claim) => Some(claim.type_oid),
                Function::User(function) => types::builtin_name(function.result).map(|_| function.result),
                _ if name.last().is_some_and(|name| name == "current_setting") => Some(TEXT),
                _ => None,
            },
            Expr::Name(_) | Expr::Parameter(_) => {
                let (call, index) = parameter_of(expr, scope)?;
                let oid = call.function.arguments.get(index)?.type_oid;
                types::builtin_name(oid).map(|_| oid)
            }
            Expr::Number(_) => Some(NUMERIC),
            Expr::Binary { operator, .. } if matches!(operator.as_str(), "->>" | "#>>") => Some(TEXT),
            Expr::Binary { operator, .. } if is_boolean(operator) => Some(BOOL),
            Expr::Array(parts) => self.array_type(parts, scope),
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::Is { .. }
            | Expr::Distinct { .. }
            | Expr::InList { .. }
            | Expr::InQuery { .. }
            | Expr::Between { .. }
            | Expr::Quantified { .. }
            | Expr::Exists(_)
            | Expr::Bool(_) => Some(BOOL),
            _ => None,
        };
        if let Some(oid) = known {
            return Some((oid, false));
        }
        // It may be known without asking once that is answered.
        if self.asked() > asked {
            return None;
        }
        match self.fact(Need::TypeOf { sql: sql.to_owned() })? {
            Fact::TypeOf(oid) => Some((*oid, false)),
            _ => None,
        }
    }

    /// `ARRAY[…]` of parts that are all cast to one type.
    fn array_type(&mut self, parts: &[Expr], scope: &Scope<'_>) -> Option<u32> {
        let mut element: Option<&TypeName> = None;
        for part in parts {
            let Expr::Cast { to, .. } = part else { return None };
            if element.is_some_and(|element| element.name != to.name) || to.array {
                return None;
            }
            element = Some(to);
        }
        let array = TypeName { array: true, modifiers: Vec::new(), ..element?.clone() };
        self.sql_type(&array, scope.names).map(|array| array.oid)
    }

    /// The type of an array's elements.
    pub(super) fn element(&mut self, array: &Typed, scope: &Scope<'_>) -> Option<u32> {
        if let Some(element) = types::builtin_element(array.oid) {
            return Some(element);
        }
        let relation = match &scope.table {
            Some(super::scope::Table::Set { table, .. }) => &table.relation,
            _ => &self.source.relation,
        };
        if let Some(TypeKind::Array { element, .. }) = relation.types.get(&array.oid).map(|info| &info.kind) {
            return Some(*element);
        }
        self.elements.get(&array.oid).copied()
    }

    /// `ANY (select …)` of claims alone is `ANY (ARRAY(select …))`.
    pub(super) fn array_of_query(&mut self, query: &Query, scope: &Scope<'_>) -> Option<Typed> {
        self.bound(&Expr::ArrayQuery(Box::new(query.clone())), scope, None)
    }

    /// An argument as its parameter's type.
    fn parameter(&mut self, expr: &Expr, scope: &Scope<'_>, call: &Call<'_>, index: usize) -> Option<Typed> {
        let oid = call.function.arguments.get(index)?.type_oid;
        let argument = call.arguments.get(index)?;
        let typed = self.scalar(argument, call.caller, Some(oid))?;
        if let Some(assigned) = as_assigned(typed, oid) {
            return Some(assigned);
        }
        self.facts(expr, scope).can_be_bound().then(|| self.bound(expr, scope, None))?
    }

    fn cast(&mut self, operand: &Expr, to: &TypeName, scope: &Scope<'_>) -> Option<Typed> {
        let target = self.sql_type(to, scope.names)?;
        if self.by_settings
            && target.oid == JSONB
            && let Some(setting) = self.json_setting(operand, scope)
        {
            return Some(setting);
        }
        let typed = self.scalar(operand, scope, None)?;
        // Modifiers cut or round; a domain has conditions.
        if !to.modifiers.is_empty() || target.domain {
            return None;
        }
        if typed.oid == target.oid {
            return Some(typed);
        }
        let to_text = matches!(target.oid, TEXT | VARCHAR);
        let follows = types::may_cast(typed.oid, target.oid) || (typed.is_enum && to_text);
        follows.then(|| typed.cast(target.oid))
    }

    fn concat(&mut self, left: &Expr, right: &Expr, scope: &Scope<'_>) -> Option<Typed> {
        let left = self.scalar(left, scope, Some(TEXT))?;
        let right = self.scalar(right, scope, Some(TEXT))?;
        let texts = left.texts.max(right.texts);
        // Beside a text Postgres takes a value of any type that is no array as its text.
        let (of_left, of_right) = (left.oid, right.oid);
        let (left, right) = (as_text_beside(left, of_right)?, as_text_beside(right, of_left)?);
        Some(Typed { texts, ..Typed::new(Scalar::Concat(Box::new(left), Box::new(right)), TEXT) })
    }

    fn json_get(&mut self, json: &Expr, key: &Expr, as_text: bool, scope: &Scope<'_>) -> Option<Typed> {
        let json = self.scalar(json, scope, None)?;
        let key = self.scalar(key, scope, Some(TEXT))?;
        if json.oid != JSONB || !matches!(key.oid, TEXT | INT4) {
            return None;
        }
        let scalar = Scalar::JsonGet { json: Box::new(json.scalar), key: Box::new(key.scalar), as_text };
        Some(Typed::new(scalar, if as_text { TEXT } else { JSONB }))
    }

    fn json_path(&mut self, json: &Expr, path: &Expr, as_text: bool, scope: &Scope<'_>) -> Option<Typed> {
        let json = self.scalar(json, scope, None)?;
        let path = match path {
            Expr::Text(text) => {
                let sql = format!("{}::text[]", quote_text(text));
                Typed::new(self.binding(sql, TEXT_ARRAY)?, TEXT_ARRAY)
            }
            path => self.scalar(path, scope, None)?,
        };
        if json.oid != JSONB || path.oid != TEXT_ARRAY {
            return None;
        }
        let scalar = Scalar::JsonPath { json: Box::new(json.scalar), path: Box::new(path.scalar), as_text };
        Some(Typed::new(scalar, if as_text { TEXT } else { JSONB }))
    }

    /// All arguments are of the type of those that have one.
    fn coalesce(&mut self, arguments: &[Expr], scope: &Scope<'_>, wanted: Option<u32>) -> Option<Typed> {
        let mut first = None;
        for argument in arguments {
            if !is_bare(argument) {
                first = Some(self.scalar(argument, scope, wanted)?);
                break;
            }
        }
        let first = first?;
        let mut texts = Texts::Default;
        let mut parts = Vec::new();
        for argument in arguments {
            let part = self.literal_for(argument, &first, scope)?;
            let part = if part.oid == first.oid { part } else { as_assigned(part, first.oid)? };
            texts = texts.max(part.texts);
            parts.push(part.scalar);
        }
        Some(Typed { scalar: Scalar::Coalesce(parts), texts, ..first })
    }

    /// `lower` and `upper`, or a function in SQL.
    fn call_value(&mut self, name: &[String], arguments: &[Expr], scope: &Scope<'_>) -> Option<Typed> {
        match self.function(name, arguments.len(), scope.names) {
            Function::Catalog { .. } => {
                let [argument] = arguments else { return None };
                let lower = match name.last().map(String::as_str) {
                    Some("lower") => true,
                    Some("upper") => false,
                    _ => return None,
                };
                let typed = self.scalar(argument, scope, Some(TEXT))?;
                let texts = typed.texts;
                if texts == Texts::Foreign {
                    return None;
                }
                let text = Box::new(as_text(typed)?);
                let scalar = if lower { Scalar::Lower(text) } else { Scalar::Upper(text) };
                Some(Typed { texts, ..Typed::new(scalar, TEXT) })
            }
            Function::User(function) => self.inline_value(function, arguments, scope),
            Function::Claims(_) | Function::Unknown => None,
        }
    }
}

/// The parameter that the expression is.
pub(super) fn parameter_of<'a>(expr: &Expr, scope: &'a Scope<'a>) -> Option<(&'a Call<'a>, usize)> {
    match expr {
        Expr::Parameter(number) => Some((scope.call()?, number.checked_sub(1)?)),
        Expr::Name(name) => match scope.meaning(name) {
            Meaning::Parameter(call, index) => Some((call, index)),
            Meaning::Column { .. } | Meaning::Local | Meaning::Unknown => None,
        },
        _ => None,
    }
}

/// Whether the expression is a literal without a type. An argument has its parameter's type.
pub(super) const fn is_bare(expr: &Expr) -> bool {
    matches!(expr, Expr::Text(_) | Expr::Null)
}

/// Whether the operator's result is boolean, whatever its operands are.
fn is_boolean(operator: &str) -> bool {
    matches!(operator, "=" | "<>" | "<" | "<=" | ">" | ">=" | "~~" | "!~~" | "~~*" | "!~~*")
}

fn column_value(relation: &reactor_model::Relation, column: &reactor_model::Column) -> Option<Typed> {
    let (oid, known) = base_type(relation, column)?;
    let scalar = Scalar::Column { name: column.name.clone(), type_oid: oid };
    let texts = if known { Texts::of(column.collation, oid) } else { Texts::Foreign };
    let is_composite = matches!(relation.types.get(&oid).map(|info| &info.kind), Some(TypeKind::Composite { .. }));
    let typed = Typed { scalar, oid, texts, is_enum: types::is_enum(relation, oid) };
    // A composite is NULL when all of its fields are.
    (!is_composite).then_some(typed)
}

/// Literals that need no evaluation: their text is what their type prints.
fn literal(expr: &Expr, wanted: Option<u32>) -> Option<Typed> {
    let (type_oid, text) = match expr {
        Expr::Null => (wanted.unwrap_or(TEXT), None),
        Expr::Bool(value) => (BOOL, Some(if *value { "t" } else { "f" }.to_owned())),
        Expr::Text(text) if matches!(wanted, None | Some(TEXT)) => (TEXT, Some(text.clone())),
        Expr::Number(number) => integer(number)?,
        Expr::Prefix { operator, operand } if operator == "-" => match &**operand {
            Expr::Number(number) => integer(&format!("-{number}")).filter(|(oid, _)| *oid == INT4)?,
            _ => return None,
        },
        Expr::Cast { operand, to } if to.modifiers.is_empty() && to.builtin => {
            let oid = types::builtin_oid(to)?;
            match (&**operand, oid) {
                (Expr::Null, _) => (oid, None),
                (Expr::Text(text), TEXT | VARCHAR) => (oid, Some(text.clone())),
                (Expr::Text(text), INT2 | INT4 | INT8) => {
                    let (least, text) = integer(text)?;
                    let fits = match oid {
                        INT8 => true,
                        INT4 => least == INT4,
                        _ => text.as_deref().is_some_and(|text| text.parse::<i16>().is_ok()),
                    };
                    fits.then_some((oid, text))?
                }
                (Expr::Number(number), INT8 | NUMERIC) => (oid, integer(number)?.1),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(Typed::new(Scalar::Literal { type_oid, text }, type_oid))
}

/// The integer type that a number has, and its text.
fn integer(number: &str) -> Option<(u32, Option<String>)> {
    let value: i64 = number.parse().ok()?;
    let oid = if i32::try_from(value).is_ok() { INT4 } else { INT8 };
    Some((oid, Some(value.to_string())))
}

fn as_text(typed: Typed) -> Option<Scalar> {
    match typed.oid {
        TEXT => Some(typed.scalar),
        oid if has_patterns(oid) => Some(typed.cast(TEXT).scalar),
        _ => None,
    }
}

fn as_text_beside(typed: Typed, other: u32) -> Option<Scalar> {
    match typed.oid {
        UUID | INT2 | INT4 | INT8 if other == TEXT => Some(typed.cast(TEXT).scalar),
        _ => as_text(typed),
    }
}

/// A value as another type that it is converted to by itself.
pub(super) fn as_assigned(typed: Typed, oid: u32) -> Option<Typed> {
    match (typed.oid, oid) {
        (from, to) if from == to => Some(typed),
        (VARCHAR, TEXT) | (INT2, INT4 | INT8 | NUMERIC) | (INT4, INT8 | NUMERIC) | (INT8, NUMERIC) => {
            Some(typed.cast(oid))
        }
        _ => None,
    }
}
