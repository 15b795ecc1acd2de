//! Clients of other people against the whole system: applications that use them have to work by changing a URL.
//!
//! The clients are those of `cli/tests/clients`, of several releases, each as it comes from its registry. In a cluster the
//! parties of a test are on different gateways.

#[path = "../system/both_modes.rs"]
mod both_modes;
mod broadcast;
mod changes;
mod client;
mod compression;
mod database;
#[expect(dead_code, reason = "the other tests use what these do not")]
#[path = "../system/deployment.rs"]
mod deployment;
mod frames;
mod others;
mod presence;
mod private;
mod recipes;
mod reconnect;
mod tokens;
mod vectors;

pub(crate) use both_modes::in_both_modes;
