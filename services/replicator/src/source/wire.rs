//! Protocol messages over a socket: one read buffer, nothing copied out of it while streaming.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use reactor_pg::{PgError, PgErrorKind};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

/// Room that a read finds. Few reads of much data cost both sides less than many of little.
const READ_BYTES: usize = 256 * 1024;
/// A buffer that a large row has grown beyond this is given back when the row has been handled.
const KEEP_BYTES: usize = 4 * 1024 * 1024;
/// Tag and length.
const HEADER_BYTES: usize = 5;
/// What is written is tiny, so a server that takes none of it for this long is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// The connection, the server's answer or the protocol failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The socket.
    #[error("connection to postgres broke")]
    Io(#[from] io::Error),
    /// The server refuses, or cannot be reached.
    #[error(transparent)]
    Pg(#[from] PgError),
    /// The server says what it cannot say.
    #[error("unexpected answer of postgres: {0}")]
    Protocol(&'static str),
}

/// What a connection runs over.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A message: its tag and body.
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

pub(super) struct Wire {
    socket: Box<dyn Socket>,
    buffer: BytesMut,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>) -> Self {
        Self { socket, buffer: BytesMut::with_capacity(READ_BYTES) }
    }

    /// Writes all of `bytes`.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        let write = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        match tokio::time::timeout(WRITE_DEADLINE, write).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    /// The next message, other than notices and changes of parameters.
    pub(super) async fn receive(&mut self) -> Result<Message, SourceError> {
        loop {
            if let Some((tag, len)) = self.peek()? {
                let mut bytes = self.buffer.split_to(len);
                bytes.advance(HEADER_BYTES);
                match tag {
                    b'N' | b'S' => {}
                    b'E' => return Err(error_response(&bytes).into()),
                    _ => return Ok(Message { tag, body: bytes.freeze() }),
                }
            } else {
                self.fill().await?;
            }
        }
    }

    /// Tag and whole length of the message that the buffer starts with, once it is there in full.
    pub(super) fn peek(&self) -> Result<Option<(u8, usize)>, SourceError> {
        let (Some(tag), Some(len)) = (self.buffer.first(), self.buffer.get(1..HEADER_BYTES)) else { return Ok(None) };
        let len = len.try_into().map_or(0, u32::from_be_bytes) as usize;
        if !(4..=i32::MAX as usize).contains(&len) {
            return Err(SourceError::Protocol("message length"));
        }
        Ok((self.buffer.len() > len).then_some((*tag, len + 1)))
    }

    /// The body of the first message, whose length is `len`.
    pub(super) fn body(&self, len: usize) -> &[u8] {
        self.buffer.get(HEADER_BYTES..len).unwrap_or_default()
    }

    /// Lets go of the first `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        self.buffer.advance(len.min(self.buffer.len()));
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP_BYTES {
            self.buffer = BytesMut::with_capacity(READ_BYTES);
        }
    }

    /// Waits for bytes, then takes what is there. Nothing is lost when the future is dropped.
    pub(super) async fn fill(&mut self) -> Result<usize, SourceError> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, SourceError>> {
        let mut total = 0;
        loop {
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
                self.buffer.reserve(READ_BYTES);
            }
            match poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.buffer) {
                Poll::Ready(Ok(0)) if total == 0 => {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(total)),
                Poll::Ready(Ok(read)) => total += read,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if total == 0 => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(total)),
            }
            // One record of TLS is all that a read gives, so it is asked again, but not for ever.
            if total >= READ_BYTES {
                return Poll::Ready(Ok(total));
            }
        }
    }

    /// Ends the connection in order, as far as the server still listens.
    pub(super) async fn close(mut self, farewell: &[u8]) {
        if self.send(farewell).await.is_ok() {
            let _ = tokio::time::timeout(Duration::from_secs(1), self.socket.shutdown()).await;
        }
    }
}

/// Reads the fields of an `ErrorResponse`.
pub(super) fn error_response(body: &[u8]) -> PgError {
    let (mut sqlstate, mut message, mut routine) = (String::new(), String::new(), None);
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, text)) = field.split_first() else { continue };
        let text = String::from_utf8_lossy(text).into_owned();
        match kind {
            b'C' => sqlstate = text,
            b'M' => message = text,
            b'R' => routine = Some(text),
            _ => {}
        }
    }
    PgError::from_response(&sqlstate, &message, routine.as_deref())
}

/// A socket that could not be opened or used, as an error that says what to do.
pub(super) fn unreachable(what: &str, error: &io::Error) -> PgError {
    PgError::new(PgErrorKind::Unreachable, format!("{what}: {error}"))
}
