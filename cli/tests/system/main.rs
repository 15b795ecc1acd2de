//! The whole system as its users run it: real Postgres, real NATS, our programs by name and environment, clients over HTTP.
//! The same test bodies run over one process and over a cluster.

mod both_modes;
mod delivery;
mod deployment;
mod failures;
mod leaks;
mod policies;
mod refusals;
mod stopping;

pub(crate) use both_modes::in_both_modes;
