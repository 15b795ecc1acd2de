//! Delivers changes to client connections. Stateless: it holds connections, verifies tokens, asks policy, evaluates filters
//! itself and fans out. It never opens a connection to a tenant's database.

pub mod auth;
pub mod authz;
pub mod catch_up;
pub mod connection;
#[cfg(test)]
mod connection_tests;
pub mod error;
pub mod feed;
pub mod hub;
pub mod metrics;
pub mod outbox;
pub mod replay;
pub mod run;
pub mod subscription;
pub mod timestamp;
pub mod transport;
pub mod ws;
