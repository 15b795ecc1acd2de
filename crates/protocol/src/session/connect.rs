//! Input: what concerns the connection as a whole: leaving, closing, and the reader's pace.

use super::{Now, Session};
use crate::texts::{Close, DISCONNECT, SLOW_CONSUMER};

impl<I: Clone> Session<I> {
    /// The server is leaving: joins are refused from now on. [`Self::handle_disconnect`] follows at this connection's turn.
    pub fn begin_drain(&mut self) {
        self.draining = true;
    }

    /// Closes the connection on purpose: the server leaves, or the tenant was reloaded, changed, suspended or deleted.
    pub fn handle_disconnect(&mut self) {
        self.tell_all("ok", DISCONNECT);
        self.out.close(Close::Restart);
    }

    /// The outbox is full: this connection alone is closed.
    pub fn handle_slow_consumer(&mut self) {
        self.tell_all("error", SLOW_CONSUMER);
        self.out.close(Close::SlowConsumer);
    }

    /// The socket is closed, whoever closed it. Every channel is left; the session is of no further use.
    pub fn handle_closed(&mut self, now: Now) {
        while !self.channels.is_empty() {
            self.remove(self.channels.len() - 1, now);
        }
        self.out.shut();
    }

    fn tell_all(&mut self, status: &str, message: &str) {
        if self.out.is_closed() {
            return;
        }
        for channel in self.channels.iter().filter(|channel| channel.joining.is_none()) {
            self.out.system_of_all(channel, status, message);
        }
    }
}
