//! Sections 5.1 to 5.3 and 5.6: frames, masks, lengths, reserved bits and opcodes.

use anyhow::{Context, Result, ensure};

use crate::Case;
use crate::wire::{BINARY, CONTINUATION, Out, PING, PONG, TEXT};

pub(crate) const CASES: &[Case] = &[
    Case::new("5.1", "a frame that is not masked fails the connection", |target| {
        let mut connection = target.open()?;
        let (message, _) = connection.beat(b"");
        connection.send(&Out::new(TEXT, message).mask(None))?;
        connection.fails_with(&[1002])
    }),
    Case::new("5.1", "a control frame that is not masked fails the connection", |target| {
        let mut connection = target.open()?;
        connection.send(&Out::new(PING, "x").mask(None))?;
        connection.fails_with(&[1002])
    }),
    Case::new("5.3", "any masking key is undone, also that of zeros", |target| {
        let mut connection = target.open()?;
        for mask in [[0; 4], [0xff; 4], [1, 0, 0, 0x80], *b"\"{}:"] {
            let (message, reference) = connection.beat(b"masked");
            connection.send(&Out::new(TEXT, message).mask(Some(mask)))?;
            connection.answered(&reference).with_context(|| format!("{mask:?}"))?;
        }
        Ok(())
    }),
    Case::new("5.3", "a mask is undone at every length", |target| {
        let mut connection = target.open()?;
        for length in 0..70 {
            answers(&mut connection, length)?;
        }
        Ok(())
    }),
    Case::new("5.2", "lengths of 7, 16 and 64 bits are read at their limits", |target| {
        let mut connection = target.open()?;
        let around = connection.beat(b"").0.len();
        for length in [124, 125, 126, 127, 128, 0xfffe, 0xffff, 0x1_0000, 0x1_0001, 300_000] {
            // The reference grows by a digit on the way, which changes nothing here.
            answers(&mut connection, length - around)?;
        }
        Ok(())
    }),
    Case::new("5.2", "a length with its highest bit set fails the connection", |target| {
        let mut connection = target.open()?;
        connection.send(&Out::new(TEXT, "").length(&[127, 0x80, 0, 0, 0, 0, 0, 0, 1]))?;
        connection.fails_with(&[1002, 1009])
    }),
    Case::new("5.2", "a frame may come byte by byte", |target| {
        let mut connection = target.open()?;
        let (message, reference) = connection.beat("ä€\u{1f600}".as_bytes());
        for byte in Out::new(TEXT, message).bytes() {
            connection.write(&[byte])?;
        }
        connection.answered(&reference)
    }),
    Case::new("5.2", "many frames may come at once", |target| {
        let mut connection = target.open()?;
        let beats: Vec<_> = (0..50).map(|_| connection.beat(b"many")).collect();
        let frames: Vec<_> = beats.iter().map(|(message, _)| Out::new(TEXT, message.clone())).collect();
        connection.send_all(&frames)?;
        beats.iter().try_for_each(|(_, reference)| connection.answered(reference))
    }),
    Case::new("5.2", "a reserved bit that no extension defines fails the connection", |target| {
        for bits in [1, 2, 4, 7] {
            for opcode in [TEXT, BINARY, PING, PONG] {
                let mut connection = target.open()?;
                connection.send(&Out::new(opcode, "{}").reserved(bits))?;
                connection.fails_with(&[1002]).with_context(|| format!("bits {bits}, opcode {opcode}"))?;
            }
        }
        Ok(())
    }),
    Case::new("5.2", "a reserved bit in a continuation fails the connection", |target| {
        let mut connection = target.open()?;
        let frames = [Out::new(TEXT, "{").unfinished(), Out::new(CONTINUATION, "}").reserved(4)];
        connection.send_all(&frames)?;
        connection.fails_with(&[1002])
    }),
    Case::new("5.2", "opcodes 3 to 7 and 11 to 15 fail the connection", |target| {
        for opcode in (3..=7).chain(11..=15) {
            for payload in ["", "x"] {
                let mut connection = target.open()?;
                connection.send(&Out::new(opcode, payload))?;
                connection.fails_with(&[1002]).with_context(|| format!("opcode {opcode}"))?;
            }
        }
        Ok(())
    }),
    Case::new("5.6", "an empty text is a message", |target| {
        let mut connection = target.open()?;
        connection.send(&Out::new(TEXT, ""))?;
        connection.lives()
    }),
    Case::new("5.6", "a binary message may hold any bytes, also none", |target| {
        for mut connection in [target.open()?, target.open_v2()?] {
            for payload in [&b""[..], b"\xff\xfe\x00\xc0\xaf", &[0x80; 300]] {
                connection.send(&Out::new(BINARY, payload))?;
            }
            connection.send(&Out::new(PING, "still here"))?;
            ensure!(connection.expect(PONG)? == b"still here");
        }
        Ok(())
    }),
    Case::new("7.1.7", "what follows a broken frame is not looked at", |target| {
        let mut connection = target.open()?;
        let (message, _) = connection.beat(b"");
        connection.send_all(&[Out::new(3, ""), Out::new(TEXT, message), Out::new(PING, "x")])?;
        connection.fails_with(&[1002])
    }),
];

fn answers(connection: &mut crate::wire::Connection, padding: usize) -> Result<()> {
    let (message, reference) = connection.beat(&vec![b'x'; padding]);
    connection.send(&Out::new(TEXT, message))?;
    connection.answered(&reference).with_context(|| format!("{padding} bytes of padding"))
}
