//! Who may read what: asked of the policy service, with a deadline and a cache, failing closed.
//!
//! [`RemoteAuthorizer`] asks over gRPC. [`CachingAuthorizer`] stands before any authorizer and answers again what was
//! answered a moment ago. No answer is an error, which callers treat as a deny.

mod caching;
mod remote;
#[cfg(test)]
mod remote_tests;

pub use caching::{CachingAuthorizer, FRESH};
pub use remote::{InvalidPolicyUrl, RemoteAuthorizer};
