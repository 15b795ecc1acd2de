//! What the tests write and read.

/// The sample tables, the same that the demo and the cluster create.
pub const SAMPLE_SQL: &str = include_str!("../../../deploy/sample.sql");

/// `auth.uid()` and its like, and the roles that policies are usually for.
pub const AUTH_SQL: &str = include_str!("auth.sql");

/// A secret for HS256 tokens, long enough for every check of strength.
pub const JWT_SECRET: &str = "a-secret-for-tests-that-is-long-enough-0123456789";
