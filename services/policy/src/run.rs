//! The life of the process: bind, answer, stop.

use std::net::SocketAddr;
use std::sync::Arc;

use reactor_pg::{PgTarget, PgUrlError};
use reactor_policy_engine::Authorizer;
use reactor_runtime::{Config, ServiceContext};
use tokio::net::TcpListener;
use tracing::info;

use crate::authorizer::PostgresAuthorizer;
use crate::grpc::serve;
use crate::settings::PolicySettings;

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No database is configured.
    #[error("no database is configured: set REACTOR_DATA_DATABASE_URL")]
    NoDatabase,
    /// The database's address is of no use.
    #[error("the database's address is of no use")]
    DatabaseUrl(#[from] PgUrlError),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The server ended.
    #[error("the gRPC server failed")]
    Serve(#[from] tonic::transport::Error),
}

impl PolicySettings {
    /// The settings of a service with this configuration.
    ///
    /// # Errors
    /// [`PolicyError`] when the configuration names no usable database.
    pub fn from_config(config: &Config) -> Result<Self, PolicyError> {
        let url = config.database_url.as_ref().ok_or(PolicyError::NoDatabase)?;
        let mut target = PgTarget::parse(url.expose())?;
        if let Some(file) = &config.data.ssl_root_cert {
            target = target.with_root_certificates(file.clone());
        }
        let mut settings = Self::new(config.tenant.clone(), target, &config.replication.publication);
        settings.default_schema.clone_from(&config.data.user_schema);
        settings.org_column.clone_from(&config.auth.org_column);
        settings.recheck_after = config.policy.recheck;
        settings.event_trigger = config.policy.event_trigger;
        settings.rules.clone_from(&config.policy.rules);
        Ok(settings)
    }
}

/// Answers gateways over gRPC until the process drains.
///
/// # Errors
/// [`PolicyError`] when it cannot be set up or cannot go on.
pub async fn run(context: ServiceContext) -> Result<(), PolicyError> {
    let address = context.config.policy.listen;
    let settings = PolicySettings::from_config(&context.config)?;
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|source| PolicyError::Listen { address, source })?;
    info!(%address, database = %settings.target, "answering gateways");
    let authorizer: Arc<dyn Authorizer> = Arc::new(PostgresAuthorizer::new(settings, &context.metrics));
    let ready = Arc::clone(&authorizer);
    context.readiness.add("postgres", move || ready.unavailable());
    serve(authorizer, listener, context.shutdown.draining()).await?;
    Ok(())
}
