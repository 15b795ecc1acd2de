//! Expressions made ready for rows.

use reactor_model::filter::compare::{Family, base_oid, printed};
use reactor_model::filter::{RowImage, SchemaMismatch};
use reactor_model::oid;
use reactor_model::relation::Collation;
use reactor_model::tuple::Tuple;

use super::cast::{Casting, casting};
use super::compile::Compiler;
use super::expr::{Case, Expr, JsonKey};
use super::types::Type;
use super::{Lookup, Scope, Sets, Stop, json};
use crate::program::Scalar;

/// An expression with its type.
pub(super) type Typed = (Expr, Type);

impl Compiler<'_> {
    pub(super) fn expr(&mut self, scalar: &Scalar) -> Result<Typed, SchemaMismatch> {
        Ok(match scalar {
            Scalar::Column { name, type_oid } => self.column(name, *type_oid)?,
            Scalar::Literal { type_oid, text } => self.literal(*type_oid, text.as_deref()),
            Scalar::Bound { type_oid, .. } => (Expr::Ask, Type::plain(*type_oid)),
            Scalar::Cast { operand, type_oid } => {
                let operand = self.scalar(operand)?;
                self.cast(operand, *type_oid)
            }
            Scalar::Concat(left, right) => concat(self.scalar(left)?, self.scalar(right)?),
            Scalar::Coalesce(parts) => {
                let parts = parts.iter().map(|part| self.scalar(part)).collect::<Result<Vec<_>, _>>()?;
                coalesce(parts)
            }
            Scalar::Lower(text) => in_case(self.scalar(text)?, false),
            Scalar::Upper(text) => in_case(self.scalar(text)?, true),
            Scalar::JsonGet { json, key, as_text } => json_get(self.scalar(json)?, self.scalar(key)?, *as_text),
            Scalar::JsonPath { json, path, as_text } => {
                let (json, path) = (self.scalar(json)?, self.scalar(path)?);
                self.json_path(json, path, *as_text)
            }
            Scalar::Truth(predicate) => (Expr::Truth(Box::new(self.predicate(predicate)?)), Type::BOOL),
        })
    }

    fn column(&self, name: &str, type_oid: u32) -> Result<Typed, SchemaMismatch> {
        let mismatch = || SchemaMismatch { column: name.to_owned() };
        let index = self.relation.column_index(name).ok_or_else(mismatch)?;
        let column = self.relation.columns.get(index).ok_or_else(mismatch)?;
        let of = Type::of_column(self.relation, column);
        if of.oid != base_oid(self.relation, type_oid) {
            return Err(mismatch());
        }
        Ok((Expr::Column(index), of))
    }

    fn literal(&self, type_oid: u32, text: Option<&str>) -> Typed {
        let oid = base_oid(self.relation, type_oid);
        // A `name` is in byte order.
        let of = Type { oid, collation: (oid == oid::NAME).then_some(Collation::Bytes) };
        let family = Family::of_type(self.relation, oid, Collation::Deterministic);
        (text.map_or(Expr::Null, |text| Expr::Literal(printed(family, text))), of)
    }

    fn cast(&self, (operand, from): Typed, type_oid: u32) -> Typed {
        let oid = base_oid(self.relation, type_oid);
        let to = Type { oid, collation: if from.is_text() { from.collation } else { None } };
        let to = match oid {
            oid::NAME => Type { collation: Some(Collation::Bytes), ..to },
            oid::BPCHAR | oid::TEXT | oid::VARCHAR if from.oid == oid::BPCHAR => Type { oid, ..from },
            _ => to,
        };
        let expr = match (operand, casting(self.relation, from, oid)) {
            (constant @ (Expr::Null | Expr::Raise), _) => constant,
            (operand, Casting::Same) => operand,
            (operand, Casting::By(conversion)) => folded(Expr::Convert(Box::new(operand), conversion)),
            (_, Casting::Unknown) => Expr::Ask,
        };
        (expr, to)
    }

    fn json_path(&self, (json, of): Typed, (path, of_path): Typed, as_text: bool) -> Typed {
        let is_known = of.oid == oid::JSONB
            && of_path.element(self.relation).is_some_and(|element| matches!(element.oid, oid::TEXT | oid::VARCHAR));
        let expr = if is_known {
            folded(Expr::JsonPath { json: Box::new(json), path: Box::new(path), as_text })
        } else {
            Expr::Ask
        };
        (expr, if as_text { Type::TEXT } else { Type::JSONB })
    }
}

fn concat((left, of_left): Typed, (right, of_right): Typed) -> Typed {
    let collation = match (of_left.collation, of_right.collation) {
        (None, None) => None,
        _ => Some(of_left.collation_with(of_right)),
    };
    let expr = if of_left.is_text() && of_right.is_text() {
        folded(Expr::Concat(Box::new(left), Box::new(right)))
    } else {
        Expr::Ask
    };
    (expr, Type { collation, ..Type::TEXT })
}

fn coalesce(parts: Vec<Typed>) -> Typed {
    let Some(first) = parts.first().map(|(_, of)| *of) else { return (Expr::Ask, Type::TEXT) };
    let is_text = first.is_text();
    let mut of = first;
    for (_, other) in &parts {
        if other.oid != first.oid && !(is_text && other.is_text()) {
            return (Expr::Ask, first);
        }
        if of.collation.is_some() || other.collation.is_some() {
            of.collation = Some(of.collation_with(*other));
        }
    }
    let mut kept = Vec::new();
    for (part, _) in parts {
        let is_last = matches!(part, Expr::Literal(_) | Expr::Raise);
        if !matches!(part, Expr::Null) {
            kept.push(part);
        }
        if is_last {
            break;
        }
    }
    let expr = match kept.pop() {
        None => Expr::Null,
        Some(only) if kept.is_empty() => only,
        Some(last) => {
            kept.push(last);
            Expr::Coalesce(kept)
        }
    };
    (expr, of)
}

fn in_case((text, of): Typed, upper: bool) -> Typed {
    let case = Case { upper, is_ascii: of.has_ascii_case() };
    let expr = if of.is_text() { folded(Expr::Case { text: Box::new(text), case }) } else { Expr::Ask };
    (expr, of.as_text())
}

fn json_get((json, of): Typed, (key, of_key): Typed, as_text: bool) -> Typed {
    let key = match key {
        Expr::Literal(name) if of_key.is_text() => {
            std::str::from_utf8(&name).ok().map(|name| JsonKey::Name(json::encoded(name).into()))
        }
        key if of_key.is_text() => Some(JsonKey::NameOf(Box::new(key))),
        key if of_key.oid == oid::INT4 || of_key.oid == oid::INT2 => Some(JsonKey::IndexOf(Box::new(key))),
        _ => None,
    };
    let expr = match key {
        Some(key) if of.oid == oid::JSONB => folded(Expr::JsonGet { json: Box::new(json), key, as_text }),
        _ => Expr::Ask,
    };
    (expr, if as_text { Type::TEXT } else { Type::JSONB })
}

/// The expression, or its value when that depends on no row.
fn folded(expr: Expr) -> Expr {
    if !expr.has_constant_operands() {
        return expr;
    }
    let row = Tuple::from_values([]);
    let scope = Scope { row: RowImage { image: &row, fallback: None, held: None }, sets: &NoSets };
    match expr.value(&scope) {
        Ok(Some(text)) => Expr::Literal(text.into()),
        Ok(None) => Expr::Null,
        Err(Stop::Raised) => Expr::Raise,
        Err(Stop::Ask | Stop::Missing) => Expr::Ask,
    }
}

struct NoSets;

impl Sets for NoSets {
    fn lookup(&self, _: usize, _: &[Option<&[u8]>]) -> Lookup {
        Lookup::default()
    }
}
