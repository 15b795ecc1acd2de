//! Tables as the replication stream names them, with what is needed to render and compare their values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which old-row image Postgres sends for an UPDATE or DELETE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaIdentity {
    /// The primary key's columns.
    Default,
    /// Nothing.
    Nothing,
    /// All columns.
    Full,
    /// The columns of a chosen unique index.
    Index,
}

/// A relation as of one moment of the stream. Partitions carry the names of their root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// The oid that the stream uses (a partition's own).
    pub oid: u32,
    /// The oid of the table that `schema` and `table` name (the root's for a partition): another table of the same name,
    /// made after this one was dropped, has another.
    pub table_oid: u32,
    /// Schema name; the root's for a partition.
    pub schema: String,
    /// Table name; the root's for a partition.
    pub table: String,
    /// Columns in the order of the stream's tuples.
    pub columns: Vec<Column>,
    /// What old images hold.
    pub identity: ReplicaIdentity,
    /// Whether row-level security is enabled on the table (or the partition's root).
    pub row_security: bool,
    /// Every type that the columns need, directly or inside another type, by oid.
    pub types: BTreeMap<u32, TypeInfo>,
}

/// One column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Column name.
    pub name: String,
    /// The type's oid.
    pub type_oid: u32,
    /// The type's modifier (`atttypmod`), -1 when there is none.
    pub type_mod: i32,
    /// Whether the column is part of the primary key.
    pub primary_key: bool,
    /// Whether the column is part of the replica identity's key.
    pub identity_key: bool,
    /// How texts of this column compare.
    pub collation: Collation,
}

/// How text values compare and change case, as far as it can be known outside Postgres.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Collation {
    /// Not a collatable type.
    #[default]
    None,
    /// Byte order (`C`, `POSIX`, or a builtin code-point order).
    Bytes,
    /// Linguistic order, but equality is bytewise.
    Deterministic,
    /// Equality itself is linguistic: nothing can be compared outside Postgres.
    Nondeterministic,
}

/// A type's description: its name and its inner shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeInfo {
    /// `pg_type.typname` (`int4`, `_text`, an enum's name …).
    pub name: String,
    /// What it is made of.
    pub kind: TypeKind,
}

/// The shape of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypeKind {
    /// A base type of Postgres itself (`pg_catalog`), known by its oid.
    Builtin,
    /// A base type of an extension or user. Rendered as its text.
    Extension,
    /// An array of the element type; `delimiter` is `,` for all types but `box`.
    Array {
        /// Oid of the element type.
        element: u32,
        /// The character between elements.
        delimiter: char,
    },
    /// An enum with its labels in sort order.
    Enum {
        /// Labels, lowest first.
        labels: Vec<String>,
    },
    /// A composite with its attributes (name, type oid) in order.
    Composite {
        /// Attribute names and type oids.
        attributes: Vec<(String, u32)>,
    },
    /// A domain over the base type (never another domain).
    Domain {
        /// Oid of the base type.
        base: u32,
    },
    /// A range or multirange over the subtype. Rendered as its text.
    Range {
        /// Oid of the subtype.
        subtype: u32,
    },
}

impl Relation {
    /// Index of the column with this name.
    #[must_use]
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The type with domains looked through; `None` when the stream did not describe it.
    #[must_use]
    pub fn base_type(&self, oid: u32) -> Option<(u32, &TypeInfo)> {
        let info = self.types.get(&oid)?;
        match info.kind {
            TypeKind::Domain { base } => self.types.get(&base).map(|info| (base, info)),
            TypeKind::Builtin
            | TypeKind::Extension
            | TypeKind::Array { .. }
            | TypeKind::Enum { .. }
            | TypeKind::Composite { .. }
            | TypeKind::Range { .. } => Some((oid, info)),
        }
    }
}
