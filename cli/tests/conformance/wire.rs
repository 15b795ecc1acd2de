//! Bytes of a WebSocket connection, written and read without any library, so that they can be wrong on purpose.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long the server may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The RFC's own example (section 1.3).
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What is offered where both sides are to compress each message by itself.
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// Of a compressed message the sender leaves this out; an empty last block makes a whole stream of it (RFC 7692, 7.2.2).
const DEFLATE_END: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];
/// The largest message of a server that a case asks for.
const MAX_INFLATED: usize = 5_000_000;

/// Where the server is.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) host: String,
    /// With the query, which has the token.
    pub(crate) path: String,
}

impl Target {
    pub(crate) fn new(url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("ws://")
            .or_else(|| url.strip_prefix("http://"))
            .context("an address that begins with ws://")?;
        let (host, path) = rest.split_once('/').context("an address with a path")?;
        Ok(Self { host: host.to_owned(), path: format!("/{path}") })
    }

    /// The lines of a good request, each to be replaced or left out.
    pub(crate) fn request(&self) -> Vec<String> {
        vec![
            format!("GET {}&vsn=1.0.0 HTTP/1.1", self.path),
            format!("Host: {}", self.host),
            "Upgrade: websocket".to_owned(),
            "Connection: Upgrade".to_owned(),
            format!("Sec-WebSocket-Key: {KEY}"),
            "Sec-WebSocket-Version: 13".to_owned(),
        ]
    }

    /// Sends a request and reads the head of the answer.
    pub(crate) fn ask(&self, lines: &[String]) -> Result<(Response, Connection)> {
        let mut stream = TcpStream::connect(&self.host).with_context(|| format!("cannot connect to {}", self.host))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())?;
        let mut connection = Connection { stream, unread: Vec::new(), beats: 0, deflates: false };
        let response = Response::read(&mut connection)?;
        Ok((response, connection))
    }

    /// A connection that speaks version 1.0.0 of the protocol, whose messages are text.
    pub(crate) fn open(&self) -> Result<Connection> {
        self.opened(self.request())
    }

    /// A connection that speaks version 2.0.0, whose messages may be binary.
    pub(crate) fn open_v2(&self) -> Result<Connection> {
        let mut request = self.request();
        request.splice(..1, [format!("GET {}&vsn=2.0.0 HTTP/1.1", self.path)]);
        self.opened(request)
    }

    /// A connection of version 1.0.0 whose handshake offers extensions, a header each; and what of them is agreed on.
    pub(crate) fn offer(&self, offers: &[&str]) -> Result<(Option<String>, Connection)> {
        let mut request = self.request();
        request.extend(offers.iter().map(|offer| format!("Sec-WebSocket-Extensions: {offer}")));
        let (response, mut connection) = self.ask(&request)?;
        ensure!(response.status == 101, "a request that offers {offers:?} is answered with {}", response.status);
        let answer = response.header("sec-websocket-extensions").map(str::to_owned);
        connection.deflates = answer.is_some();
        Ok((answer, connection))
    }

    /// Whether the server agrees on compression, without context takeover.
    pub(crate) fn compresses(&self) -> Result<bool> {
        Ok(self.offer(&[DEFLATE])?.0.is_some())
    }

    /// A connection with compression.
    pub(crate) fn open_deflate(&self) -> Result<Connection> {
        let (answer, connection) = self.offer(&[DEFLATE])?;
        ensure!(answer.is_some(), "{DEFLATE} is declined");
        Ok(connection)
    }

    fn opened(&self, request: Vec<String>) -> Result<Connection> {
        let (response, connection) = self.ask(&request)?;
        ensure!(response.status == 101, "a good request is answered with {}", response.status);
        Ok(connection)
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Response {
    fn read(connection: &mut Connection) -> Result<Self> {
        let end = loop {
            if let Some(end) = connection.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            ensure!(connection.fill()?, "the server closes without an answer");
        };
        let head: Vec<u8> = connection.unread.drain(..end + 4).collect();
        let head = String::from_utf8(head).context("an answer in ASCII")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("a status line")?.parse()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Self { status, headers })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A frame of the server.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    /// Inflated, where it came compressed.
    pub(crate) payload: Vec<u8>,
    pub(crate) is_compressed: bool,
}

/// A frame for the server. Good as it is made; the rest of the functions make it bad.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    first: u8,
    mask: Option<[u8; 4]>,
    payload: Vec<u8>,
    length: Option<Vec<u8>>,
}

impl Out {
    pub(crate) fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { first: 0x80 | opcode, mask: Some([0x37, 0xfa, 0x21, 0x3d]), payload: payload.into(), length: None }
    }

    /// Not the last of its message.
    pub(crate) fn unfinished(mut self) -> Self {
        self.first &= 0x7f;
        self
    }

    /// With reserved bits, of which RSV1 is 4.
    pub(crate) fn reserved(mut self, bits: u8) -> Self {
        self.first |= bits << 4;
        self
    }

    pub(crate) fn mask(mut self, mask: Option<[u8; 4]>) -> Self {
        self.mask = mask;
        self
    }

    /// With a length as is: the seven bits and what follows them.
    pub(crate) fn length(mut self, bytes: &[u8]) -> Self {
        self.length = Some(bytes.to_vec());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut length = match (&self.length, self.payload.len()) {
            (Some(bytes), _) => bytes.clone(),
            (None, short @ 0..=125) => vec![u8::try_from(short).unwrap_or_default()],
            (None, medium @ 126..=0xffff) => {
                [&[126], &u16::try_from(medium).unwrap_or_default().to_be_bytes()[..]].concat()
            }
            (None, long) => [&[127], &(long as u64).to_be_bytes()[..]].concat(),
        };
        let mut payload = self.payload.clone();
        if let Some(mask) = self.mask {
            length[0] |= 0x80;
            length.extend_from_slice(&mask);
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        [vec![self.first], length, payload].concat()
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    beats: u64,
    /// Whether compression was agreed on.
    deflates: bool,
}

impl Connection {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the server takes no more")
    }

    pub(crate) fn send(&mut self, frame: &Out) -> Result<()> {
        self.write(&frame.bytes())
    }

    /// Sends frames in one go, so that they arrive together.
    pub(crate) fn send_all(&mut self, frames: &[Out]) -> Result<()> {
        self.write(&frames.iter().flat_map(Out::bytes).collect::<Vec<_>>())
    }

    /// Reads more; whether there is more.
    fn fill(&mut self) -> Result<bool> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.unread.extend_from_slice(&chunk[..length]);
                Ok(true)
            }
            // A server that closes before it has read all resets the connection.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(false),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("the server says nothing for {PATIENCE:?}")
            }
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, length: usize) -> Result<Option<Vec<u8>>> {
        while self.unread.len() < length {
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(Some(self.unread.drain(..length).collect()))
    }

    fn number(&mut self, bytes: usize) -> Result<u64> {
        let bytes = self.take(bytes)?.context("a frame with its length")?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The next frame, which has to be one that a server may send; `None` when the connection has ended.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        let Some(head) = self.take(2)? else { return Ok(None) };
        let (first, second) = (head[0], head[1]);
        ensure!(second & 0x80 == 0, "5.1: a frame of a server is not masked");
        let is_compressed = self.deflates && matches!(first, 0xc1 | 0xc2);
        ensure!(is_compressed || first & 0x70 == 0, "5.2: a reserved bit that was not agreed on is set: {first:#x}");
        let length = match second {
            126 => self.number(2)?,
            127 => self.number(8)?,
            short => u64::from(short),
        };
        let shortest = match second {
            126 => length > 125,
            127 => length > 0xffff,
            _ => true,
        };
        ensure!(shortest, "5.2: a length is written as short as it can be: {length} after {second}");
        let mut payload = self.take(usize::try_from(length)?)?.context("a frame with its payload")?;
        if is_compressed {
            payload.extend_from_slice(&DEFLATE_END);
            let inflated = miniz_oxide::inflate::decompress_to_vec_with_limit(&payload, MAX_INFLATED);
            payload = inflated.map_err(|error| anyhow::anyhow!("RFC 7692, 7.2.1: no DEFLATE data: {error}"))?;
        }
        let frame = Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, payload, is_compressed };
        if frame.opcode >= CLOSE {
            ensure!(frame.fin && length <= 125, "5.5: a control frame is short and whole: {frame:?}");
        }
        Ok(Some(frame))
    }

    /// The next frame, of this kind.
    pub(crate) fn expect(&mut self, opcode: u8) -> Result<Vec<u8>> {
        match self.next()? {
            Some(frame) if frame.opcode == opcode && frame.fin => Ok(frame.payload),
            Some(frame) => bail!("expected a frame of kind {opcode}, got {}", describe(&frame)),
            None => bail!("expected a frame of kind {opcode}, and the connection has ended"),
        }
    }

    /// A message that the server answers with its own reference, with `padding` in it; and that reference.
    pub(crate) fn beat(&mut self, padding: &[u8]) -> (Vec<u8>, String) {
        self.beats += 1;
        let reference = format!("beat-{}", self.beats);
        let head = format!(r#"{{"topic":"phoenix","event":"heartbeat","ref":"{reference}","payload":{{"padding":""#);
        ([head.as_bytes(), padding, b"\"}}"].concat(), reference)
    }

    /// Expects the answer to a message of `beat`.
    pub(crate) fn answered(&mut self, reference: &str) -> Result<()> {
        let payload = self.expect(TEXT)?;
        let reply = String::from_utf8(payload).context("a text of the server is UTF-8")?;
        ensure!(
            reply.contains("phx_reply") && reply.contains(reference),
            "expected the answer to {reference}, got {reply}"
        );
        Ok(())
    }

    /// Whether the connection still does its work.
    pub(crate) fn lives(&mut self) -> Result<()> {
        let (message, reference) = self.beat(b"");
        self.send(&Out::new(TEXT, message))?;
        self.answered(&reference).context("the connection has to go on")
    }

    /// Expects a close frame; its code, if it has one, and its reason.
    pub(crate) fn closed(&mut self) -> Result<(Option<u16>, String)> {
        let payload = self.expect(CLOSE)?;
        if payload.is_empty() {
            return Ok((None, String::new()));
        }
        ensure!(payload.len() >= 2, "5.5.1: a close frame with a body has a code: {payload:?}");
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        let reason = String::from_utf8(payload[2..].to_vec()).context("5.5.1: a reason is UTF-8")?;
        Ok((Some(code), reason))
    }

    /// Expects the end of the connection, and nothing before it.
    pub(crate) fn ends(&mut self) -> Result<()> {
        match self.next()? {
            None => Ok(()),
            Some(frame) => bail!("7.1.1: after the close frame comes {}", describe(&frame)),
        }
    }

    /// Expects that the server fails the connection with one of these codes.
    pub(crate) fn fails_with(&mut self, codes: &[u16]) -> Result<()> {
        let (code, reason) = self.closed()?;
        ensure!(
            code.is_some_and(|code| codes.contains(&code)),
            "closed with {code:?} ({reason:?}) instead of {codes:?}"
        );
        self.ends()
    }
}

fn describe(frame: &Frame) -> String {
    let text = String::from_utf8_lossy(&frame.payload);
    let code = match (frame.opcode, &frame.payload[..]) {
        (CLOSE, [high, low, ..]) => format!(" code {}", u16::from_be_bytes([*high, *low])),
        _ => String::new(),
    };
    format!("kind {}{code}, {} bytes: {:.80}", frame.opcode, frame.payload.len(), text)
}
