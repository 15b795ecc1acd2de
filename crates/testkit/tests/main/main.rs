//! What testkit starts, started.

#[cfg(test)]
mod clients;
#[cfg(test)]
mod servers;
