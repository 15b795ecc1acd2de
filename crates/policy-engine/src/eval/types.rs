//! Types of expressions, as far as evaluation needs them.

use reactor_model::filter::compare::{Family, base_oid};
use reactor_model::relation::{Collation, Column, Relation, TypeKind};

use reactor_model::oid;

/// Arrays of Postgres's own types with their elements (`pg_type.dat`): a literal's type need not be that of any column.
const ARRAYS: [(u32, u32); 20] = [
    (1000, oid::BOOL),
    (1001, oid::BYTEA),
    (1003, oid::NAME),
    (1005, oid::INT2),
    (1007, oid::INT4),
    (1009, oid::TEXT),
    (1014, oid::BPCHAR),
    (1015, oid::VARCHAR),
    (1016, oid::INT8),
    (1021, oid::FLOAT4),
    (1022, oid::FLOAT8),
    (1028, oid::OID),
    (1115, oid::TIMESTAMP),
    (1182, oid::DATE),
    (1183, oid::TIME),
    (1185, oid::TIMESTAMPTZ),
    (1231, oid::NUMERIC),
    (1041, oid::INET),
    (2951, oid::UUID),
    (3807, oid::JSONB),
];

/// An expression's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type {
    /// Its oid, domains looked through.
    pub(super) oid: u32,
    /// How it compares, if a column decides that; else by the database's default, which is a deterministic one.
    pub(super) collation: Option<Collation>,
}

impl Type {
    pub(super) const BOOL: Self = Self::plain(oid::BOOL);
    pub(super) const TEXT: Self = Self::plain(oid::TEXT);
    pub(super) const JSONB: Self = Self::plain(oid::JSONB);

    pub(super) const fn plain(oid: u32) -> Self {
        Self { oid, collation: None }
    }

    pub(super) fn of_column(relation: &Relation, column: &Column) -> Self {
        let oid = base_oid(relation, column.type_oid);
        let collation = match column.collation {
            // A `name` is in byte order.
            Collation::None if oid == oid::NAME => Collation::Bytes,
            collation => collation,
        };
        Self { oid, collation: Some(collation) }
    }

    /// A text of this type as `text`.
    pub(super) const fn as_text(self) -> Self {
        Self { oid: oid::TEXT, collation: self.collation }
    }

    /// `text`, `varchar` or `name`, whose values are as they are printed.
    pub(super) const fn is_text(self) -> bool {
        matches!(self.oid, oid::TEXT | oid::VARCHAR | oid::NAME)
    }

    pub(super) const fn is_int(self) -> bool {
        matches!(self.oid, oid::INT2 | oid::INT4 | oid::INT8)
    }

    /// The collation that decides, when texts of both types meet.
    pub(super) const fn collation_with(self, other: Self) -> Collation {
        match (self.collation, other.collation) {
            (None, None) => Collation::Deterministic,
            (Some(one), None) | (None, Some(one)) => one,
            (Some(Collation::Bytes), Some(Collation::Bytes)) => Collation::Bytes,
            // Two that differ have no order, which Postgres refuses for every row; but one may be the default.
            (Some(Collation::Bytes | Collation::Deterministic), Some(Collation::Bytes | Collation::Deterministic)) => {
                Collation::Deterministic
            }
            _ => Collation::Nondeterministic,
        }
    }

    /// How values of this type compare with those of another.
    pub(super) fn family_with(self, other: Self, relation: &Relation) -> Family {
        if self.is_int() && other.is_int() {
            Family::Int
        } else if self.is_text() && other.is_text() {
            Family::of_type(relation, oid::TEXT, self.collation_with(other))
        } else if self.oid == other.oid {
            Family::of_type(relation, self.oid, self.collation_with(other))
        } else {
            Family::Foreign
        }
    }

    /// Whether case is that of ASCII for ASCII characters. Some languages have others for I.
    pub(super) fn has_ascii_case(self) -> bool {
        self.collation == Some(Collation::Bytes)
    }

    /// The type of the elements, when this is an array whose text has commas between them.
    pub(super) fn element(self, relation: &Relation) -> Option<Self> {
        let known = ARRAYS.iter().find(|(array, _)| *array == self.oid).map(|(_, element)| *element);
        let oid = known.or_else(|| match relation.types.get(&self.oid)?.kind {
            TypeKind::Array { element, delimiter: ',' } => Some(base_oid(relation, element)),
            _ => None,
        })?;
        Some(Self { oid, collation: self.collation })
    }

    /// Whether a value that is not NULL may be NULL for `IS NULL`, as a composite of NULLs is.
    pub(super) fn may_be_composite(self, relation: &Relation) -> bool {
        match relation.types.get(&self.oid).map(|info| &info.kind) {
            Some(kind) => matches!(kind, TypeKind::Composite { .. }),
            None => {
                let is_known = self.element(relation).is_some()
                    || Family::of_type(relation, self.oid, Collation::Deterministic) != Family::Foreign;
                !is_known
            }
        }
    }
}
