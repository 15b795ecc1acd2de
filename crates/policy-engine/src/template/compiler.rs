//! The compiler's state, and how the parts of a policy come together.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use reactor_model::filter::Truth;

use super::fixed::{PLANNED, arranged};
use super::knowledge::{Fact, FunctionInfo, Knowledge, Need, TableInfo, Volatility};
use super::scope::{Names, Scope, Table};
use super::{Binding, PolicySource, SetTemplate, Template};
use crate::program::{Predicate, Scalar};
use crate::sql::{Expr, parse_body, parse_expression};

/// How many nodes may be visited in all, bodies of functions each time that they are inlined.
const FUEL: usize = 200_000;
/// How deep the visit may go, through bodies of functions; each level takes some KiB of the stack.
const MAX_DEPTH: usize = 96;
/// More parts that depend on the principal are left to Postgres.
const MAX_BINDINGS: usize = 256;
/// More sets are left to Postgres.
const MAX_SETS: usize = 16;

pub(super) struct Compiler<'k> {
    knowledge: &'k Knowledge,
    needs: BTreeSet<Need>,
    pub(super) bindings: Vec<Binding>,
    pub(super) sets: Vec<SetTemplate>,
    pub(super) source: &'k PolicySource,
    bodies: BTreeMap<String, Option<Rc<Expr>>>,
    /// The element types of array types that were named.
    pub(super) elements: BTreeMap<u32, u32>,
    fuel: usize,
    depth: usize,
    pub(super) opaque: bool,
    /// The role lacks a right that Postgres checks before it reads any row: every query raises.
    pub(super) refused: bool,
    /// Within the condition of a set nothing may be looked up in another.
    pub(super) in_set: bool,
    /// Settings are bound by themselves, and there are no sets.
    pub(super) by_settings: bool,
}

/// What a call's name stands for.
#[derive(Clone, Copy)]
pub(super) enum Function<'k> {
    /// A function of `pg_catalog`; `pure` if it depends on its arguments and settings alone.
    Catalog { pure: bool, returns_set: bool },
    /// The one function that it can be.
    User(&'k FunctionInfo),
    /// `auth.uid()` and its like where the database has none.
    Claims(&'static Claim),
    /// None, or it is not known which.
    Unknown,
}

/// A function over the claims, as Supabase defines it.
pub(super) struct Claim {
    name: &'static str,
    pub(super) sql: &'static str,
    pub(super) type_oid: u32,
}

const CLAIMS: &[Claim] = &[
    Claim {
        name: "uid",
        sql: "(nullif(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid)",
        type_oid: super::types::UUID,
    },
    Claim {
        name: "role",
        sql: "(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')",
        type_oid: super::types::TEXT,
    },
    Claim {
        name: "email",
        sql: "(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')",
        type_oid: super::types::TEXT,
    },
    Claim {
        name: "jwt",
        sql: "(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb)",
        type_oid: super::types::JSONB,
    },
];

/// Functions of `pg_catalog` that are not immutable only because they read settings or call output functions. Sorted.
const READS_SETTINGS: &[&str] = &[
    "array_to_json",
    "array_to_string",
    "concat",
    "concat_ws",
    "current_setting",
    "date_part",
    "date_trunc",
    "format",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "pg_typeof",
    "quote_literal",
    "quote_nullable",
    "row_to_json",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
];

/// Immutable functions of `pg_catalog` that policies often use: they need not be asked for. Sorted.
const KNOWN_PURE: &[&str] =
    &["btrim", "like_escape", "lower", "ltrim", "md5", "replace", "rtrim", "split_part", "string_to_array", "upper"];

pub(super) fn compile(source: &PolicySource, knowledge: &Knowledge) -> Result<Template, Vec<Need>> {
    finished(Compiler::new(source, knowledge))
}

pub(super) fn compile_by_settings(source: &PolicySource, knowledge: &Knowledge) -> Result<Template, Vec<Need>> {
    finished(Compiler { by_settings: true, ..Compiler::new(source, knowledge) })
}

fn finished(mut compiler: Compiler<'_>) -> Result<Template, Vec<Need>> {
    let template = compiler.template();
    if compiler.needs.is_empty() { Ok(template) } else { Err(compiler.needs.into_iter().collect()) }
}

pub(super) fn compile_known(source: &PolicySource, knowledge: &Knowledge) -> Template {
    Compiler::new(source, knowledge).template()
}

impl<'k> Compiler<'k> {
    const fn new(source: &'k PolicySource, knowledge: &'k Knowledge) -> Self {
        Self {
            knowledge,
            needs: BTreeSet::new(),
            bindings: Vec::new(),
            sets: Vec::new(),
            source,
            bodies: BTreeMap::new(),
            elements: BTreeMap::new(),
            fuel: FUEL,
            depth: 0,
            opaque: false,
            refused: false,
            in_set: false,
            by_settings: false,
        }
    }

    fn template(&mut self) -> Template {
        let mut all = Vec::new();
        let mut sql = Vec::new();
        let mut rules = None;
        let source = self.source;
        if source.row_security {
            let permissive = &source.permissive;
            all.push(self.alternatives(permissive, &Names::Catalog));
            sql.push(any_of(permissive.iter().map(|text| group(text)).collect()));
            for text in &source.restrictive {
                all.push(self.alternatives(std::slice::from_ref(text), &Names::Catalog));
                sql.push(group(text));
            }
        }
        if !source.rules.is_empty() {
            all.push(self.alternatives(&source.rules, &Names::Session));
            let rule = any_of(source.rules.iter().map(|text| self.rule_sql(text)).collect());
            sql.push(rule.clone());
            rules = Some(rule);
        }
        let predicate = if self.refused { Predicate::Raise } else { arranged(PLANNED.fold(Predicate::And(all))) };
        let sql = if sql.is_empty() { "true".to_owned() } else { sql.join(" and ") };
        Template {
            predicate,
            bindings: std::mem::take(&mut self.bindings),
            sets: std::mem::take(&mut self.sets),
            sql,
            rules,
            opaque: self.opaque,
        }
    }

    /// The expressions of policies or rules over the row, of which one must hold.
    fn alternatives(&mut self, texts: &[String], names: &Names) -> Predicate {
        let source = self.source;
        let scope = Scope { table: Some(Table::Row(&source.relation)), outer: None, names, call: None, reader: None };
        let parts: Vec<Expr> = texts.iter().map(|text| parse_expression(text).unwrap_or(Expr::Opaque)).collect();
        match self.connective(&parts, false, &scope, true) {
            Some(predicate) => predicate,
            None => Predicate::Or(parts.iter().map(|part| self.ask(part, &scope)).collect()),
        }
    }

    /// A rule as the database understands it: with the claims' functions written out where it has none.
    fn rule_sql(&mut self, text: &str) -> String {
        let source = self.source;
        let names = Names::Session;
        let scope =
            Scope { table: Some(Table::Row(&source.relation)), outer: None, names: &names, call: None, reader: None };
        let printed = parse_expression(text).ok().and_then(|expr| self.print_whole(&expr, &scope));
        group(printed.as_deref().unwrap_or(text))
    }

    /// Goes one level deeper; `None` where the bounds are reached.
    pub(super) fn enter<T>(&mut self, visit: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.fuel == 0 || self.depth == MAX_DEPTH {
            return None;
        }
        self.fuel -= 1;
        self.depth += 1;
        let result = visit(self);
        self.depth -= 1;
        result
    }

    /// What is known of it; asks for it otherwise.
    pub(super) fn fact(&mut self, need: Need) -> Option<&'k Fact> {
        let fact = self.knowledge.fact(&need);
        if fact.is_none() {
            self.needs.insert(need);
        }
        fact
    }

    /// How many things were asked for.
    pub(super) fn asked(&self) -> usize {
        self.needs.len()
    }

    /// The body of a function in SQL.
    pub(super) fn body(&mut self, function: &FunctionInfo) -> Option<Rc<Expr>> {
        if function.language != "sql" || !function.plain {
            return None;
        }
        let text = function.body.as_ref()?;
        if !self.bodies.contains_key(text) {
            self.bodies.insert(text.clone(), parse_body(text).ok().map(Rc::new));
        }
        self.bodies.get(text)?.clone()
    }

    /// What the call's name stands for.
    pub(super) fn function(&mut self, name: &[String], arguments: usize, names: &Names) -> Function<'k> {
        let is_qualified = name.len() > 1;
        let (schemas, name): (Vec<Option<&str>>, &str) = match (name, names) {
            ([schema, name], _) => (vec![Some(schema)], name),
            ([name], Names::Catalog) => (vec![Some("pg_catalog")], name),
            ([name], Names::Session) => (vec![None], name),
            ([name], Names::Path(path)) => {
                (std::iter::once("pg_catalog").chain(path.iter().map(String::as_str)).map(Some).collect(), name)
            }
            ([name], Names::Either(path)) => {
                (std::iter::once(None).chain(path.iter().map(|schema| Some(schema.as_str()))).collect(), name)
            }
            _ => return Function::Unknown,
        };
        let reads_settings = READS_SETTINGS.binary_search(&name).is_ok();
        if schemas == [Some("pg_catalog")] && (reads_settings || KNOWN_PURE.binary_search(&name).is_ok()) {
            return Function::Catalog { pure: true, returns_set: false };
        }
        let in_auth = schemas == [Some("auth")];
        let mut found: Vec<&'k FunctionInfo> = Vec::new();
        for schema in schemas {
            let need = Need::Function { schema: schema.map(str::to_owned), name: name.to_owned() };
            match self.fact(need) {
                Some(Fact::Functions(functions)) => found.extend(functions),
                Some(_) => {}
                None => return Function::Unknown,
            }
        }
        if found.is_empty() {
            let claim = CLAIMS.iter().find(|claim| in_auth && arguments == 0 && claim.name == name);
            return claim.map_or(Function::Unknown, Function::Claims);
        }
        let is_catalog = |function: &&FunctionInfo| function.schema == "pg_catalog";
        if found.iter().all(is_catalog) {
            let pure = found
                .iter()
                .all(|function| function.plain && (reads_settings || function.volatility == Volatility::Immutable));
            return Function::Catalog { pure, returns_set: found.iter().any(|function| function.returns_set) };
        }
        let is_either = matches!(names, Names::Either(_)) && !is_qualified;
        if is_either || found.iter().any(is_catalog) || found.iter().any(|function| function.variadic) {
            return Function::Unknown;
        }
        found.retain(|function| {
            let most = function.arguments.len();
            arguments <= most && arguments >= most.saturating_sub(function.defaults)
        });
        match found.as_slice() {
            [function] if function.plain && (function.usable || *names == Names::Catalog) => Function::User(function),
            _ => Function::Unknown,
        }
    }

    /// The table that a subquery reads.
    pub(super) fn table(&mut self, name: &[String], scope: &Scope<'_>) -> Option<&'k TableInfo> {
        let (schemas, name): (Vec<Option<&str>>, &str) = match (name, scope.names) {
            ([schema, name], _) => (vec![Some(schema)], name),
            ([name], Names::Session) => (vec![None], name),
            ([name], Names::Path(path)) => (path.iter().map(String::as_str).map(Some).collect(), name),
            _ => return None,
        };
        for schema in schemas {
            let need = Need::Table {
                schema: schema.map(str::to_owned),
                name: name.to_owned(),
                reader: scope.reader.map(str::to_owned),
            };
            match self.fact(need) {
                Some(Fact::Table(table)) => return Some(table),
                Some(_) => {}
                None => return None,
            }
        }
        None
    }

    /// A binding's value.
    pub(super) fn binding(&mut self, sql: String, type_oid: u32) -> Option<Scalar> {
        self.bind(Binding { sql, type_oid, setting: None })
    }

    pub(super) fn bind(&mut self, binding: Binding) -> Option<Scalar> {
        let type_oid = binding.type_oid;
        let index = match self.bindings.iter().position(|known| *known == binding) {
            Some(index) => index,
            None if self.bindings.len() < MAX_BINDINGS => {
                self.bindings.push(binding);
                self.bindings.len() - 1
            }
            None => return None,
        };
        Some(Scalar::Bound { index, type_oid })
    }

    /// The index of a set.
    pub(super) fn set(&mut self, set: SetTemplate) -> Option<usize> {
        match self.sets.iter().position(|known| *known == set) {
            Some(index) => Some(index),
            None if self.sets.len() < MAX_SETS => {
                self.sets.push(set);
                Some(self.sets.len() - 1)
            }
            None => None,
        }
    }

    /// Only Postgres can tell: what the part reads of the claims is noted, so that equal answers can be told apart.
    pub(super) fn ask(&mut self, expr: &Expr, scope: &Scope<'_>) -> Predicate {
        if !self.by_settings && !self.note_claims(expr, scope) {
            self.opaque = true;
        }
        Predicate::Ask
    }
}

/// A text by itself, even when it ends in a comment.
fn group(text: &str) -> String {
    if text.contains("--") { format!("({text}\n)") } else { format!("({text})") }
}

fn any_of(parts: Vec<String>) -> String {
    match parts.as_slice() {
        [] => "false".to_owned(),
        [part] => part.clone(),
        _ => format!("({})", parts.join(" or ")),
    }
}

/// A constant.
pub(super) const fn constant(value: bool) -> Predicate {
    Predicate::Const(if value { Truth::True } else { Truth::False })
}
