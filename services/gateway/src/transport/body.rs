//! The response body of a connection: what its outbox holds, joined into one chunk per write.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio_util::sync::CancellationToken;

use crate::outbox::Outbox;

/// Ends with the outbox; when dropped, tells the connection that its reader has gone.
#[derive(Debug)]
pub(super) struct OutboxBody {
    outbox: Arc<Outbox>,
    ended: CancellationToken,
    /// Counts the connection until the body is gone.
    _open: OpenConnection,
}

/// Keeps the count of open connections right, whichever way one ends.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    pub(super) gauge: reactor_runtime::metrics::IntGauge,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl OutboxBody {
    pub(super) fn new(outbox: Arc<Outbox>, ended: CancellationToken, open: OpenConnection) -> Self {
        Self { outbox, ended, _open: open }
    }
}

impl Body for OutboxBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.outbox.poll_take(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

impl Drop for OutboxBody {
    fn drop(&mut self) {
        self.outbox.reader_gone();
        self.ended.cancel();
    }
}
