//! The policy service: answers who may read what, from the tenant's own database.
//!
//! [`PostgresAuthorizer`] makes the decisions. A cluster has it behind gRPC ([`run`], [`serve`]); a single process uses
//! it directly.

mod access;
mod acting;
mod authorizer;
mod bindings;
mod channels;
mod check;
mod compare;
mod decide;
mod grpc;
#[cfg(test)]
mod grpc_tests;
mod knowledge;
mod members;
mod metrics;
mod names;
mod policies;
mod programs;
mod rules;
mod run;
mod session;
mod settings;
mod sql;
mod values;
mod watch;

pub use authorizer::PostgresAuthorizer;
pub use grpc::serve;
pub use run::{PolicyError, run};
pub use settings::{CATALOG_CACHE, PolicySettings, QUERY_DEADLINE};
