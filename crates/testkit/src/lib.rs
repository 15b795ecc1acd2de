//! Real parts for tests: Postgres and NATS on free ports, processes of our own, clients, faults.
//!
//! Nothing here is a stand-in: what a test starts is what a user would run. Everything that is started
//! ends with its value, and also when the test process is killed (see `supervise`).
//!
//! To be used from `tests/` folders. The programs come from `deploy/install.sh test`; a test that does not
//! find them fails and says so.

mod binaries;
pub mod fixtures;
mod folder;
pub mod nats;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod sse;
mod supervise;
pub mod token;
pub mod wait;

pub use binaries::{node, python_clients};
pub use nats::{Nats, NatsOptions};
pub use ports::free_port;
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Process, ProcessOptions};
pub use proxy::{Direction, TcpProxy};
pub use sse::{SseClient, SseRequest};
pub use token::token;
