//! Both implementations against one suite, and NATS against what happens to servers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a case that cannot go on has failed")]

mod memory;
mod nats;
mod nats_cluster;
mod nats_faults;
mod nats_presence_faults;
mod nats_pubsub_faults;
mod suite;
