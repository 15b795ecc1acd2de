//! What an expression depends on.

use super::compiler::{Compiler, Function};
use super::inline::scope_of;
use super::knowledge::{Fact, FunctionInfo, Need, SqlType};
use super::scope::{Call, Meaning, Names, Scope, Source, Table};
use super::settings::reads_setting;
use super::types;
use crate::sql::{Expr, FromItem, Query, TypeName};

/// Functions of `pg_catalog` that are evaluated by Postgres only, and yet are the same for everybody. Sorted.
const READS_NO_CLAIMS: &[&str] = &[
    "age",
    "clock_timestamp",
    "gen_random_uuid",
    "now",
    "plainto_tsquery",
    "random",
    "statement_timestamp",
    "timeofday",
    "to_tsquery",
    "to_tsvector",
    "transaction_timestamp",
    "websearch_to_tsquery",
];

/// What an expression depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Columns of the row that is judged.
    pub(super) row: bool,
    /// Columns of the set that is being built.
    pub(super) set: bool,
    /// A setting that is bound by itself.
    pub(super) setting: bool,
    /// Nothing else but settings, role and claims. What else there is may then be unknown.
    pub(super) claims: bool,
    /// It may have several rows.
    pub(super) returns_set: bool,
}

impl Facts {
    const NOTHING: Self = Self { row: false, set: false, setting: false, claims: true, returns_set: false };
    const FOREIGN: Self = Self { row: false, set: false, setting: false, claims: false, returns_set: false };

    /// Whether Postgres can evaluate it once for a principal.
    pub(super) const fn can_be_bound(self) -> bool {
        !self.row && !self.set && !self.setting && self.claims && !self.returns_set
    }

    const fn and(self, other: Self) -> Self {
        Self {
            row: self.row || other.row,
            set: self.set || other.set,
            setting: self.setting || other.setting,
            claims: self.claims && other.claims,
            returns_set: self.returns_set || other.returns_set,
        }
    }
}

impl Compiler<'_> {
    pub(super) fn facts(&mut self, expr: &Expr, scope: &Scope<'_>) -> Facts {
        self.enter(|compiler| Some(compiler.facts_here(expr, scope))).unwrap_or(Facts::FOREIGN)
    }

    fn all_facts<'e>(&mut self, parts: impl IntoIterator<Item = &'e Expr>, scope: &Scope<'_>) -> Facts {
        let mut facts = Facts::NOTHING;
        for part in parts {
            facts = facts.and(self.facts(part, scope));
        }
        facts
    }

    fn facts_here(&mut self, expr: &Expr, scope: &Scope<'_>) -> Facts {
        match expr {
            Expr::Name(name) => self.name_facts(name, scope),
            Expr::Parameter(number) => match (scope.call(), number.checked_sub(1)) {
                (Some(call), Some(index)) => self.parameter_facts(call, index),
                _ => Facts::FOREIGN,
            },
            Expr::Null | Expr::Bool(_) | Expr::Number(_) | Expr::Text(_) => Facts::NOTHING,
            Expr::Cast { operand, to } => {
                let facts = self.facts(operand, scope);
                let known = self.sql_type(to, scope.names);
                let steady = known.is_some_and(|known| !is_a_moment(operand, known.oid));
                Facts { claims: facts.claims && steady, ..facts }
            }
            Expr::Prefix { operand, .. } | Expr::Not(operand) | Expr::Is { operand, .. } => self.facts(operand, scope),
            Expr::Binary { left, right, .. } | Expr::Distinct { left, right, .. } => {
                self.all_facts([&**left, &**right], scope)
            }
            Expr::Subscript { operand, index } => self.all_facts([&**operand, &**index], scope),
            Expr::And(parts) | Expr::Or(parts) | Expr::Array(parts) => self.all_facts(parts, scope),
            Expr::Special { arguments, .. } => self.all_facts(arguments, scope),
            Expr::InList { operand, list, .. } => self.facts(operand, scope).and(self.all_facts(list, scope)),
            Expr::InQuery { operand, query, .. } => {
                self.facts(operand, scope).and(Facts { returns_set: false, ..self.query_facts(query, scope) })
            }
            Expr::Between { operand, low, high, .. } => self.all_facts([&**operand, &**low, &**high], scope),
            Expr::Quantified { left, right, .. } => {
                self.facts(left, scope).and(Facts { returns_set: false, ..self.facts(right, scope) })
            }
            Expr::Exists(query) | Expr::ArrayQuery(query) => {
                Facts { returns_set: false, ..self.query_facts(query, scope) }
            }
            Expr::Query(query) => self.query_facts(query, scope),
            Expr::Case { operand, branches, otherwise } => {
                let parts = branches.iter().flat_map(|(condition, value)| [condition, value]);
                self.all_facts(parts.chain(operand.as_deref()).chain(otherwise.as_deref()), scope)
            }
            Expr::Call { name, arguments } => self.call_facts(name, arguments, scope),
            Expr::Keyword(word) => match word.as_str() {
                "current_user" | "current_role" | "user" if scope.reader.is_none() => Facts::NOTHING,
                "session_user" | "current_catalog" => Facts::NOTHING,
                _ => Facts::FOREIGN,
            },
            Expr::Unfit(parts) => Facts { claims: false, ..self.all_facts(parts, scope) },
            Expr::Star(_) | Expr::Opaque => Facts::FOREIGN,
        }
    }

    fn name_facts(&mut self, name: &[String], scope: &Scope<'_>) -> Facts {
        match scope.meaning(name) {
            Meaning::Column { source: Source::Row, .. } => Facts { row: true, ..Facts::NOTHING },
            Meaning::Column { source: Source::Set, .. } => Facts { set: true, ..Facts::NOTHING },
            Meaning::Local => Facts::NOTHING,
            Meaning::Parameter(call, index) => self.parameter_facts(call, index),
            Meaning::Unknown => Facts::FOREIGN,
        }
    }

    fn parameter_facts(&mut self, call: &Call<'_>, index: usize) -> Facts {
        match call.arguments.get(index) {
            Some(argument) => self.facts(argument, call.caller),
            None => Facts::FOREIGN,
        }
    }

    fn call_facts(&mut self, name: &[String], arguments: &[Expr], scope: &Scope<'_>) -> Facts {
        let facts = self.all_facts(arguments, scope);
        match self.function(name, arguments.len(), scope.names) {
            Function::Catalog { .. } if self.by_settings && reads_setting(name) => {
                let claims = self.setting_name(name, arguments, scope).is_some();
                Facts { setting: true, claims, ..facts }
            }
            Function::Catalog { pure, returns_set } => {
                Facts { claims: facts.claims && pure, returns_set: facts.returns_set || returns_set, ..facts }
            }
            Function::Claims(_) => Facts { claims: facts.claims && !self.by_settings, ..facts },
            Function::User(function) => {
                self.refused |= !function.executable && scope.call().is_none();
                let mut typed = arguments.iter().zip(&function.arguments);
                let steady = typed.all(|(argument, parameter)| !is_a_moment(argument, parameter.type_oid));
                let inner = self.body_facts(function, arguments, scope);
                let claims = facts.claims && steady && inner.claims;
                let setting = facts.setting || inner.setting;
                Facts { claims, setting, returns_set: facts.returns_set || function.returns_set, ..facts }
            }
            Function::Unknown => Facts { claims: false, ..facts },
        }
    }

    /// What a call depends on beside its arguments, when it will be made by the role itself.
    fn body_facts(&mut self, function: &FunctionInfo, arguments: &[Expr], scope: &Scope<'_>) -> Facts {
        // In a body that runs as its owner it may be that only the owner can execute it.
        if (scope.reader.is_some() && !function.executable) || scope.is_within(function) {
            return Facts::FOREIGN;
        }
        let Some(body) = self.body(function) else { return Facts::FOREIGN };
        let Some(names) = body_names(function, scope) else { return Facts::FOREIGN };
        self.facts(&body, &scope_of(function, arguments, scope, &names))
    }

    /// Only queries over rows of functions can depend on claims alone.
    pub(super) fn query_facts(&mut self, query: &Query, scope: &Scope<'_>) -> Facts {
        match query.from.as_slice() {
            [] => self.query_part_facts(query, scope),
            [FromItem::Function { call, alias, columns }] => {
                let from = Facts { returns_set: false, ..self.facts(call, scope) };
                let name = match call {
                    Expr::Call { name, .. } => name.last().map(String::as_str),
                    _ => None,
                };
                let alias = alias.as_deref().or(name);
                let inner = scope.inner(Table::Function { alias, columns });
                let facts = from.and(self.query_part_facts(query, &inner));
                Facts { returns_set: true, ..facts }
            }
            _ => Facts::FOREIGN,
        }
    }

    fn query_part_facts(&mut self, query: &Query, scope: &Scope<'_>) -> Facts {
        let items = query.items.iter().map(|item| &item.expr);
        let facts = self.all_facts(items.chain(&query.filter).chain(&query.limit), scope);
        // With a condition there may be no row; as a value that is NULL.
        if query.items.len() == 1 { facts } else { Facts { claims: false, ..facts } }
    }

    /// Binds what an expression that is left to Postgres reads of the claims; false when it may read others.
    pub(super) fn note_claims(&mut self, expr: &Expr, scope: &Scope<'_>) -> bool {
        self.enter(|compiler| Some(compiler.note_claims_here(expr, scope))).unwrap_or(false)
    }

    fn note_claims_here(&mut self, expr: &Expr, scope: &Scope<'_>) -> bool {
        match expr {
            expr if is_literal(expr) => return true,
            Expr::Name(name) => {
                return match scope.meaning(name) {
                    Meaning::Column { .. } | Meaning::Local => true,
                    Meaning::Parameter(call, index) => {
                        call.arguments.get(index).is_some_and(|argument| self.note_claims(argument, call.caller))
                    }
                    Meaning::Unknown => false,
                };
            }
            Expr::Keyword(_) => {
                return scope.reader.is_some() || self.bind_text(expr, scope).is_some() || is_clock(expr);
            }
            _ => {}
        }
        if self.facts(expr, scope).can_be_bound() && self.bind_text(expr, scope).is_some() {
            return true;
        }
        match expr {
            Expr::Cast { operand, .. }
            | Expr::Prefix { operand, .. }
            | Expr::Not(operand)
            | Expr::Is { operand, .. } => self.note_claims(operand, scope),
            Expr::Binary { left, right, .. }
            | Expr::Distinct { left, right, .. }
            | Expr::Quantified { left, right, .. }
            | Expr::Subscript { operand: left, index: right } => {
                self.note_claims(left, scope) && self.note_claims(right, scope)
            }
            Expr::And(parts)
            | Expr::Or(parts)
            | Expr::Array(parts)
            | Expr::Unfit(parts)
            | Expr::Special { arguments: parts, .. } => parts.iter().all(|part| self.note_claims(part, scope)),
            Expr::InList { operand, list, .. } => {
                self.note_claims(operand, scope) && list.iter().all(|part| self.note_claims(part, scope))
            }
            Expr::Between { operand, low, high, .. } => {
                [operand, low, high].into_iter().all(|part| self.note_claims(part, scope))
            }
            Expr::Case { operand, branches, otherwise } => {
                operand.iter().chain(otherwise).all(|part| self.note_claims(part, scope))
                    && branches
                        .iter()
                        .all(|(condition, value)| self.note_claims(condition, scope) && self.note_claims(value, scope))
            }
            Expr::Call { name, arguments } => {
                let reads_none = |pure: bool| {
                    pure || name.last().is_some_and(|name| READS_NO_CLAIMS.binary_search(&name.as_str()).is_ok())
                };
                let function = self.function(name, arguments.len(), scope.names);
                matches!(function, Function::Catalog { pure, .. } if reads_none(pure))
                    && arguments.iter().all(|part| self.note_claims(part, scope))
            }
            _ => false,
        }
    }

    /// Binds the expression for its text alone.
    fn bind_text(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<()> {
        if !self.facts(expr, scope).can_be_bound() {
            return None;
        }
        let sql = self.print(expr, scope)?;
        self.binding(format!("({sql})::text"), 0).map(|_| ())
    }

    /// A type as written.
    pub(super) fn sql_type(&mut self, name: &TypeName, names: &Names) -> Option<SqlType> {
        if name.builtin {
            let oid = types::builtin_oid(name)?;
            let element = types::builtin_element(oid);
            return Some(SqlType { oid, domain: false, is_enum: false, element, usable: true });
        }
        if matches!(names, Names::Path(_) | Names::Either(_)) && !name.name.contains('.') {
            return None;
        }
        let suffix = if name.array { "[]" } else { "" };
        match self.fact(Need::Type { name: format!("{}{suffix}", name.name) })? {
            Fact::Type(known) if known.usable || *names == Names::Catalog => {
                if let Some(element) = known.element {
                    self.elements.insert(known.oid, element);
                }
                Some(*known)
            }
            _ => None,
        }
    }
}

/// Where names in the body of a function that is called in this scope are looked for; `None` when that cannot be told.
pub(super) fn body_names(function: &FunctionInfo, scope: &Scope<'_>) -> Option<Names> {
    if function.parsed_body {
        return Some(Names::Catalog);
    }
    match (function.search_path(), scope.search_path()) {
        (Some(own), _) => schemas_of(own).map(Names::Path),
        // Postgres evaluates it by the path around it, and a binding that calls it by the session's.
        (None, Some(around)) => schemas_of(around).map(Names::Either),
        (None, None) => Some(Names::Session),
    }
}

/// The schemas of a path but for `pg_catalog`, which is before all of them.
fn schemas_of(path: &str) -> Option<Vec<String>> {
    let mut schemas = Vec::new();
    for (index, part) in path.split(',').map(str::trim).enumerate() {
        let part = part.strip_prefix('"').and_then(|part| part.strip_suffix('"')).unwrap_or(part);
        match part {
            "" | "pg_temp" => {}
            "pg_catalog" if index == 0 => {}
            "pg_catalog" | "$user" => return None,
            part if part.contains(['"', '\'']) => return None,
            part => schemas.push(part.to_owned()),
        }
    }
    Some(schemas)
}

/// Whether a literal means another moment each time that it is read as the type.
pub(super) fn is_a_moment(expr: &Expr, oid: u32) -> bool {
    let Expr::Text(text) = expr else { return false };
    let text = text.to_ascii_lowercase();
    (types::is_time(oid) || types::builtin_element(oid).is_some_and(types::is_time))
        && ["now", "today", "tomorrow", "yesterday"].iter().any(|word| text.contains(word))
}

/// Whether the expression is a literal, or an array of such.
fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Null | Expr::Bool(_) | Expr::Number(_) | Expr::Text(_) => true,
        Expr::Cast { operand, .. } | Expr::Prefix { operand, .. } => is_literal(operand),
        Expr::Array(parts) => parts.iter().all(is_literal),
        _ => false,
    }
}

/// Whether the keyword's value depends on the time alone.
fn is_clock(expr: &Expr) -> bool {
    matches!(expr, Expr::Keyword(word) if !word.contains("user") && !word.contains("role") && !word.contains("schema"))
}
