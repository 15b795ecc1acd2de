//! The only files that know HTTP: requests in, responses and bodies out.

mod body;
mod request;
mod routes;
mod server;
mod stall;

pub use routes::{App, AppSettings, router};
pub use server::{serve, serve_connection};
