//! What the catalog says about a table and a role, read at most once in a few seconds for all who ask.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use moka::future::Cache;
use reactor_pg::catalog::{RelationInfo, relation_by_name};
use reactor_pg::{Client, PgError};
use reactor_policy_engine::{AuthorizerError, PolicyVersion};

use crate::policies::{RoleInfo, RowSecurity, policies, rights};
use crate::session::Session;
use crate::settings::PolicySettings;

/// Tables and roles that are kept: far more than a tenant uses within the few seconds that an entry lives.
const CAPACITY: u64 = 10_000;

/// What the grants of the database say about a role and a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseGrant {
    /// There is no such role.
    NoRole,
    /// The role may not use the table's schema.
    NoSchema,
    /// The role may select nothing.
    Nothing,
    /// The role may select from the table.
    Table,
    /// The role may select these columns.
    Columns(BTreeSet<String>),
}

/// What a decision about a table and a role is made from.
#[derive(Debug)]
pub(crate) struct TableAccess {
    pub(crate) info: Arc<RelationInfo>,
    pub(crate) grant: DatabaseGrant,
    pub(crate) role: RoleInfo,
    pub(crate) security: RowSecurity,
    /// All that its program is compiled from, as text; made when it is first needed.
    pub(crate) content: OnceLock<String>,
}

type TableKey = (PolicyVersion, String, String);
type RoleKey = (PolicyVersion, String, String, String);

/// The catalog behind a cache; concurrent questions about the same are one. What was read of one version is not used for
/// another, not even when the reading ends after the change.
#[derive(Debug)]
pub(crate) struct Catalog {
    publication: String,
    tables: Cache<TableKey, Option<Arc<RelationInfo>>>,
    accesses: Cache<RoleKey, Option<Arc<TableAccess>>>,
}

impl Catalog {
    pub(crate) fn new(settings: &PolicySettings) -> Self {
        let lifetime = settings.catalog_cache;
        Self {
            publication: settings.publication.clone(),
            tables: Cache::builder().max_capacity(CAPACITY).time_to_live(lifetime).build(),
            accesses: Cache::builder().max_capacity(CAPACITY).time_to_live(lifetime).build(),
        }
    }

    /// The table; `None` when there is no such table.
    pub(crate) async fn table(
        &self,
        session: &Session,
        version: PolicyVersion,
        schema: &str,
        table: &str,
    ) -> Result<Option<Arc<RelationInfo>>, AuthorizerError> {
        let read = session.ask(async |client| {
            let info = relation_by_name(client, &self.publication, schema, table).await?;
            Ok(info.map(Arc::new))
        });
        let key = (version, schema.to_owned(), table.to_owned());
        let found = self.tables.try_get_with_by_ref(&key, Box::pin(read)).await.map_err(shared_error)?;
        if found.is_none() {
            // Whoever creates the table because of the refusal finds it at once.
            self.tables.invalidate(&key).await;
        }
        Ok(found)
    }

    /// The table and what the role may read of it; `None` when there is no such table.
    pub(crate) async fn access(
        &self,
        session: &Session,
        version: PolicyVersion,
        role: &str,
        schema: &str,
        table: &str,
    ) -> Result<Option<Arc<TableAccess>>, AuthorizerError> {
        let read = async {
            let Some(info) = self.table(session, version, schema, table).await? else {
                return Ok(None);
            };
            let access = session.ask(async |client| read_access(client, role, info).await).await?;
            Ok(access.map(Arc::new))
        };
        let key = (version, role.to_owned(), schema.to_owned(), table.to_owned());
        let found = self.accesses.try_get_with_by_ref(&key, Box::pin(read)).await.map_err(shared_error)?;
        if found.is_none() {
            self.accesses.invalidate(&key).await;
        }
        Ok(found)
    }

    /// Forgets what a denial was made of, so that what is mended because of it counts at once.
    pub(crate) async fn forget(&self, version: PolicyVersion, role: &str, schema: &str, table: &str) {
        self.accesses.invalidate(&(version, role.to_owned(), schema.to_owned(), table.to_owned())).await;
        self.tables.invalidate(&(version, schema.to_owned(), table.to_owned())).await;
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.accesses.invalidate_all();
        self.tables.invalidate_all();
    }
}

/// The catalog as of one version.
pub(crate) struct CatalogAt<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) session: &'a Session,
    pub(crate) version: PolicyVersion,
}

impl CatalogAt<'_> {
    /// As [`Catalog::table`].
    pub(crate) async fn table(&self, schema: &str, table: &str) -> Result<Option<Arc<RelationInfo>>, AuthorizerError> {
        self.catalog.table(self.session, self.version, schema, table).await
    }
}

/// A coalesced question gives its error to all who waited for it.
pub(crate) fn shared_error(error: Arc<AuthorizerError>) -> AuthorizerError {
    match &*error {
        AuthorizerError::Unavailable(reason) => AuthorizerError::Unavailable(reason.clone()),
        AuthorizerError::Timeout => AuthorizerError::Timeout,
        AuthorizerError::UnknownTenant => AuthorizerError::UnknownTenant,
    }
}

async fn read_access(client: &Client, role: &str, info: Arc<RelationInfo>) -> Result<Option<TableAccess>, PgError> {
    let (rights, policies) = futures::try_join!(rights(client, role, info.oid), policies(client, role, info.oid))?;
    Ok(rights.map(|rights| TableAccess {
        info,
        grant: rights.grant,
        role: rights.role,
        security: if rights.row_security { RowSecurity::Policies(policies) } else { RowSecurity::Off },
        content: OnceLock::new(),
    }))
}
