//! Finds the events in the bytes of an SSE response or a WebSocket, with as little work as can be: the reader shares the
//! machine with the server that is measured.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::timestamp;

/// Comes once in each event of a row, before its commit time.
const MARKER: &[u8] = b"\"commit_timestamp\":\"";

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARKER));

/// Bytes that one read may take.
const READ_BYTES: usize = 32 * 1024;
/// What may be kept from one read to the next: less than a marker with its time.
const KEEP_BYTES: usize = MARKER.len() + timestamp::BYTES;

/// A read buffer that gives out the commit time of each event.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: Box<[u8]>,
    kept: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { buffer: vec![0; KEEP_BYTES + READ_BYTES].into(), kept: 0 }
    }
}

impl Frames {
    /// Where the next bytes go.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.kept..).unwrap_or_default()
    }

    /// Looks through the `read` bytes that were put into the room; `each` gets the text of each commit time.
    pub(crate) fn scan(&mut self, read: usize, mut each: impl FnMut(&[u8])) {
        let filled = (self.kept + read).min(self.buffer.len());
        let bytes = self.buffer.get(..filled).unwrap_or_default();
        let mut done = 0;
        while let Some(rest) = bytes.get(done..)
            && let Some(found) = FINDER.find(rest)
        {
            let text = done + found + MARKER.len();
            let Some(time) = bytes.get(text..text + timestamp::BYTES) else {
                done += found;
                break;
            };
            each(time);
            done = text + timestamp::BYTES;
        }
        // What is kept is too short for a marker with its time, so nothing is found twice.
        let from = done.max((filled + 1).saturating_sub(KEEP_BYTES));
        self.buffer.copy_within(from..filled, 0);
        self.kept = filled - from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2025-11-19T00:22:40.877123Z";

    fn found(bytes: &[u8], chunk: usize) -> Vec<String> {
        let (mut frames, mut times) = (Frames::default(), Vec::new());
        for part in bytes.chunks(chunk) {
            frames.room()[..part.len()].copy_from_slice(part);
            frames.scan(part.len(), |time| times.push(String::from_utf8_lossy(time).into_owned()));
        }
        times
    }

    #[test]
    fn every_event_is_found_once_wherever_reads_are_cut() {
        let event = format!("event: insert\nid: 1\ndata: {{\"commit_timestamp\":\"{TIME}\",\"new\":{{}}}}\n\n");
        let three = event.repeat(3);
        for chunk in 1..three.len() {
            assert_eq!(found(three.as_bytes(), chunk), [TIME, TIME, TIME], "{chunk}");
        }
    }

    #[test]
    fn other_bytes_are_passed_over() {
        let noise = "\"commit_timestamp\":\"".repeat(2) + &"x".repeat(100_000);
        for chunk in [1, 7, 1000, READ_BYTES] {
            assert!(found(noise.as_bytes(), chunk).len() <= 1, "{chunk}");
        }
        assert!(found("x".repeat(200_000).as_bytes(), READ_BYTES).is_empty());
    }
}
