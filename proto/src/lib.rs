//! The gRPC interfaces between services: generated code, checked in so that a build needs no compiler for `.proto`
//! files, and [`convert`], the one place where wire messages become types of the domain; [`chunks`] for long lists.
//!
//! After a change to a `.proto` file, `UPDATE_PROTO=1 cargo test -p reactor-proto` writes the code anew; without the
//! variable the same test fails when the code is not what the files give.

pub mod chunks;
pub mod convert;

/// Messages, client and server of `reactor/policy/v1/policy.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::expect_used,
    clippy::unwrap_used,
    rustdoc::all,
    reason = "generated"
)]
pub mod policy {
    /// Version 1.
    pub mod v1 {
        include!("gen/reactor.policy.v1.rs");
    }
}
