//! The socket of a connection: reads what comes, writes what waits, and keeps no buffer while nothing happens.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deflate::Compression;
use super::frame::Decoder;
use crate::outbox::Outbox;

/// Read at a time; on the stack, so that an idle connection has no read buffer.
const READ_BYTES: usize = 8 * 1024;

/// What happened on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Bytes came; the decoder has them.
    Read,
    /// Everything that was queued before the outbox was finished is written.
    Finished,
    /// The peer has gone.
    Gone,
}

/// A socket with what is half read and half written.
#[derive(Debug)]
pub struct Socket<T> {
    io: T,
    /// Messages that are not complete.
    pub decoder: Decoder,
    /// Being written.
    chunk: Bytes,
    must_flush: bool,
    finished: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket<T> {
    /// Takes over a socket on which this was agreed.
    pub fn new(io: T, compression: Compression) -> Self {
        let decoder = Decoder::new(compression);
        Self { io, decoder, chunk: Bytes::new(), must_flush: false, finished: false }
    }

    /// Writes what waits, all of it in one write where the socket takes it, and reads what comes. May be dropped and called again.
    pub async fn next(&mut self, outbox: &Outbox) -> Happened {
        std::future::poll_fn(|cx| self.poll(cx, outbox)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, outbox: &Outbox) -> Poll<Happened> {
        match self.poll_write(cx, outbox) {
            Poll::Ready(Ok(())) if !self.finished => {
                self.finished = true;
                return Poll::Ready(Happened::Finished);
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(error)) => return Poll::Ready(gone(&error)),
        }
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => Poll::Ready(Happened::Gone),
            Ok(()) => {
                self.decoder.feed(buffer.filled());
                Poll::Ready(Happened::Read)
            }
            Err(error) => Poll::Ready(gone(&error)),
        }
    }

    /// Ready when the outbox is finished and everything is written.
    fn poll_write(&mut self, cx: &mut Context<'_>, outbox: &Outbox) -> Poll<io::Result<()>> {
        loop {
            if self.chunk.is_empty() {
                match outbox.poll_take(cx) {
                    Poll::Ready(Some(chunk)) => self.chunk = chunk,
                    ended => {
                        if self.must_flush {
                            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                            self.must_flush = false;
                        }
                        return if ended.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending };
                    }
                }
                continue;
            }
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.chunk))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.chunk.advance(written);
            if self.chunk.is_empty() {
                self.chunk = Bytes::new();
            }
            self.must_flush = true;
        }
    }

    /// Reads on until the peer closes, and throws away what comes: what was written reaches it that way.
    pub async fn linger(&mut self) {
        std::future::poll_fn(|cx| {
            loop {
                let mut bytes = [0; READ_BYTES];
                let mut buffer = ReadBuf::new(&mut bytes);
                match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => {}
                    Ok(()) | Err(_) => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    /// Tells the peer that nothing more comes.
    pub async fn shut(&mut self) {
        let _ = std::future::poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await;
    }
}

fn gone(error: &io::Error) -> Happened {
    tracing::debug!(%error, "the socket failed");
    Happened::Gone
}
