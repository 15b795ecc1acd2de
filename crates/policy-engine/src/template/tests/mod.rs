//! Tables of SQL and what it is compiled to, in a short notation.

mod ask;
mod bind;
mod functions;
mod garbage;
mod planned;
mod sets;
mod settings;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use reactor_model::filter::Truth;
use reactor_model::relation::{Collation, Column, Relation, ReplicaIdentity, TypeInfo, TypeKind};

use super::*;
use crate::program::{Comparator, MemberMode, Scalar};

const MOOD: u32 = 90_001;
const POINT: u32 = 90_002;
const WORD: u32 = 90_003;
const MOODS: u32 = 90_004;
const SQUARE: u32 = 90_005;

/// A column as `name type`, with `*` after a primary key's.
fn column(text: &str) -> Column {
    let (name, type_name) = text.split_once(' ').unwrap();
    let (type_name, primary_key) = type_name.strip_suffix('*').map_or((type_name, false), |name| (name, true));
    let (type_oid, collation) = match type_name {
        "uuid" => (2950, Collation::None),
        "int" => (23, Collation::None),
        "int8" => (20, Collation::None),
        "numeric" => (1700, Collation::None),
        "bool" => (16, Collation::None),
        "jsonb" => (3802, Collation::None),
        "json" => (114, Collation::None),
        "date" => (1082, Collation::None),
        "timestamptz" => (1184, Collation::None),
        "uuids" => (2951, Collation::None),
        "text" => (25, Collation::Deterministic),
        "ctext" => (25, Collation::Bytes),
        "ntext" => (25, Collation::Nondeterministic),
        "varchar" => (1043, Collation::Deterministic),
        "bpchar" => (1042, Collation::Deterministic),
        "mood" => (MOOD, Collation::None),
        "point" => (POINT, Collation::None),
        "word" => (WORD, Collation::Deterministic),
        "square" => (SQUARE, Collation::None),
        other => panic!("no type {other}"),
    };
    Column { name: name.to_owned(), type_oid, type_mod: -1, primary_key, identity_key: primary_key, collation }
}

fn relation(table_oid: u32, table: &str, columns: &[&str]) -> Relation {
    let columns: Vec<Column> = columns.iter().map(|text| column(text)).collect();
    let mut types = BTreeMap::new();
    let mut add = |oid: u32, kind: TypeKind| types.insert(oid, TypeInfo { name: format!("t{oid}"), kind });
    for column in &columns {
        let kind = match column.type_oid {
            MOOD => TypeKind::Enum { labels: vec!["sad".to_owned(), "happy".to_owned()] },
            POINT => TypeKind::Extension,
            WORD => TypeKind::Domain { base: 25 },
            SQUARE => TypeKind::Composite { attributes: Vec::new() },
            2951 => TypeKind::Array { element: 2950, delimiter: ',' },
            _ => TypeKind::Builtin,
        };
        add(column.type_oid, kind);
    }
    add(25, TypeKind::Builtin);
    Relation {
        oid: table_oid,
        table_oid,
        schema: "public".to_owned(),
        table: table.to_owned(),
        columns,
        identity: ReplicaIdentity::Default,
        row_security: true,
        types,
    }
}

/// The table that the policies of the tests are of.
fn messages() -> Relation {
    relation(
        1,
        "messages",
        &[
            "id int8*",
            "user_id uuid",
            "room_id int8",
            "n int",
            "amount numeric",
            "ok bool",
            "meta jsonb",
            "raw json",
            "body text",
            "code ctext",
            "ci ntext",
            "v varchar",
            "pad bpchar",
            "m mood",
            "at timestamptz",
            "day date",
            "readers uuids",
            "p point",
            "w word",
            "sq square",
        ],
    )
}

fn table(oid: u32, name: &str, columns: &[&str]) -> TableInfo {
    let relation = relation(oid, name, columns);
    let names: BTreeSet<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
    TableInfo { relation, published: true, columns: names.clone(), readable: names, usable: true, policies: None }
}

fn function(name: &str, arguments: &[(&str, u32, &str)], result: u32, body: &str) -> FunctionInfo {
    let (schema, name) = name.split_once('.').unwrap();
    let argument = |(name, type_oid, type_name): &(&str, u32, &str)| Argument {
        name: (!name.is_empty()).then(|| (*name).to_owned()),
        type_oid: *type_oid,
        type_name: (*type_name).to_owned(),
    };
    FunctionInfo {
        schema: schema.to_owned(),
        name: name.to_owned(),
        language: "sql".to_owned(),
        body: Some(body.to_owned()),
        parsed_body: false,
        arguments: arguments.iter().map(argument).collect(),
        defaults: 0,
        variadic: false,
        result,
        strict: false,
        returns_set: false,
        volatility: Volatility::Stable,
        security_definer: false,
        owner: "postgres".to_owned(),
        settings: Vec::new(),
        executable: true,
        usable: true,
        plain: true,
    }
}

fn native(name: &str, volatility: Volatility) -> FunctionInfo {
    FunctionInfo {
        language: "internal".to_owned(),
        body: None,
        volatility,
        ..function(&format!("pg_catalog.{name}"), &[], 25, "")
    }
}

/// What the tests' database holds.
struct Database {
    functions: Vec<FunctionInfo>,
    tables: Vec<TableInfo>,
    owned: Vec<TableInfo>,
    expressions: Vec<(&'static str, u32)>,
}

impl Database {
    fn new() -> Self {
        let functions = vec![
            function(
                "auth.uid",
                &[],
                2950,
                "select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                 (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid",
            ),
            function("auth.role", &[], 25, "select current_setting('request.jwt.claim.role', true)::text"),
            function("auth.jwt", &[], 3802, "select current_setting('request.jwt.claims', true)::jsonb"),
            native("current_setting", Volatility::Stable),
            native("now", Volatility::Stable),
            native("random", Volatility::Volatile),
            native("length", Volatility::Immutable),
            FunctionInfo { returns_set: true, ..native("jsonb_array_elements_text", Volatility::Immutable) },
        ];
        Self { functions, tables: Vec::new(), owned: Vec::new(), expressions: Vec::new() }
    }

    fn answer(&self, need: &Need) -> Fact {
        match need {
            Need::Function { schema, name } => {
                let found = |function: &&FunctionInfo| {
                    function.name == *name
                        && match schema {
                            Some(schema) => function.schema == *schema,
                            None => matches!(function.schema.as_str(), "pg_catalog" | "public"),
                        }
                };
                Fact::Functions(self.functions.iter().filter(found).cloned().collect())
            }
            Need::Type { name } => {
                let (oid, element) = match name.as_str() {
                    "public.mood" => (MOOD, None),
                    "public.mood[]" => (MOODS, Some(MOOD)),
                    "public.word" => (25, None),
                    _ => return Fact::Unknown,
                };
                Fact::Type(SqlType { oid, domain: name == "public.word", is_enum: oid == MOOD, element, usable: true })
            }
            Need::Table { schema, name, reader } => {
                let tables = if reader.is_some() { &self.owned } else { &self.tables };
                let found = |table: &&TableInfo| {
                    table.relation.table == *name
                        && schema.as_ref().is_none_or(|schema| table.relation.schema == *schema)
                };
                tables.iter().find(found).map_or(Fact::Unknown, |table| Fact::Table(Box::new(table.clone())))
            }
            Need::TypeOf { sql } => match self.expressions.iter().find(|(known, _)| known == sql) {
                Some((_, oid)) => Fact::TypeOf(*oid),
                None => panic!("asked for the type of {sql}"),
            },
        }
    }

    fn compile(&self, source: &PolicySource) -> Template {
        let mut knowledge = Knowledge::default();
        for _ in 0..MAX_ROUNDS {
            match compile(source, &knowledge) {
                Ok(template) => return template,
                Err(needs) => {
                    for need in needs {
                        let fact = self.answer(&need);
                        knowledge.learn(need, fact);
                    }
                }
            }
        }
        panic!("still needs more after {MAX_ROUNDS} rounds");
    }

    fn policy(&self, sql: &str) -> Template {
        self.compile(&policy(sql))
    }

    fn check(&self, sql: &str, expected: &str, bindings: &[&str]) {
        let template = self.policy(sql);
        assert_eq!(show(&template.predicate), expected, "{sql}");
        let found: Vec<&str> = template.bindings.iter().map(|binding| binding.sql.as_str()).collect();
        assert_eq!(found, bindings, "bindings of {sql}");
    }
}

fn policy(sql: &str) -> PolicySource {
    PolicySource {
        relation: messages(),
        row_security: true,
        permissive: vec![sql.to_owned()],
        restrictive: Vec::new(),
        rules: Vec::new(),
    }
}

fn rule(sql: &str) -> PolicySource {
    PolicySource { row_security: false, permissive: Vec::new(), rules: vec![sql.to_owned()], ..policy("true") }
}

/// `check` in a database with the usual functions only.
fn check(sql: &str, expected: &str, bindings: &[&str]) {
    Database::new().check(sql, expected, bindings);
}

fn joined(parts: &[Predicate], separator: &str) -> String {
    format!("({})", parts.iter().map(show).collect::<Vec<_>>().join(separator))
}

fn truth(value: Truth) -> &'static str {
    match value {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Unknown => "unknown",
    }
}

fn operator(comparator: Comparator) -> &'static str {
    match comparator {
        Comparator::Eq => "=",
        Comparator::Ne => "<>",
        Comparator::Lt => "<",
        Comparator::Le => "<=",
        Comparator::Gt => ">",
        Comparator::Ge => ">=",
        Comparator::Distinct => "is distinct from",
        Comparator::NotDistinct => "is not distinct from",
    }
}

/// A predicate in the tests' notation.
fn show(predicate: &Predicate) -> String {
    match predicate {
        Predicate::Const(value) => truth(*value).to_owned(),
        Predicate::And(parts) => joined(parts, " & "),
        Predicate::Or(parts) => joined(parts, " | "),
        Predicate::Not(operand) => format!("!{}", show(operand)),
        Predicate::Is { operand, value, negated } => {
            format!("{} is {}{}", show(operand), if *negated { "not " } else { "" }, truth(*value))
        }
        Predicate::Compare { operator: found, left, right } => {
            format!("{} {} {}", value(left), operator(*found), value(right))
        }
        Predicate::IsNull(operand) => format!("{} is null", value(operand)),
        Predicate::Quantified { operator: found, left, array, all } => {
            format!("{} {} {}({})", value(left), operator(*found), if *all { "all" } else { "any" }, value(array))
        }
        Predicate::Like { text, pattern, insensitive } => {
            format!("{} ~~{} {}", value(text), if *insensitive { "*" } else { "" }, value(pattern))
        }
        Predicate::Bool(operand) => value(operand),
        Predicate::Member { set, values, mode } => {
            let values = values.iter().map(value).collect::<Vec<_>>().join(", ");
            format!("{}{set}({values})", if *mode == MemberMode::In { "in" } else { "set" })
        }
        Predicate::Raise => "raise".to_owned(),
        Predicate::Ask => "ask".to_owned(),
    }
}

fn values(parts: &[&Scalar]) -> String {
    parts.iter().map(|part| value(part)).collect::<Vec<_>>().join(", ")
}

fn type_of(oid: u32) -> String {
    super::types::builtin_name(oid).map_or_else(|| oid.to_string(), str::to_owned)
}

fn value(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Column { name, .. } => name.clone(),
        Scalar::Literal { text: None, .. } => "null".to_owned(),
        Scalar::Literal { type_oid: 20 | 23, text: Some(text) } => text.clone(),
        Scalar::Literal { text: Some(text), .. } => format!("'{text}'"),
        Scalar::Bound { index, .. } => format!("${index}"),
        Scalar::Cast { operand, type_oid } => format!("{}::{}", value(operand), type_of(*type_oid)),
        Scalar::Concat(left, right) => format!("({} || {})", value(left), value(right)),
        Scalar::Coalesce(parts) => format!("coalesce({})", values(&parts.iter().collect::<Vec<_>>())),
        Scalar::Lower(text) => format!("lower({})", value(text)),
        Scalar::Upper(text) => format!("upper({})", value(text)),
        Scalar::JsonGet { json, key, as_text } => {
            format!("({} {} {})", value(json), if *as_text { "->>" } else { "->" }, value(key))
        }
        Scalar::JsonPath { json, path, as_text } => {
            format!("({} {} {})", value(json), if *as_text { "#>>" } else { "#>" }, value(path))
        }
        Scalar::Truth(predicate) => format!("[{}]", show(predicate)),
    }
}
