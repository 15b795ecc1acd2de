//! Instruments: quantiles, processes, machine, metrics of our services, frames on a socket.

pub(crate) mod frames;
pub(crate) mod machine;
pub(crate) mod process;
pub(crate) mod samples;
pub(crate) mod scrape;
pub(crate) mod timestamp;
