//! What the catalog says about tables: columns, keys, collations, types, partitions and publication.
//!
//! Reads Postgres 15 to 18: columns of the catalog that only some versions have are read through `to_jsonb`.

mod collation;
mod relation;
mod types;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

pub use relation::{Publication, RelationInfo, RelationKind, relation_by_name, relation_by_oid};

use crate::error::PgError;

/// One round trip: the parameter types are told, so nothing is prepared first.
async fn query(client: &Client, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, PgError> {
    Ok(client.query_typed(sql, params).await?)
}
