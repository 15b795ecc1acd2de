//! What the policy service must be told.

use std::time::Duration;

use reactor_model::TenantId;
use reactor_pg::PgTarget;
use reactor_runtime::PolicyRule;

/// How long a question may take in Postgres. Longer, and the client is better served by a retry.
pub const QUERY_DEADLINE: Duration = Duration::from_secs(2);

/// How long what was read from the catalog is used again: long enough that a thousand clients who reconnect at once ask
/// once, short enough that a grant that was revoked a moment ago admits nobody.
pub const CATALOG_CACHE: Duration = Duration::from_millis(500);

/// Settings of a [`crate::PostgresAuthorizer`].
#[derive(Clone, Debug)]
pub struct PolicySettings {
    /// The tenant whose database it is; questions about another are not answered.
    pub tenant: TenantId,
    /// The tenant's database.
    pub target: PgTarget,
    /// The publication whose tables can be subscribed to.
    pub publication: String,
    /// The schema that a permission without a schema (`data:todos:read`) is about.
    pub default_schema: String,
    /// Name of the column that holds a row's organisation, in the tables that have one.
    pub org_column: String,
    /// How old a decision may grow before it is asked again.
    pub recheck_after: Duration,
    /// How long a question may take in Postgres.
    pub query_deadline: Duration,
    /// How long what was read from the catalog is used again.
    pub catalog_cache: Duration,
    /// Whether the database is made to tell of its changes, by an event trigger.
    pub event_trigger: bool,
    /// Who may read which rows, beside what the database says.
    pub rules: Vec<PolicyRule>,
}

impl PolicySettings {
    /// The settings with the usual durations.
    #[must_use]
    pub fn new(tenant: TenantId, target: PgTarget, publication: impl Into<String>) -> Self {
        Self {
            tenant,
            target,
            publication: publication.into(),
            default_schema: "public".to_owned(),
            org_column: "org_id".to_owned(),
            recheck_after: Duration::from_secs(30),
            query_deadline: QUERY_DEADLINE,
            catalog_cache: CATALOG_CACHE,
            event_trigger: false,
            rules: Vec::new(),
        }
    }
}
