//! Connections to a tenant's Postgres and what is read from its catalog.
//!
//! [`PgTarget`] is a parsed connection URL that never shows its password, [`connect`] opens a session with the
//! settings under which every value has one text form, [`PgError`] says what is wrong and how to mend it, and
//! [`catalog`] describes tables as the rest of the system needs them.

pub mod catalog;
mod connect;
mod error;
mod options;
mod target;
mod tls;

pub use connect::{CONNECT_DEADLINE, SESSION_SETTINGS, connect, connect_listening, session_options};
pub use error::{PgError, PgErrorKind};
pub use target::{Endpoint, PgTarget, PgUrlError, TlsMode};
pub use tokio_postgres::Client;
