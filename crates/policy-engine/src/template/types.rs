//! The types that are judged outside Postgres.

use reactor_model::relation::{Collation, Relation, TypeKind};

use crate::sql::TypeName;

pub(super) use reactor_model::oid::{
    BOOL, BPCHAR, BYTEA, DATE, FLOAT4, FLOAT8, INET, INT2, INT4, INT8, JSON, JSONB, NAME, NUMERIC, OID, TEXT, TIME,
    TIMESTAMP, TIMESTAMPTZ, TIMETZ, UUID, VARCHAR,
};

const INTERVAL: u32 = 1186;
pub(super) const TEXT_ARRAY: u32 = 1009;

/// Types by the name that the parser gives them, with the oid of their array type.
const NAMES: &[(&str, u32, u32)] = &[
    ("boolean", BOOL, 1000),
    ("bytea", BYTEA, 1001),
    ("name", NAME, 1003),
    ("bigint", INT8, 1016),
    ("smallint", INT2, 1005),
    ("integer", INT4, 1007),
    ("text", TEXT, TEXT_ARRAY),
    ("oid", OID, 1028),
    ("json", JSON, 199),
    ("real", FLOAT4, 1021),
    ("double precision", FLOAT8, 1022),
    ("inet", INET, 1041),
    ("character", BPCHAR, 1014),
    ("bpchar", BPCHAR, 1014),
    ("character varying", VARCHAR, 1015),
    ("date", DATE, 1182),
    ("time without time zone", TIME, 1183),
    ("timestamp without time zone", TIMESTAMP, 1115),
    ("timestamp with time zone", TIMESTAMPTZ, 1185),
    ("interval", INTERVAL, 1187),
    ("time with time zone", TIMETZ, 1270),
    ("numeric", NUMERIC, 1231),
    ("uuid", UUID, 2951),
    ("jsonb", JSONB, 3807),
];

/// The oid of a type of Postgres's grammar.
pub(super) fn builtin_oid(name: &TypeName) -> Option<u32> {
    let (_, oid, array) = NAMES.iter().find(|(builtin, ..)| *builtin == name.name)?;
    Some(if name.array { *array } else { *oid })
}

/// The name of a type of Postgres's grammar.
pub(super) fn builtin_name(oid: u32) -> Option<&'static str> {
    NAMES.iter().find(|(_, builtin, _)| *builtin == oid).map(|(name, ..)| *name)
}

/// The array type of a type of Postgres's grammar.
pub(super) fn builtin_array(element: u32) -> Option<u32> {
    NAMES.iter().find(|(_, oid, _)| *oid == element).map(|(.., array)| *array)
}

/// The element type of an array of a type of Postgres's grammar.
pub(super) fn builtin_element(array: u32) -> Option<u32> {
    NAMES.iter().find(|(.., builtin)| *builtin == array).map(|(_, oid, _)| *oid)
}

pub(super) const fn is_int(oid: u32) -> bool {
    matches!(oid, INT2 | INT4 | INT8)
}

/// Types whose values collate.
pub(super) const fn is_text(oid: u32) -> bool {
    matches!(oid, TEXT | VARCHAR | BPCHAR | NAME)
}

pub(super) const fn is_time(oid: u32) -> bool {
    matches!(oid, DATE | TIME | TIMETZ | TIMESTAMP | TIMESTAMPTZ)
}

/// Whether values of the type can be compared outside Postgres at all; enums are known by their description.
pub(super) const fn is_comparable(oid: u32) -> bool {
    matches!(oid, BOOL | NAME | INT8 | INT2 | INT4 | TEXT | OID | FLOAT4 | FLOAT8 | BPCHAR | VARCHAR | DATE)
        || matches!(oid, TIME | TIMESTAMP | TIMESTAMPTZ | NUMERIC | UUID | JSONB | BYTEA)
}

/// Whether values of the type are equal exactly when their texts are the same bytes.
pub(super) const fn has_equal_texts(oid: u32) -> bool {
    matches!(oid, BOOL | NAME | INT8 | INT2 | INT4 | TEXT | OID | VARCHAR | DATE | TIME)
        || matches!(oid, TIMESTAMP | TIMESTAMPTZ | UUID | BYTEA)
}

/// Whether a cast between the types, other than from or to text, is one that can be followed outside Postgres.
pub(super) const fn may_cast(from: u32, to: u32) -> bool {
    const fn number(oid: u32) -> bool {
        matches!(oid, INT2 | INT4 | INT8 | NUMERIC)
    }
    const fn known(oid: u32) -> bool {
        number(oid) || matches!(oid, BOOL | TEXT | VARCHAR | UUID | DATE | TIMESTAMP | TIMESTAMPTZ | JSONB)
    }
    from == to
        || (matches!(from, TEXT | VARCHAR) && known(to))
        || (matches!(to, TEXT | VARCHAR) && known(from))
        || (number(from) && number(to))
        || matches!((from, to), (BOOL, INT4) | (INT4, BOOL) | (TIMESTAMP, DATE) | (DATE, TIMESTAMP))
        || matches!((from, to), (BPCHAR | NAME, TEXT | VARCHAR))
        || (from == JSONB && (number(to) || to == BOOL))
}

/// How texts in an expression collate. Ordered: of two, the greater one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Texts {
    /// No column decides: the database's own collation, which is deterministic.
    Default,
    /// In the order of their bytes.
    Bytes,
    /// Equal when their bytes are.
    Deterministic,
    /// Nothing can be said.
    Foreign,
}

impl Texts {
    /// That of a column.
    pub(super) const fn of(collation: Collation, type_oid: u32) -> Self {
        match collation {
            Collation::None if is_text(type_oid) && type_oid != NAME => Self::Foreign,
            Collation::None => Self::Default,
            Collation::Bytes => Self::Bytes,
            Collation::Deterministic => Self::Deterministic,
            Collation::Nondeterministic => Self::Foreign,
        }
    }
}

/// Whether the type, as the relation describes it, is an enum.
pub(super) fn is_enum(relation: &Relation, oid: u32) -> bool {
    matches!(relation.types.get(&oid).map(|info| &info.kind), Some(TypeKind::Enum { .. }))
}
