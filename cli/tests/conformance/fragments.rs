//! Section 5.4: messages in several frames.

use anyhow::{Context, Result, ensure};

use crate::Case;
use crate::wire::{BINARY, CONTINUATION, Connection, Out, PING, PONG, TEXT};

pub(crate) const CASES: &[Case] = &[
    Case::new("5.4", "a text in two, in three and in many frames is one message", |target| {
        let mut connection = target.open()?;
        for size in [1, 2, 3, 10, 40, 70] {
            let (message, reference) = connection.beat("in päcks".as_bytes());
            connection.send_all(&split(TEXT, &message, size))?;
            connection.answered(&reference).with_context(|| format!("{size} bytes each"))?;
        }
        Ok(())
    }),
    Case::new("5.4", "each fragment may come alone", |target| {
        let mut connection = target.open()?;
        let (message, reference) = connection.beat(b"alone");
        for frame in split(TEXT, &message, 7) {
            connection.send(&frame)?;
        }
        connection.answered(&reference)
    }),
    Case::new("5.4", "fragments may be empty, first, between and last", |target| {
        let mut connection = target.open()?;
        let (message, reference) = connection.beat(b"");
        let empty = || Out::new(CONTINUATION, "").unfinished();
        let frames = [
            Out::new(TEXT, "").unfinished(),
            empty(),
            Out::new(CONTINUATION, message).unfinished(),
            empty(),
            Out::new(CONTINUATION, ""),
        ];
        connection.send_all(&frames)?;
        connection.answered(&reference)
    }),
    Case::new("5.4", "control frames between fragments are answered at once", |target| {
        let mut connection = target.open()?;
        let (message, reference) = connection.beat(b"with a ping inside");
        for (number, frame) in split(TEXT, &message, 20).iter().enumerate() {
            connection.send(frame)?;
            if frame.bytes()[0] & 0x80 == 0 {
                let payload = format!("ping {number}");
                connection.send_all(&[Out::new(PING, payload.clone()), Out::new(PONG, "unasked")])?;
                ensure!(connection.expect(PONG)? == payload.as_bytes(), "the answer to {payload}");
            }
        }
        connection.answered(&reference)
    }),
    Case::new("5.4", "a continuation of nothing fails the connection", |target| {
        for last in [true, false] {
            let mut connection = target.open()?;
            connection.lives()?;
            let frame = Out::new(CONTINUATION, "x");
            connection.send(&if last { frame } else { frame.unfinished() })?;
            connection.fails_with(&[1002])?;
        }
        Ok(())
    }),
    Case::new("5.4", "a continuation after the last fragment fails the connection", |target| {
        let mut connection = target.open()?;
        let (message, reference) = connection.beat(b"");
        connection.send_all(&split(TEXT, &message, 20))?;
        connection.answered(&reference)?;
        connection.send(&Out::new(CONTINUATION, "x"))?;
        connection.fails_with(&[1002])
    }),
    Case::new("5.4", "another message between fragments fails the connection", |target| {
        for opcode in [TEXT, BINARY] {
            let mut connection = target.open()?;
            connection.send_all(&[Out::new(TEXT, "{").unfinished(), Out::new(opcode, "{}")])?;
            connection.fails_with(&[1002]).with_context(|| format!("opcode {opcode}"))?;
        }
        Ok(())
    }),
    Case::new("5.4", "a binary message in fragments is one message", |target| {
        let mut connection = target.open_v2()?;
        join(&mut connection)?;
        for size in [1, 5, 30] {
            let push = broadcast(&size.to_string());
            connection.send_all(&split(BINARY, &push, size))?;
            let reply = String::from_utf8(connection.expect(TEXT)?)?;
            ensure!(reply.contains("phx_reply") && reply.contains("\"ok\""), "{reply}");
        }
        Ok(())
    }),
];

/// A message in frames of `size` bytes.
pub(crate) fn split(opcode: u8, message: &[u8], size: usize) -> Vec<Out> {
    let last = message.len().div_ceil(size).saturating_sub(1);
    let frame = |(number, part): (usize, &[u8])| {
        let frame = Out::new(if number == 0 { opcode } else { CONTINUATION }, part);
        if number == last { frame } else { frame.unfinished() }
    };
    message.chunks(size).enumerate().map(frame).collect()
}

/// Joins a channel over version 1.0.0, to hear what it says itself.
pub(crate) fn join_to_hear(connection: &mut Connection) -> Result<()> {
    let join = r#"{"topic":"realtime:rfc","event":"phx_join","ref":"1","join_ref":"1","payload":{"config":{"broadcast":{"self":true}}}}"#;
    connection.send(&Out::new(TEXT, join))?;
    let reply = String::from_utf8(connection.expect(TEXT)?)?;
    ensure!(reply.contains("\"ok\""), "{reply}");
    Ok(())
}

/// Joins a channel whose messages are acknowledged.
fn join(connection: &mut Connection) -> Result<()> {
    let join = r#"["1","1","realtime:rfc","phx_join",{"config":{"broadcast":{"ack":true}}}]"#;
    connection.send(&Out::new(TEXT, join))?;
    let reply = String::from_utf8(connection.expect(TEXT)?)?;
    ensure!(reply.contains("\"ok\""), "{reply}");
    Ok(())
}

/// A broadcast with binary payload, as clients of version 2.0.0 write it.
fn broadcast(reference: &str) -> Vec<u8> {
    let (join, topic, event) = ("1", "realtime:rfc", "e");
    let length = |text: &str| u8::try_from(text.len()).unwrap_or_default();
    let head = [3, length(join), length(reference), length(topic), length(event), 0, 0];
    [&head[..], join.as_bytes(), reference.as_bytes(), topic.as_bytes(), event.as_bytes(), b"\x00\xff\xc0\x80bytes"]
        .concat()
}
