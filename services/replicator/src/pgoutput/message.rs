//! What a message says. Rows stay the bytes that Postgres sent (see `reactor_model::tuple`).

use reactor_model::{Lsn, ReplicaIdentity};

/// One decoded message; rows borrow from the bytes that it was decoded from.
#[derive(Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction begins. Postgres sends transactions whole, in the order in which they committed.
    Begin {
        /// Start of the transaction's commit record.
        commit_lsn: Lsn,
        /// Commit time, µs since 1970 UTC.
        commit_time_us: i64,
        /// Transaction id.
        xid: u32,
    },
    /// The transaction of the last `Begin` is complete.
    Commit {
        /// Start of the commit record, as in `Begin`.
        commit_lsn: Lsn,
        /// End of the commit record.
        end_lsn: Lsn,
        /// Commit time, µs since 1970 UTC.
        commit_time_us: i64,
    },
    /// Where a replicated transaction first committed.
    Origin {
        /// Commit LSN on the origin.
        lsn: Lsn,
        /// The origin's name.
        name: &'a str,
    },
    /// Describes a relation; comes before its first change and again whenever it may have changed.
    Relation(RelationMessage),
    /// Names a type that is not built in.
    Type {
        /// The type's oid.
        oid: u32,
        /// Its schema.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A new row.
    Insert {
        /// The relation's oid.
        relation: u32,
        /// The row.
        new: &'a [u8],
    },
    /// A changed row.
    Update {
        /// The relation's oid.
        relation: u32,
        /// The row before, as far as the replica identity and the change called for it.
        old: OldRow<'a>,
        /// The row after.
        new: &'a [u8],
    },
    /// A removed row.
    Delete {
        /// The relation's oid.
        relation: u32,
        /// The row before.
        old: OldRow<'a>,
    },
    /// All rows of the relations were removed.
    Truncate {
        /// The relations, in Postgres's order.
        relations: RelationIds<'a>,
    },
    /// A message of `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to the open transaction.
        transactional: bool,
        /// Where it was written.
        lsn: Lsn,
        /// What it is about.
        prefix: &'a str,
        /// The content.
        content: &'a [u8],
    },
}

impl std::fmt::Debug for Message<'_> {
    /// Prints the kind only: row values never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin { .. } => "Begin",
            Self::Commit { .. } => "Commit",
            Self::Origin { .. } => "Origin",
            Self::Relation(_) => "Relation",
            Self::Type { .. } => "Type",
            Self::Insert { .. } => "Insert",
            Self::Update { .. } => "Update",
            Self::Delete { .. } => "Delete",
            Self::Truncate { .. } => "Truncate",
            Self::Logical { .. } => "Logical",
        })
    }
}

/// The row before a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OldRow<'a> {
    /// Not sent.
    None,
    /// Identity columns only, the others as NULL.
    Key(&'a [u8]),
    /// All columns.
    Full(&'a [u8]),
}

impl std::fmt::Debug for OldRow<'_> {
    /// Prints which image it is: row values never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Key(_) => "Key",
            Self::Full(_) => "Full",
        })
    }
}

/// A relation as of one moment of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationMessage {
    /// The oid that changes refer to.
    pub oid: u32,
    /// Schema name.
    pub schema: String,
    /// Table name.
    pub table: String,
    /// What old rows hold.
    pub identity: ReplicaIdentity,
    /// The columns that rows have, in their order.
    pub columns: Vec<RelationColumn>,
}

/// One column of a [`RelationMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Column name.
    pub name: String,
    /// Whether it is part of the replica identity.
    pub identity_key: bool,
    /// The type's oid.
    pub type_oid: u32,
    /// The type's modifier, -1 when there is none.
    pub type_mod: i32,
}

/// Oids of relations, read from the message as they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationIds<'a> {
    bytes: &'a [u8],
}

impl<'a> RelationIds<'a> {
    /// Takes big-endian oids of four bytes each; a rest of fewer is ignored.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The oids.
    pub fn iter(self) -> impl Iterator<Item = u32> + use<'a> {
        self.bytes.as_chunks().0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}
