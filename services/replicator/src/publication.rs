//! The publication: there, made on request, or a clear reason why not.

use reactor_pg::{Client, PgError};
use tokio_postgres::types::Type;

/// Why there is no publication to follow.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// It does not exist and is not to be made.
    #[error(
        "the publication {0:?} does not exist: set REACTOR_PUBLICATION_CREATE=true, or run CREATE PUBLICATION {1} FOR TABLE … in the database"
    )]
    Missing(String, String),
    /// It does not exist and could not be made.
    #[error(
        "the publication {name:?} cannot be created: {source}; run CREATE PUBLICATION {quoted} FOR ALL TABLES as a superuser"
    )]
    NotCreated {
        /// Its name.
        name: String,
        /// Its name as SQL.
        quoted: String,
        /// The server's refusal.
        source: PgError,
    },
    /// The catalog cannot be read.
    #[error(transparent)]
    Pg(#[from] PgError),
}

/// Whether the publication exists.
async fn exists(client: &Client, name: &str) -> Result<bool, PgError> {
    let rows = client.query_typed("select from pg_publication where pubname = $1", &[(&name, Type::NAME)]).await?;
    Ok(!rows.is_empty())
}

/// Makes sure that the publication exists; `create` makes it, for all tables, when it does not.
///
/// It has to be there before the slot: a slot decodes with the catalog as it was at each change.
///
/// # Errors
/// [`PublicationError`].
pub(crate) async fn ensure(client: &Client, name: &str, create: bool) -> Result<(), PublicationError> {
    if exists(client, name).await? {
        return Ok(());
    }
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    if !create {
        return Err(PublicationError::Missing(name.to_owned(), quoted));
    }
    // Partitions then come under their root's name in any case.
    let sql = format!("create publication {quoted} for all tables with (publish_via_partition_root = true)");
    match client.batch_execute(&sql).await.map_err(PgError::from) {
        Ok(()) => {
            tracing::info!(publication = name, "publication created for all tables");
            Ok(())
        }
        // Another process was quicker.
        Err(error) if error.sqlstate() == Some("42710") => Ok(()),
        Err(source) => Err(PublicationError::NotCreated { name: name.to_owned(), quoted, source }),
    }
}
