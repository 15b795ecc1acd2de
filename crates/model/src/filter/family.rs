//! How the values of a type compare outside Postgres, with exactly its results.

use crate::relation::{Collation, Column, Relation, TypeKind};
use crate::render::oid;

/// Arrays of arrays of composites …: deeper descriptions are left to Postgres.
const MAX_TYPE_DEPTH: usize = 8;

/// How two values in text form compare. "Equal texts" means: equal exactly when their bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Equal texts, in the order of their bytes.
    Bytes,
    /// Equal texts; only Postgres knows the order.
    EqualBytes,
    /// `bpchar`: trailing blanks do not count.
    Padded {
        /// Whether the order is that of the bytes.
        ordered: bool,
    },
    /// `t` and `f`; a cast to text prints `true` and `false`.
    Bool,
    /// Equal texts, ordered as 64-bit integers.
    Int,
    /// Equal texts, ordered as days.
    Date,
    /// Equal texts, ordered as times.
    Time,
    /// Equal texts, ordered as instants.
    Timestamp,
    /// Equal texts, ordered by place among the labels.
    Enum,
    /// Equal texts, but a cast to text prints the full-length mask that plain output leaves out.
    Inet,
    /// Single precision.
    Float4,
    /// Double precision.
    Float8,
    /// Any precision.
    Numeric,
    /// Equal as trees whose numbers compare as numbers.
    Jsonb,
    /// Only Postgres can compare.
    Foreign,
}

impl Family {
    /// The family of a column.
    #[must_use]
    pub fn of(relation: &Relation, column: &Column) -> Self {
        Self::of_type(relation, column.type_oid, column.collation)
    }

    /// The family of a type's values with a collation.
    #[must_use]
    pub fn of_type(relation: &Relation, type_oid: u32, collation: Collation) -> Self {
        family(relation, type_oid, collation, 0)
    }

    /// Whether values are equal exactly when their texts are the same bytes.
    #[must_use]
    pub const fn has_equal_bytes(self) -> bool {
        match self {
            Self::Bytes
            | Self::EqualBytes
            | Self::Bool
            | Self::Int
            | Self::Date
            | Self::Time
            | Self::Timestamp
            | Self::Enum => true,
            Self::Padded { .. }
            | Self::Inet
            | Self::Float4
            | Self::Float8
            | Self::Numeric
            | Self::Jsonb
            | Self::Foreign => false,
        }
    }
}

fn family(relation: &Relation, type_oid: u32, collation: Collation, depth: usize) -> Family {
    let base = base_oid(relation, type_oid);
    match base {
        oid::BOOL => Family::Bool,
        oid::INT2 | oid::INT4 | oid::INT8 | oid::OID => Family::Int,
        oid::FLOAT4 => Family::Float4,
        oid::FLOAT8 => Family::Float8,
        oid::NUMERIC => Family::Numeric,
        oid::TEXT | oid::VARCHAR => match collation {
            Collation::Bytes => Family::Bytes,
            Collation::Deterministic => Family::EqualBytes,
            Collation::None | Collation::Nondeterministic => Family::Foreign,
        },
        oid::NAME if collation != Collation::Nondeterministic => match collation {
            Collation::Deterministic => Family::EqualBytes,
            _ => Family::Bytes,
        },
        oid::BPCHAR => match collation {
            Collation::Bytes => Family::Padded { ordered: true },
            Collation::Deterministic => Family::Padded { ordered: false },
            Collation::None | Collation::Nondeterministic => Family::Foreign,
        },
        oid::UUID | oid::BYTEA | oid::MACADDR | oid::MACADDR8 | oid::BIT | oid::VARBIT => Family::Bytes,
        oid::CHAR | oid::XID | oid::XID8 | oid::CID | oid::TID | oid::PG_LSN | oid::TIMETZ => Family::EqualBytes,
        oid::INET | oid::CIDR => Family::Inet,
        oid::DATE => Family::Date,
        oid::TIME => Family::Time,
        oid::TIMESTAMP | oid::TIMESTAMPTZ => Family::Timestamp,
        oid::JSONB => Family::Jsonb,
        _ => described_family(relation, base, collation, depth),
    }
}

/// Families of types that are known by their description only.
fn described_family(relation: &Relation, type_oid: u32, collation: Collation, depth: usize) -> Family {
    let Some(info) = relation.types.get(&type_oid) else { return Family::Foreign };
    match &info.kind {
        TypeKind::Enum { .. } => Family::Enum,
        TypeKind::Array { element, .. } if depth < MAX_TYPE_DEPTH => {
            let element = family(relation, *element, collation, depth + 1);
            if element.has_equal_bytes() { Family::EqualBytes } else { Family::Foreign }
        }
        TypeKind::Range { subtype } if depth < MAX_TYPE_DEPTH => {
            match family(relation, *subtype, Collation::None, depth + 1) {
                Family::Int | Family::Date | Family::Timestamp => Family::EqualBytes,
                _ => Family::Foreign,
            }
        }
        TypeKind::Array { .. }
        | TypeKind::Range { .. }
        | TypeKind::Builtin
        | TypeKind::Extension
        | TypeKind::Composite { .. }
        | TypeKind::Domain { .. } => Family::Foreign,
    }
}

/// The type's oid with a domain looked through.
#[must_use]
pub fn base_oid(relation: &Relation, type_oid: u32) -> u32 {
    match relation.types.get(&type_oid).map(|info| &info.kind) {
        Some(TypeKind::Domain { base }) => *base,
        _ => type_oid,
    }
}

/// The labels of an enum, of a domain over one too, in their order; of another type none.
#[must_use]
pub fn labels(relation: &Relation, type_oid: u32) -> &[String] {
    match relation.types.get(&base_oid(relation, type_oid)).map(|info| &info.kind) {
        Some(TypeKind::Enum { labels }) => labels,
        _ => &[],
    }
}

/// Which comparisons a type has, as far as its description tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comparisons {
    pub(super) equality: bool,
    pub(super) inequality: bool,
    pub(super) order: bool,
}

impl Comparisons {
    const ALL: Self = Self { equality: true, inequality: true, order: true };
    const NONE: Self = Self { equality: false, inequality: false, order: false };
    const EQUALITY: Self = Self { equality: true, inequality: false, order: false };
    const NO_ORDER: Self = Self { equality: true, inequality: true, order: false };
    const NO_INEQUALITY: Self = Self { equality: true, inequality: false, order: true };

    /// The comparisons of a type.
    pub(super) fn of(relation: &Relation, type_oid: u32) -> Self {
        comparisons(relation, type_oid, 0)
    }

    const fn and(self, other: Self) -> Self {
        Self {
            equality: self.equality && other.equality,
            inequality: self.inequality && other.inequality,
            order: self.order && other.order,
        }
    }
}

/// Within an array or a composite (`depth` > 0), values are compared by their type's operator class, not its operators.
fn comparisons(relation: &Relation, type_oid: u32, depth: usize) -> Comparisons {
    let base = base_oid(relation, type_oid);
    match base {
        oid::JSON
        | oid::XML
        | oid::POINT
        | oid::POLYGON
        | oid::JSONPATH
        | oid::REFCURSOR
        | oid::GTSVECTOR
        | oid::TXID_SNAPSHOT
        | oid::PG_SNAPSHOT => Comparisons::NONE,
        oid::LINE | oid::BOX | oid::PATH | oid::LSEG | oid::CIRCLE if depth > 0 => Comparisons::NONE,
        oid::LINE => Comparisons::EQUALITY,
        oid::BOX | oid::PATH => Comparisons::NO_INEQUALITY,
        oid::CID | oid::ACLITEM if depth == 0 => Comparisons::EQUALITY,
        oid::CID | oid::ACLITEM | oid::XID => Comparisons::NO_ORDER,
        _ if depth >= MAX_TYPE_DEPTH => Comparisons::ALL,
        _ => match relation.types.get(&base).map(|info| &info.kind) {
            Some(TypeKind::Array { element, .. }) => comparisons(relation, *element, depth + 1),
            Some(TypeKind::Composite { attributes }) => attributes
                .iter()
                .map(|(_, oid)| comparisons(relation, *oid, depth + 1))
                .fold(Comparisons::ALL, Comparisons::and),
            _ => Comparisons::ALL,
        },
    }
}

/// Whether the type may have `LIKE` and `~` for text: it is a text, or an extension's type that can be one.
pub(super) fn may_be_text(relation: &Relation, type_oid: u32) -> bool {
    let base = base_oid(relation, type_oid);
    is_text(base)
        || base == oid::CHAR
        || matches!(relation.types.get(&base).map(|info| &info.kind), Some(TypeKind::Extension))
}

/// Whether patterns match values of the type as Postgres's `text` functions do.
pub(super) const fn is_text(base: u32) -> bool {
    matches!(base, oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME)
}
