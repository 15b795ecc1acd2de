//! Properties of policies, against a real Postgres.
//!
//! `PROPTEST_CASES` sets how many predicates are tried.

// All of this is test code, also outside of `#[test]` functions.
#![allow(clippy::expect_used)]

mod eval;
