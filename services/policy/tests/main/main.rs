//! The policy service on a real Postgres.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test as a whole")]

mod channels;
mod compare;
mod denials;
mod engine;
mod filters;
mod grants;
mod grpc;
mod members;
mod newest;
mod outage;
mod policies;
mod private;
mod roads;
mod rows;
mod rules;
mod slow;
mod support;
mod watching;
