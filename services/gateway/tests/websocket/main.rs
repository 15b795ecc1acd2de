//! WebSocket clients against gateways that share their buses, over real sockets: two gateways of one cluster, with a log,
//! messages and presences in memory and an authorizer that says what it is told to.

#![allow(clippy::expect_used, reason = "this is a test as a whole")]

mod broadcast;
mod changes;
mod client;
mod closing;
mod http;
mod log;
mod presence;
mod private;
mod refusals;
mod tokens;
mod upgrade;
mod world;
