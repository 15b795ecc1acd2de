//! What there is of the schema.

use reactor_pg::{Client, PgError};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PUBLICATION;

/// The parts of the schema, as the catalog has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(super) schema: bool,
    /// `relkind` of `realtime.messages`; `None` without it.
    pub(super) kind: Option<String>,
    /// Whether days can be its partitions.
    pub(super) by_day: bool,
    pub(super) has_default: bool,
    pub(super) columns: Vec<String>,
    /// Names of functions with the oids of their arguments' types.
    pub(super) functions: Vec<String>,
    pub(super) publication: bool,
    /// Whether the publication has the table.
    pub(super) published: bool,
    /// Usual roles that exist and may not use the schema.
    pub(super) roles: Vec<String>,
}

impl State {
    /// Reads the catalog.
    ///
    /// # Errors
    /// [`PgError`] when it cannot be read.
    pub(crate) async fn read(client: &Client) -> Result<Self, PgError> {
        let rows = client.query_typed(include_str!("sql/state.sql"), &[(&PUBLICATION, Type::NAME)]).await?;
        Ok(rows.first().map(Self::from_row).transpose()?.unwrap_or_default())
    }

    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            schema: row.try_get("schema")?,
            kind: row.try_get("kind")?,
            by_day: row.try_get("by_day")?,
            has_default: row.try_get("has_default")?,
            columns: row.try_get("columns")?,
            functions: row.try_get("functions")?,
            publication: row.try_get("publication")?,
            published: row.try_get("published")?,
            roles: row.try_get("roles")?,
        })
    }

    /// Whether there is a table to insert into, rather than nothing or a view.
    pub(super) fn has_table(&self) -> bool {
        matches!(self.kind.as_deref(), Some("r" | "p"))
    }

    pub(super) fn lacks_column(&self, name: &str) -> bool {
        self.has_table() && !self.columns.iter().any(|column| column == name)
    }

    /// Whether a function of this name and these types is missing, though it would have a table to insert into.
    pub(super) fn lacks_function(&self, signature: &str) -> bool {
        self.has_table() && !self.functions.iter().any(|function| function == signature)
    }
}
