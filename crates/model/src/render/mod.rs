//! How values are written as JSON: as Postgres's `to_jsonb` writes them, without insignificant blanks.
//!
//! A value whose text is not of the form that its type prints is written as a JSON string: whatever the bytes, the
//! output is valid JSON in UTF-8.

mod array;
mod composite;
mod datetime;
mod hstore;
mod json;
mod number;
pub mod oid;
mod string;

use crate::relation::{Relation, TypeKind};
use string::{write_string, write_string_lossy};

/// Types within types that are followed; deeper ones are written as strings.
const MAX_DEPTH: usize = 32;

/// Appends one element of an array; `None` when its text is not of its type's form.
type WriteElement<'a> = &'a mut dyn FnMut(&mut Vec<u8>, &[u8]) -> Option<()>;

/// Appends one member of a composite, whose type has this oid; `None` when its text is not of its type's form.
type WriteMember<'a> = &'a mut dyn FnMut(&mut Vec<u8>, u32, &[u8]) -> Option<()>;

/// Appends the JSON that `to_jsonb` gives for a value in text form.
pub fn render_value(out: &mut Vec<u8>, relation: &Relation, type_oid: u32, text: &[u8]) {
    let start = out.len();
    if render(out, relation, type_oid, text, 0).is_none() {
        out.truncate(start);
        write_string_lossy(out, text);
    }
}

/// Appends a name as a JSON string.
pub fn render_name(out: &mut Vec<u8>, name: &str) {
    write_string(out, name);
}

/// Appends the value; `None` when the text is not of the type's form, and then anything may have been appended.
fn render(out: &mut Vec<u8>, relation: &Relation, type_oid: u32, text: &[u8], depth: usize) -> Option<()> {
    match type_oid {
        oid::INT2 | oid::INT4 | oid::INT8 => number::write_integer(out, text),
        oid::BOOL => write_bool(out, text),
        oid::NUMERIC | oid::FLOAT4 | oid::FLOAT8 => number::write_number(out, text),
        oid::TEXT | oid::VARCHAR | oid::UUID => render_string(out, text),
        oid::DATE => render_string(out, text),
        oid::TIMESTAMP | oid::TIMESTAMPTZ => datetime::write_timestamp(out, text),
        oid::JSONB => json::write_compact(out, text),
        oid::JSON => json::write_normal(out, text),
        oid::INT2VECTOR => array::write_vector(out, text, number::write_integer),
        oid::OIDVECTOR => array::write_vector(out, text, render_string),
        _ => render_described(out, relation, type_oid, text, depth),
    }
}

/// Types that are known by their description only.
fn render_described(out: &mut Vec<u8>, relation: &Relation, type_oid: u32, text: &[u8], depth: usize) -> Option<()> {
    let Some(info) = relation.types.get(&type_oid) else { return render_string(out, text) };
    match &info.kind {
        _ if depth >= MAX_DEPTH => render_string(out, text),
        TypeKind::Domain { base } => render(out, relation, *base, text, depth + 1),
        TypeKind::Array { element, delimiter } => array::write_array(out, text, *delimiter, &mut |out, value| {
            render(out, relation, *element, value, depth + 1)
        }),
        TypeKind::Composite { attributes } => {
            let mut member =
                |out: &mut Vec<u8>, type_oid, value: &[u8]| render(out, relation, type_oid, value, depth + 1);
            composite::write_composite(out, text, attributes, &mut member)
        }
        // The one common extension whose type has a cast to `json`, which `to_jsonb` uses.
        TypeKind::Extension if info.name == "hstore" => hstore::write_hstore(out, text),
        TypeKind::Extension | TypeKind::Builtin | TypeKind::Enum { .. } | TypeKind::Range { .. } => {
            render_string(out, text)
        }
    }
}

fn render_string(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    write_string(out, std::str::from_utf8(text).ok()?);
    Some(())
}

fn write_bool(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let word: &[u8] = match text {
        b"t" => b"true",
        b"f" => b"false",
        _ => return None,
    };
    out.extend_from_slice(word);
    Some(())
}
