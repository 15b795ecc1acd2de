//! Sections 7.4.1 and 10.4: messages that are too large.

use anyhow::Context;

use crate::Case;
use crate::fragments::split;
use crate::wire::{BINARY, CONTINUATION, Connection, Out, TEXT};

/// The largest message that is taken.
const MAX: usize = 5_000_000;

pub(crate) const CASES: &[Case] = &[
    Case::new("10.4", "a message of 5,000,000 bytes is taken", |target| {
        let mut connection = target.open()?;
        let (message, reference) = largest(&mut connection);
        connection.send(&Out::new(TEXT, message))?;
        connection.answered(&reference)?;
        connection.lives()
    }),
    Case::new("10.4", "and so it is in fragments", |target| {
        let mut connection = target.open()?;
        let (message, reference) = largest(&mut connection);
        connection.send_all(&split(TEXT, &message, 999_999))?;
        connection.answered(&reference)
    }),
    Case::new("7.4.1", "a larger one fails the connection with 1009, before it has come", |target| {
        for length in [MAX as u64 + 1, 1 << 32, u64::MAX >> 1] {
            for opcode in [TEXT, BINARY] {
                let mut connection = target.open()?;
                connection.send(&Out::new(opcode, "").length(&[&[127][..], &length.to_be_bytes()].concat()))?;
                connection.fails_with(&[1009]).with_context(|| format!("{length} bytes"))?;
            }
        }
        Ok(())
    }),
    Case::new("7.4.1", "fragments are counted together", |target| {
        let mut connection = target.open()?;
        let mut frames = split(TEXT, &vec![b'x'; MAX], 1_000_000);
        if let Some(last) = frames.pop() {
            frames.push(last.unfinished());
        }
        connection.send_all(&frames)?;
        connection.send(&Out::new(CONTINUATION, "x"))?;
        connection.fails_with(&[1009])
    }),
    Case::new("10.4", "ten thousand small fragments are one message", |target| {
        let mut connection = target.open()?;
        let (message, reference) = connection.beat(&[b'x'; 100_000]);
        connection.send_all(&split(TEXT, &message, 10))?;
        connection.answered(&reference)
    }),
    Case::new("10.4", "one connection's end is not another's", |target| {
        let mut other = target.open()?;
        let mut connection = target.open()?;
        let length = MAX as u64 + 1;
        connection.send(&Out::new(TEXT, "").length(&[&[127][..], &length.to_be_bytes()].concat()))?;
        connection.fails_with(&[1009])?;
        other.lives()
    }),
];

fn largest(connection: &mut Connection) -> (Vec<u8>, String) {
    let around = connection.beat(b"").0.len();
    connection.beat(&vec![b'x'; MAX - around])
}
