//! Properties of filters and rendering: by themselves, and against a real Postgres.
//!
//! `PROPTEST_CASES` sets how many values of each type and how many filters are tried.

// All of this is test code, also outside of `#[test]` functions.
#![allow(clippy::expect_used)]

mod comparing;
mod database;
mod evaluating;
mod kinds;
mod parsing;
mod patterns;
mod rendering;
mod values;
