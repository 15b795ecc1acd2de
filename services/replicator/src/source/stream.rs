//! The running stream: data and keepalives in, standby statuses out.

use bytes::{Buf, BufMut};
use reactor_model::Lsn;

use super::command::refusal;
use super::wire::{SourceError, Wire};
use crate::apply::{Frame, StandbyStatus};
use crate::pgoutput;

/// A logical replication stream.
#[derive(Debug)]
pub struct ReplicationStream {
    wire: Wire,
    /// Bytes of the frame that was given out last, let go with the next.
    handled: usize,
}

/// One frame of the stream.
pub enum StreamFrame<'a> {
    /// A message of the output plugin.
    Data {
        /// Where it stood.
        frame: Frame,
        /// The message.
        message: &'a [u8],
    },
    /// The server is alive.
    Keepalive {
        /// Everything before this has been sent.
        wal_end: Lsn,
        /// Whether it wants to hear from us at once.
        reply_requested: bool,
    },
}

impl std::fmt::Debug for StreamFrame<'_> {
    /// Prints no message: row values never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data { frame, message } => write!(f, "Data({frame:?}, {} bytes)", message.len()),
            Self::Keepalive { wal_end, reply_requested } => write!(f, "Keepalive({wal_end}, {reply_requested})"),
        }
    }
}

impl ReplicationStream {
    pub(super) const fn new(wire: Wire) -> Self {
        Self { wire, handled: 0 }
    }

    /// The next frame that has been read in full; its bytes are let go with the next call.
    ///
    /// # Errors
    /// [`SourceError`]; also when the server ends the stream.
    pub fn next_frame(&mut self) -> Result<Option<StreamFrame<'_>>, SourceError> {
        loop {
            self.wire.consume(std::mem::take(&mut self.handled));
            let Some((tag, len)) = self.wire.peek()? else { return Ok(None) };
            self.handled = len;
            match tag {
                b'd' => break,
                // Notices and changes of parameters.
                b'N' | b'S' => {}
                b'E' => return Err(refusal(self.wire.body(len))),
                b'c' | b'C' => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                _ => return Err(SourceError::Protocol("message in the stream")),
            }
        }
        frame(self.wire.body(self.handled)).map(Some)
    }

    /// Waits for bytes and takes all that are there. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`SourceError::Io`] when the connection broke or ended.
    pub async fn fill(&mut self) -> Result<usize, SourceError> {
        self.wire.fill().await
    }

    /// Tells the server how far we are; `sent_us` is the time of day.
    ///
    /// # Errors
    /// [`SourceError::Io`].
    pub async fn send_status(
        &mut self,
        status: StandbyStatus,
        sent_us: i64,
        request_reply: bool,
    ) -> Result<(), SourceError> {
        self.wire.send(&status_message(status, sent_us, request_reply)).await
    }

    /// Ends the stream and the connection.
    pub async fn close(self) {
        // CopyDone, then Terminate.
        self.wire.close(&[b'c', 0, 0, 0, 4, b'X', 0, 0, 0, 4]).await;
    }
}

fn frame(body: &[u8]) -> Result<StreamFrame<'_>, SourceError> {
    const SHORT: SourceError = SourceError::Protocol("frame of the stream");
    let (head, mut rest) = body.split_first().ok_or(SHORT)?;
    match head {
        b'w' => {
            let (Ok(wal_start), Ok(_wal_end), Ok(sent)) = (rest.try_get_u64(), rest.try_get_u64(), rest.try_get_i64())
            else {
                return Err(SHORT);
            };
            let frame = Frame { wal_start: Lsn(wal_start), sent_us: pgoutput::unix_us(sent) };
            Ok(StreamFrame::Data { frame, message: rest })
        }
        b'k' => {
            let (Ok(wal_end), Ok(_sent), Ok(reply)) = (rest.try_get_u64(), rest.try_get_i64(), rest.try_get_u8())
            else {
                return Err(SHORT);
            };
            Ok(StreamFrame::Keepalive { wal_end: Lsn(wal_end), reply_requested: reply == 1 })
        }
        _ => Err(SHORT),
    }
}

fn status_message(status: StandbyStatus, sent_us: i64, request_reply: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(39);
    message.put_u8(b'd');
    message.put_u32(4 + 1 + 8 * 4 + 1);
    message.put_u8(b'r');
    message.put_u64(status.received.0);
    message.put_u64(status.flushed.0);
    message.put_u64(status.flushed.0);
    message.put_i64(pgoutput::postgres_us(sent_us));
    message.put_u8(u8::from(request_reply));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_and_short_ones_refused() {
        let mut data = vec![b'w'];
        data.put_u64(5);
        data.put_u64(6);
        data.put_i64(7);
        data.put_slice(b"message");
        let Ok(StreamFrame::Data { frame: at, message }) = frame(&data) else { panic!("not data") };
        assert_eq!((at.wal_start, at.sent_us, message), (Lsn(5), pgoutput::unix_us(7), &b"message"[..]));
        let mut keepalive = vec![b'k'];
        keepalive.put_u64(9);
        keepalive.put_i64(7);
        keepalive.put_u8(1);
        let Ok(StreamFrame::Keepalive { wal_end, reply_requested }) = frame(&keepalive) else { panic!("no keepalive") };
        assert_eq!((wal_end, reply_requested), (Lsn(9), true));
        for end in 0..18 {
            assert!(frame(&data[..end]).is_err() && frame(&keepalive[..end.min(17)]).is_err(), "{end}");
        }
        assert!(frame(b"x").is_err());
    }

    #[test]
    fn a_status_has_the_layout_that_postgres_reads() {
        let message = status_message(StandbyStatus { received: Lsn(2), flushed: Lsn(1) }, pgoutput::unix_us(3), true);
        let expected = [
            &b"d\0\0\0\x26r"[..],
            &2u64.to_be_bytes(),
            &1u64.to_be_bytes(),
            &1u64.to_be_bytes(),
            &3i64.to_be_bytes(),
            &[1],
        ];
        assert_eq!(message, expected.concat());
    }
}
