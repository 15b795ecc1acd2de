//! Wire formats of the client connections, both halves, and what a WebSocket connection may do.
//!
//! Pure: no IO, no clock; parsers take any bytes and never panic.
//!
//! A WebSocket connection has two paths. [`session::Session`] decides: it takes frames, answers and timers, and gives
//! [`session::Action`]s. [`audience::Audience`] delivers: members of a channel with equal audiences get equal bytes, so the
//! fan-out encodes once for each and never touches a session.

pub mod audience;
pub mod broadcast;
pub mod changes;
pub mod client;
mod json;
pub mod presence;
pub mod replay;
pub mod session;
pub mod sse;
pub mod texts;
pub mod uuid;
pub mod wire;
