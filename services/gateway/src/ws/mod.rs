//! WebSocket connections of Supabase's clients.
//!
//! One loop per connection drives a [`reactor_protocol::session::Session`], which decides; what is delivered goes past it: the
//! fan-out of a channel ([`topics`]) and of row changes ([`crate::hub`]) puts frames that many share into the connection's
//! [`crate::outbox::Outbox`], and the loop writes all that waits in one write.

pub mod changes;
pub mod connection;
pub mod database;
pub mod deflate;
pub mod frame;
pub mod identify;
pub mod inbox;
mod member;
mod persist;
pub mod rest;
pub mod socket;
pub mod topics;
pub mod upgrade;
