//! Section 8.1: texts are UTF-8.

use anyhow::Context;

use crate::Case;
use crate::fragments::split;
use crate::wire::{CONTINUATION, Out, TEXT};

/// What is not UTF-8: bytes of no meaning, forms that are too long, halves of pairs, beyond the last character, too short.
const BROKEN: [&[u8]; 14] = [
    b"\xff",
    b"\xfe",
    b"\x80",
    b"\xbf",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xc3",
    b"\xf0\x9f\x98",
];

pub(crate) const CASES: &[Case] = &[
    Case::new("8.1", "every length of character is taken, at its limits", |target| {
        let mut connection = target.open()?;
        let characters = "\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{fffd}\u{ffff}\u{10000}\u{10ffff}κόσμε";
        let (message, reference) = connection.beat(characters.as_bytes());
        connection.send(&Out::new(TEXT, message))?;
        connection.answered(&reference)
    }),
    Case::new("8.1", "a character may be cut by a fragment's end", |target| {
        let mut connection = target.open()?;
        for size in 1..6 {
            let (message, reference) = connection.beat("é€\u{1f600}é€\u{1f600}".as_bytes());
            connection.send_all(&split(TEXT, &message, size))?;
            connection.answered(&reference).with_context(|| format!("{size} bytes each"))?;
        }
        Ok(())
    }),
    Case::new("8.1", "a text that is not UTF-8 fails the connection with 1007", |target| {
        for broken in BROKEN {
            let mut connection = target.open()?;
            let (message, _) = connection.beat(broken);
            connection.send(&Out::new(TEXT, message))?;
            connection.fails_with(&[1007]).with_context(|| format!("{broken:x?}"))?;
        }
        Ok(())
    }),
    Case::new("8.1", "so does one that is cut off in a character", |target| {
        for cut in [&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x98"] {
            let mut connection = target.open()?;
            connection.send(&Out::new(TEXT, cut))?;
            connection.fails_with(&[1007]).with_context(|| format!("{cut:x?}"))?;
        }
        Ok(())
    }),
    Case::new("8.1", "so does one that is broken in or between its fragments", |target| {
        for broken in BROKEN {
            let mut connection = target.open()?;
            let (message, _) = connection.beat(broken);
            connection.send_all(&split(TEXT, &message, 3))?;
            connection.fails_with(&[1007]).with_context(|| format!("{broken:x?}"))?;
        }
        let mut connection = target.open()?;
        connection.send_all(&[Out::new(TEXT, b"\xe2\x82").unfinished(), Out::new(CONTINUATION, b"\xc3\xa4")])?;
        connection.fails_with(&[1007])
    }),
];
