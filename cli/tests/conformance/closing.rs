//! Sections 5.5.1 and 7: the closing handshake and its codes.

use anyhow::{Context, Result, ensure};

use crate::Case;
use crate::wire::{BINARY, CLOSE, Out, PING, TEXT, Target};

pub(crate) const CASES: &[Case] = &[
    Case::new("5.5.1", "a close frame is answered with its code, and the connection ends", |target| {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014] {
            closes(target, code, b"", &[code])?;
        }
        Ok(())
    }),
    Case::new("7.4.2", "codes of libraries and applications are answered too", |target| {
        for code in [3000, 3999, 4000, 4999] {
            closes(target, code, b"", &[code])?;
        }
        Ok(())
    }),
    Case::new("5.5.1", "a close frame without a code is answered", |target| {
        let mut connection = target.open()?;
        connection.send(&Out::new(CLOSE, ""))?;
        let (code, _) = connection.closed()?;
        ensure!(code.is_none_or(|code| code == 1000), "answered with {code:?}");
        connection.ends()
    }),
    Case::new("5.5.1", "a reason is taken, up to 123 bytes", |target| {
        closes(target, 1000, "auf Wiedersehen, à bientôt".as_bytes(), &[1000])?;
        closes(target, 1000, &[b'x'; 123], &[1000])
    }),
    Case::new("5.5.1", "a close frame of one byte fails the connection", |target| {
        let mut connection = target.open()?;
        connection.send(&Out::new(CLOSE, [3]))?;
        connection.fails_with(&[1002])
    }),
    Case::new("7.4.1", "codes that no frame may carry fail the connection", |target| {
        for code in [1004, 1005, 1006, 1015] {
            closes(target, code, b"", &[1002])?;
        }
        Ok(())
    }),
    Case::new("7.4.2", "codes that are nobody's fail the connection", |target| {
        for code in [0, 1, 999, 1016, 1100, 2000, 2999, 5000, 65535] {
            closes(target, code, b"", &[1002])?;
        }
        Ok(())
    }),
    Case::new("8.1", "a reason that is not UTF-8 fails the connection", |target| {
        closes(target, 1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80", &[1007, 1002])
    }),
    Case::new("5.5.1", "nothing is sent or looked at after a close frame", |target| {
        let mut connection = target.open()?;
        let (message, _) = connection.beat(b"");
        let after =
            [Out::new(CLOSE, 1000_u16.to_be_bytes()), Out::new(TEXT, message), Out::new(PING, "x"), Out::new(15, "")];
        connection.send_all(&after)?;
        connection.fails_with(&[1000])
    }),
    Case::new("5.5.1", "a close frame between fragments is answered", |target| {
        let mut connection = target.open()?;
        connection.send_all(&[Out::new(BINARY, "x").unfinished(), Out::new(CLOSE, 1000_u16.to_be_bytes())])?;
        connection.fails_with(&[1000])
    }),
    Case::new("5.5.1", "what came before a close frame is answered before it", |target| {
        let mut connection = target.open()?;
        let (message, reference) = connection.beat(b"");
        connection.send_all(&[Out::new(TEXT, message), Out::new(CLOSE, 1000_u16.to_be_bytes())])?;
        connection.answered(&reference)?;
        connection.fails_with(&[1000])
    }),
    Case::new("7.1.1", "connections that end without a close frame do no harm", |target| {
        for bytes in [&b""[..], b"\x81", &Out::new(TEXT, "{}").unfinished().bytes(), b"GET / HTTP/1.1\r\n\r\n"] {
            target.open()?.write(bytes)?;
        }
        target.open()?.lives()
    }),
];

fn closes(target: &Target, code: u16, reason: &[u8], expected: &[u16]) -> Result<()> {
    let mut connection = target.open()?;
    connection.lives()?;
    connection.send(&Out::new(CLOSE, [&code.to_be_bytes(), reason].concat()))?;
    connection.fails_with(expected).with_context(|| format!("code {code}"))
}
