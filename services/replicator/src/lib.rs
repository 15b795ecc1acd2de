//! The replicator: the only owner of a tenant's replication slot. It decodes the changes of a Postgres database into
//! batches, stores them in the change log in commit order, and confirms to Postgres only what is stored.
//!
//! [`pgoutput`] and [`apply`] are pure; [`source`] is the connection; [`run`] is the whole. Nothing here knows who
//! reads the log.

pub mod apply;
mod attempt;
mod error;
mod messages;
mod metrics;
pub mod pgoutput;
mod prepare;
mod publication;
pub mod realtime_schema;
mod relation;
mod run;
mod service;
mod session;
mod settings;
mod slot;
pub mod source;
mod status;

pub use error::SessionError;
pub use publication::PublicationError;
pub use run::run;
pub use service::service;
pub use settings::ReplicatorSettings;
pub use slot::SlotNames;
pub use status::ReplicatorStatus;
