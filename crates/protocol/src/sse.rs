//! Server-Sent Events: writing them for many readers, and reading them back.

use std::fmt::Display;

use bytes::{BufMut, BytesMut};

/// The largest line that [`SseParser`] keeps, in bytes; a longer one is cut there. Four times the default
/// `max_payload_bytes` of the server, so that only a broken server comes near.
pub const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// Writes one event. `data` must not hold line breaks (JSON text never does).
pub fn write_event(out: &mut BytesMut, event: &str, id: Option<&dyn Display>, data: &[u8]) {
    use std::fmt::Write as _;
    out.reserve(data.len() + event.len() + 64);
    out.put_slice(b"event: ");
    out.put_slice(event.as_bytes());
    if let Some(id) = id {
        // Writing to BytesMut cannot fail: it grows.
        let _ = write!(out, "\nid: {id}");
    }
    out.put_slice(b"\ndata: ");
    out.put_slice(data);
    out.put_slice(b"\n\n");
}

/// Writes the time after which the reader should reconnect, as the first field of the event that is written next: some
/// readers take a block with nothing else for an event of its own.
pub fn write_retry(out: &mut BytesMut, millis: u64) {
    use std::fmt::Write as _;
    let _ = writeln!(out, "retry: {millis}");
}

/// One event as read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// The `id:` field of this event.
    pub id: Option<String>,
    /// The `event:` field, `message` when absent.
    pub event: String,
    /// The `data:` lines joined by line breaks.
    pub data: String,
    /// The `retry:` field in milliseconds.
    pub retry: Option<u64>,
}

/// Reads events from chunks cut anywhere. Blocks without data or `retry:` (comments) are passed over.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    last_was_cr: bool,
    started: bool,
    id: Option<String>,
    event: String,
    data: String,
    has_data: bool,
    retry: Option<u64>,
}

impl SseParser {
    /// Takes the next chunk and returns the events that it completes.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<SseEvent> {
        let mut events = Vec::new();
        for &byte in chunk {
            match byte {
                b'\n' if self.last_was_cr => self.last_was_cr = false,
                b'\n' | b'\r' => {
                    self.last_was_cr = byte == b'\r';
                    events.extend(self.end_of_line());
                }
                _ => {
                    self.last_was_cr = false;
                    if self.line.len() < MAX_LINE_BYTES {
                        self.line.push(byte);
                    }
                }
            }
        }
        events
    }

    fn end_of_line(&mut self) -> Option<SseEvent> {
        let line = std::mem::take(&mut self.line);
        let mut text = String::from_utf8_lossy(&line).into_owned();
        if !self.started {
            self.started = true;
            if let Some(rest) = text.strip_prefix('\u{feff}') {
                text = rest.to_owned();
            }
        }
        if text.is_empty() {
            return self.dispatch();
        }
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => self.retry = value.parse().ok().or(self.retry),
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        let id = self.id.take();
        let retry = self.retry.take();
        if !std::mem::take(&mut self.has_data) && retry.is_none() {
            return None;
        }
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(SseEvent { id, event, data, retry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&str], expected: &[(&str, Option<&str>, &str)]) {
        let mut parser = SseParser::default();
        let events: Vec<_> = chunks.iter().flat_map(|chunk| parser.push(chunk.as_bytes())).collect();
        let got: Vec<_> = events.iter().map(|e| (e.event.as_str(), e.id.as_deref(), e.data.as_str())).collect();
        assert_eq!(got, expected, "{chunks:?}");
    }

    #[test]
    fn reads_what_the_standard_says() {
        check(&["data: a\n\n"], &[("message", None, "a")]);
        check(&["event: x\r\nid: 1\r\ndata:a\r\ndata: b\r\n\r\n"], &[("x", Some("1"), "a\nb")]);
        check(&["da", "ta: a\r", "\n", "\r\ndata: b\r\r"], &[("message", None, "a"), ("message", None, "b")]);
        check(&[": comment\n\n", "event: y\n\n"], &[]);
        check(&["\u{feff}data: a\n\n"], &[("message", None, "a")]);
        check(&["data\n\n"], &[("message", None, "")]);
    }

    #[test]
    fn reads_back_what_it_writes() {
        let mut out = BytesMut::new();
        write_retry(&mut out, 1500);
        write_event(&mut out, "insert", Some(&"7"), b"{\"a\":1}");
        write_event(&mut out, "heartbeat", None, b"{}");
        let mut parser = SseParser::default();
        let events: Vec<_> = out.chunks(3).flat_map(|chunk| parser.push(chunk)).collect();
        assert_eq!(events[0].retry, Some(1500));
        assert_eq!(
            (events[0].event.as_str(), events[0].id.as_deref(), events[0].data.as_str()),
            ("insert", Some("7"), "{\"a\":1}")
        );
        assert_eq!((events[1].event.as_str(), events[1].id.as_deref()), ("heartbeat", None));
    }
}
