//! SIGTERM and SIGINT: the first begins an orderly stop, the second ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::shutdown::Shutdown;

/// The signals that stop the process.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over; from here on they no longer end the process by themselves.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Begins the stop at the first signal: not ready at once, draining after `ready_delay`. Never returns.
    pub async fn watch(mut self, shutdown: Shutdown, ready_delay: Duration) {
        let (name, number) = self.next().await;
        if shutdown.is_draining() {
            exit_now(name, number);
        }
        tracing::info!(signal = name, ready_delay_secs = ready_delay.as_secs_f64(), "stopping");
        shutdown.begin_leaving();
        tokio::select! {
            () = tokio::time::sleep(ready_delay) => shutdown.begin_drain(),
            (name, number) = self.next() => exit_now(name, number),
        }
        let (name, number) = self.next().await;
        exit_now(name, number);
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        }
    }
}

/// With the code that shells give to a process which a signal ended.
#[allow(clippy::exit, reason = "whoever sends a second signal wants no more waiting")]
fn exit_now(signal: &str, number: i32) -> ! {
    tracing::warn!(signal, "second signal: stopping at once");
    std::process::exit(128 + number)
}
