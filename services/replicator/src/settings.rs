//! What a replicator is told.

use std::time::Duration;

use reactor_model::TenantId;
use reactor_pg::{PgTarget, PgUrlError};
use reactor_runtime::Config;

/// Everything that [`crate::run`] needs to know.
#[derive(Clone, Debug)]
pub struct ReplicatorSettings {
    /// Whose changes.
    pub tenant: TenantId,
    /// The tenant's database.
    pub target: PgTarget,
    /// The publication to follow.
    pub publication: String,
    /// Whether to make it, for all tables, when it does not exist.
    pub create_publication: bool,
    /// Whether to install the schema `realtime` where it is missing.
    pub install_schema: bool,
    /// First part of the slot's name.
    pub slot_prefix: String,
    /// How long the slot stays behind what the log has stored.
    pub confirm_lag: Duration,
    /// The most WAL that this delay may hold back.
    pub confirm_lag_max_bytes: u64,
    /// The most WAL that the slot may hold back before it is dropped and history starts anew.
    pub max_lag_bytes: Option<u64>,
}

impl ReplicatorSettings {
    /// From the process's configuration. `default_confirm_lag` is that of the kind of log in use.
    ///
    /// # Errors
    /// [`PgUrlError`] when the database URL is missing or cannot be used.
    pub fn from_config(config: &Config, default_confirm_lag: Duration) -> Result<Self, PgUrlError> {
        let url = config.database_url.as_ref().ok_or(PgUrlError::NoHost)?;
        let mut target = PgTarget::parse(url.expose())?;
        if let Some(file) = &config.data.ssl_root_cert {
            target = target.with_root_certificates(file.clone());
        }
        Ok(Self {
            tenant: config.tenant.clone(),
            target,
            publication: config.replication.publication.clone(),
            create_publication: config.replication.create_publication,
            install_schema: config.replication.install_schema,
            slot_prefix: config.replication.slot_prefix.clone(),
            confirm_lag: config.replication.confirm_lag.unwrap_or(default_confirm_lag),
            confirm_lag_max_bytes: config.replication.confirm_lag_max_bytes,
            max_lag_bytes: config.replication.max_lag_bytes,
        })
    }
}
