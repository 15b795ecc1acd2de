//! The domain: identifiers, positions, relations, changes, filters and how values are rendered.
//!
//! Pure: nothing here performs IO, spawns a task or reads a clock. Every decoder returns an error
//! on malformed bytes and never panics.

pub mod code;
pub mod envelope;
pub mod filter;
pub mod ids;
pub mod limits;
pub mod lsn;
pub mod position;
pub mod relation;
pub mod render;
pub mod tuple;

pub use code::Code;
pub use envelope::{Batch, BatchBuilder, Change, ChangeKind, EnvelopeError, OldImage, RelationCache};
pub use ids::{Epoch, TenantId};
pub use lsn::Lsn;
pub use position::{EventId, Position};
pub use relation::{Column, Relation, ReplicaIdentity, TypeInfo, TypeKind};
pub use render::oid;
pub use tuple::{Datum, Tuple, TupleError};
