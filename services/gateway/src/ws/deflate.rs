//! `permessage-deflate` (RFC 7692) without context takeover, in either direction: each message is compressed by itself, so that
//! all who get it share one frame, and no connection keeps a compressor or a window. No IO.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress, create_comp_flags_from_zip_params};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// The extension's name.
const NAME: &str = "permessage-deflate";
/// The answers to an offer, without and with the parameter that must be answered when it is offered (7.1.2.1).
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const ANSWER_WITH_WINDOW: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15";
/// The compressor has no smaller window: an offer that asks for one is declined.
const WINDOW_BITS: u8 = 15;

/// What the sender takes away from the end of a message and the receiver puts back (7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The same and an empty last block, which is reached only if the message ends where a block does.
const END: [u8; 6] = [0, 0, 0xff, 0xff, 0x03, 0];

/// Shorter payloads stay as they are: JSON of this length loses a quarter, which is about what the headers of its TCP segment
/// have, and takes 10 µs.
const MIN_BYTES: usize = 256;
/// A kilobyte of JSON comes down to 46 % in 15-25 µs; the usual level 6 makes 44 % of it in half as much time again, and of
/// 64 KiB 25 % for 31 % in five times the time.
const LEVEL: i32 = 1;
/// Negative: no header and checksum of zlib.
const RAW: i32 = -15;
/// What is inflated is first given this many times the room of what came; then twice as much, and so on.
const GUESSED_RATIO: usize = 4;

/// What a connection has agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// No extension.
    #[default]
    None,
    /// `permessage-deflate`.
    Deflate,
}

/// Why a message cannot be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// It is no DEFLATE data, or ends within a block.
    #[error("not DEFLATE data")]
    Broken,
    /// It becomes larger than is allowed.
    #[error("too large when it is inflated")]
    TooLarge,
}

/// The answer to the first offer that can be accepted, from the values of `Sec-WebSocket-Extensions`. A list that cannot be
/// read offers nothing.
pub fn negotiate<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    headers.into_iter().flat_map(|header| split(header, ',')).find_map(accept)
}

/// The answer to an offer; `None` declines it, as 7.1 says of parameters that are unknown, come twice or have a bad value.
fn accept(offer: &str) -> Option<&'static str> {
    let mut parts = split(offer, ';').map(str::trim);
    if parts.next() != Some(NAME) {
        return None;
    }
    let mut seen = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquote(value.trim_start()))),
            None => (part, None),
        };
        let is_good = match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None) => true,
            ("client_max_window_bits", Some(value)) => window_bits(value).is_some(),
            ("server_max_window_bits", Some(value)) => window_bits(value) == Some(WINDOW_BITS),
            _ => false,
        };
        if !is_good || seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(if seen.contains(&"server_max_window_bits") { ANSWER_WITH_WINDOW } else { ANSWER })
}

/// A number from 8 to 15 without leading zeros (7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    value.parse().ok().filter(|bits| is_number && (8..=15).contains(bits))
}

/// The text of a quoted value; of others the value. An escaped character is in none of the values that are known.
fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// The parts between separators that are not within quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let is_escaped = std::mem::take(&mut escaped);
        match character {
            '\\' if quoted && !is_escaped => escaped = true,
            '"' if !is_escaped => quoted = !quoted,
            _ => {}
        }
        character == separator && !quoted
    })
}

thread_local! {
    /// One for each thread on which something was compressed, of about 300 KB.
    static COMPRESSOR: RefCell<Box<CompressorOxide>> =
        RefCell::new(Box::new(CompressorOxide::new(create_comp_flags_from_zip_params(LEVEL, RAW, 0))));
}

/// Compresses a payload; `None` for one that is too short for it to be worth while, or does not become smaller.
#[must_use]
pub fn deflate(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < MIN_BYTES {
        return None;
    }
    // What does not end before the room does is no smaller.
    let mut out = vec![0; payload.len() + TAIL.len()];
    let written = COMPRESSOR.with_borrow_mut(|compressor| {
        compressor.reset();
        compress(compressor, payload, &mut out, TDEFLFlush::Sync).2
    });
    if written == out.len() {
        return None;
    }
    out.truncate(written);
    out.ends_with(&TAIL).then(|| {
        out.truncate(written - TAIL.len());
        out
    })
}

/// Inflates a message to at most `limit` bytes.
///
/// # Errors
/// Why it cannot be; nothing of it may be used then.
pub fn inflate(mut payload: BytesMut, limit: usize) -> Result<Bytes, InflateError> {
    // A byte more than is allowed, so that what fills the room is too large.
    let most = limit + 1;
    let mut out = vec![0; payload.len().saturating_mul(GUESSED_RATIO).clamp(1, most)];
    payload.extend_from_slice(&END);
    let (mut rest, mut written) = (&payload[..], 0);
    let mut state = Box::<DecompressorOxide>::default();
    loop {
        let (status, read, wrote) =
            decompress(&mut state, rest, &mut out, written, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
        rest = rest.get(read..).unwrap_or_default();
        written += wrote;
        match status {
            TINFLStatus::HasMoreOutput if out.len() >= most => return Err(InflateError::TooLarge),
            TINFLStatus::HasMoreOutput => out.resize(out.len().saturating_mul(2).min(most), 0),
            TINFLStatus::Done if rest.is_empty() => break,
            // The sender's own last block: others may follow (7.2.3.5).
            TINFLStatus::Done => state.init(),
            _ => return Err(InflateError::Broken),
        }
    }
    if written > limit {
        return Err(InflateError::TooLarge);
    }
    out.truncate(written);
    // What a session keeps of a message must not hold on to room that was only guessed.
    out.shrink_to_fit();
    Ok(out.into())
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
