//! Predicates as SQL.

use reactor_model::Relation;
use reactor_model::filter::Truth;
use reactor_policy_engine::{Comparator, MemberMode, Predicate, Scalar};

use super::kinds::KINDS;

pub(crate) fn predicate(relation: &Relation, of: &Predicate) -> String {
    let scalar = |of: &Scalar| scalar(relation, of);
    let all = |parts: &[Predicate]| parts.iter().map(|part| predicate(relation, part)).collect::<Vec<_>>();
    match of {
        Predicate::Const(truth) => format!("(select {}::bool)", word(*truth)),
        Predicate::And(parts) if parts.is_empty() => "(select true)".to_owned(),
        Predicate::Or(parts) if parts.is_empty() => "(select false)".to_owned(),
        Predicate::And(parts) => format!("({})", all(parts).join(" and ")),
        Predicate::Or(parts) => format!("({})", all(parts).join(" or ")),
        Predicate::Not(operand) => format!("(not {})", predicate(relation, operand)),
        Predicate::Is { operand, value, negated } => {
            let word = if *value == Truth::Unknown { "unknown" } else { word(*value) };
            format!("({} is {}{word})", predicate(relation, operand), if *negated { "not " } else { "" })
        }
        Predicate::Compare { operator, left, right } => {
            format!("({} {} {})", scalar(left), sign(*operator), scalar(right))
        }
        Predicate::IsNull(operand) => format!("({} is null)", scalar(operand)),
        Predicate::Quantified { operator, left, array, all } => {
            format!("({} {} {} ({}))", scalar(left), sign(*operator), if *all { "all" } else { "any" }, scalar(array))
        }
        Predicate::Like { text, pattern, insensitive } => {
            format!("({} {} {})", scalar(text), if *insensitive { "ilike" } else { "like" }, scalar(pattern))
        }
        Predicate::Bool(operand) => scalar(operand),
        Predicate::Member { set, values, mode } => member(*set, &values.iter().map(scalar).collect::<Vec<_>>(), *mode),
        Predicate::Raise => "(1 / (select 0) = 1)".to_owned(),
        Predicate::Ask => panic!("nobody says what was to be asked"),
    }
}

fn member(set: usize, values: &[String], mode: MemberMode) -> String {
    let keys: Vec<_> = (1..=values.len()).map(|key| format!("k{key}")).collect();
    match mode {
        MemberMode::Exists => {
            let equal: Vec<_> = keys.iter().zip(values).map(|(key, value)| format!("{key} = {value}")).collect();
            format!("exists (select from set{set} where {})", equal.join(" and "))
        }
        MemberMode::In => format!("(({}) in (select {} from set{set}))", values.join(", "), keys.join(", ")),
    }
}

fn scalar(relation: &Relation, of: &Scalar) -> String {
    let scalar = |of: &Scalar| scalar(relation, of);
    match of {
        Scalar::Column { name, .. } => format!("\"{name}\""),
        // Within a subquery, so that nothing is simplified on account of it.
        Scalar::Literal { type_oid, text } => {
            let text = text.as_ref().map_or("null".to_owned(), |text| format!("'{}'", text.replace('\'', "''")));
            let of = type_name(relation, *type_oid);
            format!("(select {text}::{of})::{of}")
        }
        Scalar::Bound { .. } => panic!("there are no bindings"),
        Scalar::Cast { operand, type_oid } => format!("({})::{}", scalar(operand), type_name(relation, *type_oid)),
        Scalar::Concat(left, right) => format!("({} || {})", scalar(left), scalar(right)),
        Scalar::Coalesce(parts) => format!("coalesce({})", parts.iter().map(scalar).collect::<Vec<_>>().join(", ")),
        Scalar::Lower(text) => format!("lower({})", scalar(text)),
        Scalar::Upper(text) => format!("upper({})", scalar(text)),
        Scalar::JsonGet { json, key, as_text } => {
            format!("({} {} {})", scalar(json), if *as_text { "->>" } else { "->" }, scalar(key))
        }
        Scalar::JsonPath { json, path, as_text } => {
            format!("({} {} {})", scalar(json), if *as_text { "#>>" } else { "#>" }, scalar(path))
        }
        Scalar::Truth(of) => predicate(relation, of),
    }
}

fn type_name(relation: &Relation, oid: u32) -> &'static str {
    let column =
        relation.columns.iter().skip(1).position(|column| column.type_oid == oid).expect("a column of the type");
    KINDS[column].sql
}

const fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Unknown => "null",
    }
}

const fn sign(comparator: Comparator) -> &'static str {
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
