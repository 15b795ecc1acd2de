//! A replication connection of our own: dialling, TLS, authentication, the few commands, and the stream.
//!
//! The driver that the rest of the system uses has no replication mode. Only this folder speaks it.

mod auth;
mod command;
mod connect;
mod stream;
mod wire;

pub use command::{Identity, ReplicationConnection, SlotOptions, StartOptions};
pub use connect::connect;
pub use stream::{ReplicationStream, StreamFrame};
pub use wire::SourceError;
