//! RFC 6455 framing, the server's half. No IO: bytes in, messages out; frames are written once and shared by all who get them.

use std::cell::OnceCell;
use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use reactor_protocol::wire::{Encoded, MAX_FRAME_BYTES};

use super::deflate::{self, Compression, InflateError};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// The reserved bit of a message that is compressed, on its first frame (RFC 7692, 6).
const COMPRESSED: u8 = 0x40;
const MASKED: u8 = 0x80;
/// The longest head of a frame that is not masked.
const MAX_HEAD: usize = 10;
/// Payload of a control frame (5.5).
const MAX_CONTROL: usize = 125;

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// A text message; the bytes are UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping, to be answered with the same payload.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// The client closes, with this code if it gave one.
    Close(Option<u16>),
}

/// Why a connection must be failed (7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// What came is no frame that a client may send.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A compressed message holds no DEFLATE data. Neither RFC names a code; 7.4.1 has this one for data that are not what the
    /// message says, and other servers send it.
    #[error("a message cannot be inflated")]
    NotDeflate,
    /// A message is larger than is taken.
    #[error("frame too large")]
    TooLarge,
}

impl Broken {
    /// The close code (7.4.1).
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotUtf8 | Self::NotDeflate => 1007,
            Self::TooLarge => 1009,
        }
    }
}

/// The start of a frame.
#[derive(Clone, Copy)]
struct Head {
    fin: bool,
    is_compressed: bool,
    opcode: u8,
    /// Where the payload begins.
    start: usize,
    length: usize,
    mask: [u8; 4],
}

/// What came of a message.
struct Partial {
    is_text: bool,
    is_compressed: bool,
    payload: BytesMut,
}

/// Reads a client's frames and joins fragments. Holds nothing while nothing is incomplete.
#[derive(Default)]
pub struct Decoder {
    compression: Compression,
    buffer: BytesMut,
    /// A fragmented message.
    partial: Option<Partial>,
}

impl fmt::Debug for Decoder {
    /// Prints sizes only: payloads never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partial = self.partial.as_ref().map_or(0, |partial| partial.payload.len());
        write!(f, "Decoder({:?}, {} and {partial} bytes)", self.compression, self.buffer.len())
    }
}

impl Decoder {
    /// For a connection that has agreed on this.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self { compression, ..Self::default() }
    }

    /// Takes bytes from the socket.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message; `None` until more bytes come.
    ///
    /// # Errors
    /// Why the connection must be failed; nothing may be read after that.
    pub fn read(&mut self) -> Result<Option<Inbound>, Broken> {
        loop {
            let Some(head) = self.head()? else { return Ok(None) };
            if self.buffer.len() < head.start + head.length {
                // Room for the whole, so that a large message is not copied over and over.
                self.buffer.reserve(head.start + head.length - self.buffer.len());
                return Ok(None);
            }
            self.buffer.advance(head.start);
            let mut payload = self.buffer.split_to(head.length);
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            unmask(&mut payload, head.mask);
            if let Some(message) = self.take(head, payload)? {
                return Ok(Some(message));
            }
        }
    }

    fn head(&self) -> Result<Option<Head>, Broken> {
        let Some(([first, second], rest)) = self.buffer.split_first_chunk::<2>() else { return Ok(None) };
        let (fin, is_compressed, opcode) = (first & FIN != 0, first & COMPRESSED != 0, first & 0x0f);
        let may_be_compressed = self.compression == Compression::Deflate && matches!(opcode, TEXT | BINARY);
        if first & RESERVED & !COMPRESSED != 0 || (is_compressed && !may_be_compressed) {
            return Err(Broken::Protocol("reserved bits are set"));
        }
        if second & MASKED == 0 {
            return Err(Broken::Protocol("a frame is not masked"));
        }
        let is_control = opcode & 0x8 != 0;
        if !matches!(opcode, 0 | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(Broken::Protocol("unknown opcode"));
        }
        let short = usize::from(second & !MASKED);
        if is_control && (!fin || short > MAX_CONTROL) {
            return Err(Broken::Protocol("a control frame is fragmented or too long"));
        }
        match (opcode, &self.partial) {
            (0, None) => return Err(Broken::Protocol("a continuation of nothing")),
            (TEXT | BINARY, Some(_)) => return Err(Broken::Protocol("a message within a fragmented one")),
            _ => {}
        }
        let (length, taken) = match short {
            126 => match rest.first_chunk::<2>() {
                None => return Ok(None),
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
            },
            127 => match rest.first_chunk::<8>() {
                None => return Ok(None),
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
            },
            short => (short as u64, 0),
        };
        let is_shortest = match taken {
            2 => length > 125,
            8 => length > u64::from(u16::MAX),
            _ => true,
        };
        if !is_shortest || length >> 63 != 0 {
            return Err(Broken::Protocol("a length is not in its shortest form"));
        }
        let before = self.partial.as_ref().filter(|_| !is_control).map_or(0, |partial| partial.payload.len());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length.saturating_add(before) > MAX_FRAME_BYTES {
            return Err(Broken::TooLarge);
        }
        let Some(mask) = rest.get(taken..).and_then(<[u8]>::first_chunk::<4>) else { return Ok(None) };
        Ok(Some(Head { fin, is_compressed, opcode, start: 2 + taken + 4, length, mask: *mask }))
    }

    /// Takes a frame; gives a message when that is complete.
    fn take(&mut self, head: Head, payload: BytesMut) -> Result<Option<Inbound>, Broken> {
        match head.opcode {
            CLOSE => close(&payload).map(|code| Some(Inbound::Close(code))),
            PING => Ok(Some(Inbound::Ping(payload.freeze()))),
            PONG => Ok(Some(Inbound::Pong)),
            0 => {
                let Some(mut whole) = self.partial.take() else { return Ok(None) };
                whole.payload.extend_from_slice(&payload);
                self.message(whole, head.fin)
            }
            opcode => {
                let (is_text, is_compressed) = (opcode == TEXT, head.is_compressed);
                self.message(Partial { is_text, is_compressed, payload }, head.fin)
            }
        }
    }

    fn message(&mut self, message: Partial, fin: bool) -> Result<Option<Inbound>, Broken> {
        if !fin {
            self.partial = Some(message);
            return Ok(None);
        }
        let payload = if message.is_compressed {
            deflate::inflate(message.payload, MAX_FRAME_BYTES).map_err(|error| match error {
                InflateError::Broken => Broken::NotDeflate,
                InflateError::TooLarge => Broken::TooLarge,
            })?
        } else {
            message.payload.freeze()
        };
        if !message.is_text {
            return Ok(Some(Inbound::Binary(payload)));
        }
        if std::str::from_utf8(&payload).is_err() {
            return Err(Broken::NotUtf8);
        }
        Ok(Some(Inbound::Text(payload)))
    }
}

/// The code of a close frame (5.5.1, 7.4).
fn close(payload: &[u8]) -> Result<Option<u16>, Broken> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Broken::Protocol("half a close code")) };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Broken::Protocol("a close code that may not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Broken::NotUtf8);
    }
    Ok(Some(code))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends a message as one frame, compressed where that was agreed on and makes it smaller.
pub fn write(out: &mut BytesMut, message: &Encoded, compression: Compression) {
    let opcode = if matches!(message, Encoded::Text(_)) { TEXT } else { BINARY };
    let deflated = match compression {
        Compression::None => None,
        Compression::Deflate => deflate::deflate(message.bytes()),
    };
    match deflated {
        Some(deflated) => write_frame(out, COMPRESSED | opcode, &deflated),
        None => write_frame(out, opcode, message.bytes()),
    }
}

/// A message as one frame.
#[must_use]
pub fn encode(message: &Encoded, compression: Compression) -> Bytes {
    let mut out = BytesMut::with_capacity(message.bytes().len() + MAX_HEAD);
    write(&mut out, message, compression);
    out.freeze()
}

/// A message for many connections: its frame is written once for those that have agreed on compression, and once for the
/// others, when the first of them gets it.
pub struct Shared {
    message: Encoded,
    plain: OnceCell<Bytes>,
    deflated: OnceCell<Bytes>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?})", self.message)
    }
}

impl Shared {
    /// Writes nothing yet.
    #[must_use]
    pub fn new(message: Encoded) -> Self {
        Self { message, plain: OnceCell::new(), deflated: OnceCell::new() }
    }

    /// The frame for connections that have agreed on this.
    pub fn frame(&self, compression: Compression) -> Bytes {
        let written = match compression {
            Compression::None => &self.plain,
            Compression::Deflate => &self.deflated,
        };
        written.get_or_init(|| encode(&self.message, compression)).clone()
    }
}

/// The answer to a ping.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 2);
    write_frame(&mut out, PONG, payload);
    out.freeze()
}

/// A close frame; without a code an empty one.
#[must_use]
pub fn close_frame(code: Option<u16>, reason: &str) -> Bytes {
    let mut payload = BytesMut::new();
    if let Some(code) = code {
        payload.put_u16(code);
        payload.put_slice(reason.as_bytes().get(..MAX_CONTROL - 2).unwrap_or(reason.as_bytes()));
    }
    let mut out = BytesMut::new();
    write_frame(&mut out, CLOSE, &payload);
    out.freeze()
}

/// `first` is the opcode, with the bit of a compressed message.
fn write_frame(out: &mut BytesMut, first: u8, payload: &[u8]) {
    out.put_u8(FIN | first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => out.put_u8(length),
        (_, Ok(length)) => {
            out.put_u8(126);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(payload.len() as u64);
        }
    }
    out.put_slice(payload);
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
