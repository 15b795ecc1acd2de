//! The admin server over real sockets, and whole processes: their exit codes, what they say and how they stop.

#![allow(clippy::unwrap_used, reason = "this is a test as a whole")]

mod admin;
mod http;
mod process;
