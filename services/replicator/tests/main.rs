//! The replicator on real Postgres servers, writing into the log in memory.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

mod access;
mod changes;
mod cluster;
mod endurance;
mod realtime_schema;
mod restart;
mod schema;
mod slot;
