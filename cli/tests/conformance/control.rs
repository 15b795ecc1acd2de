//! Sections 5.5, 5.5.2 and 5.5.3: ping and pong.

use anyhow::{Context, ensure};

use crate::Case;
use crate::wire::{CLOSE, CONTINUATION, Out, PING, PONG};

pub(crate) const CASES: &[Case] = &[
    Case::new("5.5.2", "a ping is answered with its own bytes, up to 125", |target| {
        let mut connection = target.open()?;
        for payload in [&b""[..], b"hello", b"\x00\xff\xfe\xc0", &[0x7f; 124], &[0xff; 125]] {
            connection.send(&Out::new(PING, payload))?;
            ensure!(connection.expect(PONG)? == payload, "a ping of {} bytes", payload.len());
        }
        connection.lives()
    }),
    Case::new("5.5.2", "of many pings at least the last is answered", |target| {
        let mut connection = target.open()?;
        let pings: Vec<_> = (0..20).map(|number| Out::new(PING, format!("ping {number}"))).collect();
        connection.send_all(&pings)?;
        let mut last = Vec::new();
        while last != b"ping 19" {
            last = connection.expect(PONG)?;
        }
        connection.lives()
    }),
    Case::new("5.5.2", "a ping byte by byte is answered", |target| {
        let mut connection = target.open()?;
        for byte in Out::new(PING, "slowly").bytes() {
            connection.write(&[byte])?;
        }
        ensure!(connection.expect(PONG)? == b"slowly");
        Ok(())
    }),
    Case::new("5.5.3", "a pong that nobody asked for is not answered", |target| {
        let mut connection = target.open()?;
        connection.send_all(&[Out::new(PONG, ""), Out::new(PONG, "unasked"), Out::new(PONG, [b'x'; 125])])?;
        connection.lives()
    }),
    Case::new("5.5", "a control frame of more than 125 bytes fails the connection", |target| {
        for opcode in [PING, PONG, CLOSE] {
            let mut connection = target.open()?;
            let payload = [&[3, 232], &[b'x'; 124][..]].concat();
            connection.send(&Out::new(opcode, payload))?;
            connection.fails_with(&[1002]).with_context(|| format!("opcode {opcode}"))?;
        }
        Ok(())
    }),
    Case::new("5.5", "a control frame in fragments fails the connection", |target| {
        for opcode in [PING, PONG, CLOSE] {
            let mut connection = target.open()?;
            connection.send_all(&[Out::new(opcode, "").unfinished(), Out::new(CONTINUATION, "")])?;
            connection.fails_with(&[1002]).with_context(|| format!("opcode {opcode}"))?;
        }
        Ok(())
    }),
];
