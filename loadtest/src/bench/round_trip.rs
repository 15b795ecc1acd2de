//! What a byte there and back costs on this machine at a quiet pace: the floor of every latency that is measured here.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use reactor_runtime::clock;

use crate::measure::samples::{Samples, Summary};

/// Bytes of each message, about an event's.
const BYTES: usize = 400;

/// Round trips over a loopback connection between two threads, `rate` a second.
pub(crate) async fn run(rate: u32, count: u32) -> Result<Summary> {
    tokio::task::spawn_blocking(move || measure(rate, count)).await?
}

fn measure(rate: u32, count: u32) -> Result<Summary> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || echo(&listener));
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut message = [b'x'; BYTES];
    let mut samples = Samples::default();
    for _ in 0..count {
        std::thread::sleep(Duration::from_secs(1) / rate);
        let begun = clock::now();
        socket.write_all(&message)?;
        socket.read_exact(&mut message)?;
        samples.add(i64::try_from((clock::now() - begun).as_micros())?);
    }
    drop(socket);
    echo.join().ok().context("the echo panicked")??;
    Ok(samples.summary())
}

fn echo(listener: &TcpListener) -> Result<()> {
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let mut message = [0; BYTES];
    // Ends with the connection.
    while socket.read_exact(&mut message).is_ok() {
        socket.write_all(&message)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_round_trip_is_counted() {
        assert_eq!(run(1000, 5).await.unwrap().count, 5);
    }
}
