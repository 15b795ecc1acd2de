//! The bus inside one process: what a single binary without NATS runs on.

mod leases;
mod log;
mod presence;
mod pubsub;

pub use leases::MemoryLeases;
pub use log::{MemoryLog, MemoryLogConfig};
pub use presence::MemoryPresence;
pub use pubsub::MemoryPubSub;
