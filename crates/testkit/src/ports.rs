//! Ports that stay free for whom they were given to.
//!
//! They lie below the range from which the kernel takes the local ports of outgoing connections: a server that is
//! down for a moment must find its port again, and a client that retries must not by chance connect to itself.
//! A locked file per port keeps test processes that run at the same time apart; the lock goes with the process.

use std::fs::File;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::folder;

const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;

/// The locks of the ports that this process was given.
static TAKEN: Mutex<Taken> = Mutex::new(Taken { next: 0, locks: Vec::new() });

struct Taken {
    next: u16,
    locks: Vec<File>,
}

/// A TCP port on which nobody listens, and which no other caller of this function gets while this process lives.
pub fn free_port() -> Result<u16> {
    let locks = folder::base()?.join("ports");
    std::fs::create_dir_all(&locks).with_context(|| format!("cannot make {}", locks.display()))?;
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let span = LAST - FIRST;
    if taken.next == 0 {
        // Processes that start together begin at different places.
        taken.next = u16::try_from(u64::from(std::process::id()) * 97 % u64::from(span))?;
    }
    for _ in 0..span {
        let port = FIRST + taken.next % span;
        taken.next = (taken.next + 1) % span;
        let lock = File::options().create(true).append(true).open(locks.join(port.to_string()))?;
        if lock.try_lock().is_ok() && TcpListener::bind(("0.0.0.0", port)).is_ok() {
            taken.locks.push(lock);
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} to {LAST}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
