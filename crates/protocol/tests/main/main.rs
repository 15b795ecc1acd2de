//! The wire formats against their vectors, any bytes, and sessions as scripts: inputs, and what must come out.

// All of this is test code, also outside of `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod bytes_of_any_kind;
mod changes;
mod channels;
mod client;
mod clients_half;
mod joins;
mod lifetimes;
mod messages;
mod texts;
mod vectors;
