//! What happens to the stream between Postgres and the log: order, batches, bounds and what may be confirmed.
//!
//! Pure: messages, acks and the time go in by `handle_*`, batches and standby statuses come out by `poll_*`. Time is
//! the duration since the session began. Invariants kept here: the flushed LSN never passes the newest stored
//! position, positions only grow, each batch names the one before it, and what waits is bounded in bytes.

mod batch;
mod confirm;
mod machine;
mod model;
mod oversize;
mod status;
mod window;

#[cfg(test)]
mod tests;

pub use machine::Machine;
pub use model::{ApplyError, Frame, Limits, Lsns, Start, Totals};
pub use status::StandbyStatus;
pub use window::Publish;
