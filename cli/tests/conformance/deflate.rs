//! RFC 7692: `permessage-deflate`. The cases run where the server agrees on it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params};

use crate::Case;
use crate::fragments::{join_to_hear, split};
use crate::wire::{BINARY, CONTINUATION, Out, PING, PONG, TEXT, Target};

/// RSV1.
const COMPRESSED: u8 = 4;
/// The largest message that is taken.
const MAX: usize = 5_000_000;

pub(crate) const CASES: &[Case] = &[
    Case::new("7692/5.1", "an answer has what the offer has to have answered, and no more", |target| {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=\"15\"",
            "permessage-deflate; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=9",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate;client_no_context_takeover ; server_no_context_takeover",
        ] {
            let answer = answer(target, &[offer])?;
            fits(offer, answer.as_deref()).with_context(|| format!("{answer:?} to {offer}"))?;
        }
        Ok(())
    }),
    Case::new("7692/5.1", "the next offer is a fall-back, in one header or in two", |target| {
        for offers in [
            &["permessage-deflate; unknown, permessage-deflate"][..],
            &["permessage-deflate; server_max_window_bits=99", "x-other, permessage-deflate"],
        ] {
            fits("permessage-deflate", answer(target, offers)?.as_deref())?;
            ensure!(answer(target, offers)?.is_some(), "{offers:?} is declined");
        }
        Ok(())
    }),
    Case::new(
        "7692/7.1",
        "an offer with a parameter that is unknown, double or has a bad value is declined",
        |target| {
            for parameters in [
                "unknown",
                "unknown=\"a, permessage-deflate\"",
                "server_no_context_takeover; server_no_context_takeover",
                "client_max_window_bits; client_max_window_bits=15",
                "server_no_context_takeover=true",
                "client_no_context_takeover=1",
                "server_max_window_bits",
                "server_max_window_bits=7",
                "server_max_window_bits=16",
                "server_max_window_bits=015",
                "client_max_window_bits=0",
                "client_max_window_bits=x",
            ] {
                let answer = answer(target, &[&format!("permessage-deflate; {parameters}")])?;
                ensure!(answer.is_none(), "{parameters} is answered with {answer:?}");
            }
            Ok(())
        },
    ),
    Case::new("7692/6", "a compressed text is read, whatever its blocks", |target| {
        let mut connection = target.open_deflate()?;
        for length in [0, 10, 300, 70_000] {
            for (kind, encode) in ENCODINGS {
                let (message, reference) = connection.beat(&vec![b'x'; length]);
                connection.send(&Out::new(TEXT, encode(&message)).reserved(COMPRESSED))?;
                connection.answered(&reference).with_context(|| format!("{kind}, {length} bytes"))?;
            }
        }
        Ok(())
    }),
    Case::new("7692/6", "plain messages may come between compressed ones", |target| {
        let mut connection = target.open_deflate()?;
        for is_compressed in [true, false, true, false, false, true] {
            let (message, reference) = connection.beat(b"now and then");
            let frame = match is_compressed {
                true => Out::new(TEXT, deflated(&message)).reserved(COMPRESSED),
                false => Out::new(TEXT, message),
            };
            connection.send(&frame)?;
            connection.answered(&reference)?;
        }
        Ok(())
    }),
    Case::new("7692/6", "a compressed binary message is read", |target| {
        let mut connection = target.open_deflate()?;
        connection.send(&Out::new(BINARY, deflated(&[0xff; 1000])).reserved(COMPRESSED))?;
        connection.lives()
    }),
    Case::new("7692/6.1", "a compressed message may come in fragments, with control frames between", |target| {
        let mut connection = target.open_deflate()?;
        for size in [1, 2, 7, 30] {
            let (message, reference) = connection.beat("in päcks ".repeat(50).as_bytes());
            let mut frames = split(TEXT, &deflated(&message), size);
            if let Some(first) = frames.first_mut() {
                *first = first.clone().reserved(COMPRESSED);
            }
            frames.insert(1, Out::new(PING, "between"));
            frames.insert(2, Out::new(CONTINUATION, "").unfinished());
            connection.send_all(&frames)?;
            ensure!(connection.expect(PONG)? == b"between");
            connection.answered(&reference).with_context(|| format!("{size} bytes each"))?;
        }
        Ok(())
    }),
    Case::new("7692/6.1", "the bit in a continuation fails the connection", |target| {
        for first in [0, COMPRESSED] {
            let mut connection = target.open_deflate()?;
            let (message, _) = connection.beat(b"");
            let (start, end) = (deflated(&message), deflated(b""));
            let frames =
                [Out::new(TEXT, start).reserved(first).unfinished(), Out::new(CONTINUATION, end).reserved(COMPRESSED)];
            connection.send_all(&frames)?;
            connection.fails_with(&[1002])?;
        }
        Ok(())
    }),
    Case::new("7692/6.1", "the bit in a control frame fails the connection", |target| {
        for opcode in [PING, PONG] {
            let mut connection = target.open_deflate()?;
            connection.send(&Out::new(opcode, deflated(b"x")).reserved(COMPRESSED))?;
            connection.fails_with(&[1002]).with_context(|| format!("opcode {opcode}"))?;
        }
        Ok(())
    }),
    Case::new("7692/6", "the other reserved bits still fail the connection", |target| {
        for bits in [1, 2, 5, 6, 7] {
            let mut connection = target.open_deflate()?;
            connection.send(&Out::new(TEXT, deflated(b"{}")).reserved(bits))?;
            connection.fails_with(&[1002]).with_context(|| format!("bits {bits}"))?;
        }
        Ok(())
    }),
    Case::new("7692/7.1.1", "each message has a context of its own", |target| {
        // The second "Hello" of 7.2.3.2, which points into the first.
        let mut connection = target.open_deflate()?;
        for _ in 0..3 {
            let (message, reference) = connection.beat(b"once more");
            connection.send(&Out::new(TEXT, deflated(&message)).reserved(COMPRESSED))?;
            connection.answered(&reference)?;
        }
        connection.send(&Out::new(TEXT, [0xf2, 0x00, 0x11, 0x00, 0x00]).reserved(COMPRESSED))?;
        connection.fails_with(&[1002, 1007])
    }),
    Case::new("7692/7.2.1", "what the server compresses is what it was, for each of several messages", |target| {
        let mut connection = target.open_deflate()?;
        join_to_hear(&mut connection)?;
        for length in [0, 100, 1000, 70_000, 1_000_000] {
            let text = "Grüße ".repeat(length / 6);
            let payload = format!(r#"{{"type":"broadcast","event":"e","payload":{{"text":"{text}"}}}}"#);
            let push = format!(
                r#"{{"topic":"realtime:rfc","event":"broadcast","ref":"2","join_ref":"1","payload":{payload}}}"#
            );
            connection.send(&Out::new(TEXT, push))?;
            let frame = connection.next()?.context("the broadcast")?;
            let told = String::from_utf8(frame.payload).context("a text of the server is UTF-8")?;
            ensure!(told.contains(&format!(r#""{text}""#)), "{length} bytes: {told:.80}");
            ensure!(length < 1000 || frame.is_compressed, "{length} bytes that repeat themselves are not compressed");
        }
        connection.lives()
    }),
    Case::new("7692/7.2.2", "what is no DEFLATE data fails the connection", |target| {
        let whole = deflated(&[b'x'; 1000]);
        for broken in [
            &b""[..],
            // A reserved kind of block, a length that its complement denies, a text that was not compressed, half of one that was.
            b"\x06\x00",
            b"\x00\x05\x00\x05\x00Hello\x00",
            b"{\"topic\":",
            &whole[..whole.len() / 2],
        ] {
            let mut connection = target.open_deflate()?;
            connection.send(&Out::new(TEXT, broken).reserved(COMPRESSED))?;
            connection.fails_with(&[1002, 1007]).with_context(|| format!("{broken:x?}"))?;
        }
        Ok(())
    }),
    Case::new("7692/7.2.2", "what is inflated has to be UTF-8 in a text", |target| {
        let mut connection = target.open_deflate()?;
        let (message, _) = connection.beat(&[0xff; 300]);
        connection.send(&Out::new(TEXT, deflated(&message)).reserved(COMPRESSED))?;
        connection.fails_with(&[1007])
    }),
    Case::new("10.4", "a message is as large as what is inflated", |target| {
        let mut connection = target.open_deflate()?;
        let around = connection.beat(b"").0.len();
        let (message, reference) = connection.beat(&vec![b'x'; MAX - around]);
        connection.send(&Out::new(TEXT, deflated(&message)).reserved(COMPRESSED))?;
        connection.answered(&reference)?;
        for length in [MAX + 1, 20_000_000] {
            let mut connection = target.open_deflate()?;
            connection.send(&Out::new(TEXT, deflated(&vec![b'x'; length])).reserved(COMPRESSED))?;
            connection.fails_with(&[1009]).with_context(|| format!("{length} bytes"))?;
        }
        connection.lives()
    }),
];

type Encode = fn(&[u8]) -> Vec<u8>;

/// How a message may be written (7.2.1).
const ENCODINGS: [(&str, Encode); 5] = [
    ("compressed blocks", deflated),
    ("blocks without compression", stored),
    ("a last block", ended),
    ("last blocks, one after another", |message| {
        let (start, end) = message.split_at(message.len() / 2);
        [miniz_oxide::deflate::compress_to_vec(start, 6), ended(end)].concat()
    }),
    ("flushed in between", |message| {
        let (start, end) = message.split_at(message.len() / 2);
        [deflated(start), vec![0, 0, 0xff, 0xff], deflated(end)].concat()
    }),
];

/// As clients write it: flushed, and without the end of that.
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut compressor = CompressorOxide::new(create_comp_flags_from_zip_params(6, -15, 0));
    let mut out = Vec::new();
    compress_to_output(&mut compressor, message, TDEFLFlush::Sync, |part| {
        out.extend_from_slice(part);
        true
    });
    out.truncate(out.len().saturating_sub(4));
    out
}

fn stored(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in message.chunks(0xffff) {
        let length = u16::try_from(part.len()).unwrap_or_default();
        out.extend([&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), part].concat());
    }
    out.push(0);
    out
}

/// With a last block of its own, and the byte that has to follow it (7.2.3.4).
fn ended(message: &[u8]) -> Vec<u8> {
    [miniz_oxide::deflate::compress_to_vec(message, 6), vec![0]].concat()
}

/// What the server says to offers, and works on with.
fn answer(target: &Target, offers: &[&str]) -> Result<Option<String>> {
    let (answer, mut connection) = target.offer(offers)?;
    connection.lives()?;
    Ok(answer)
}

/// Whether an answer is one to the offer.
fn fits(offer: &str, answer: Option<&str>) -> Result<()> {
    let Some(answer) = answer else { return Ok(()) };
    let value = |text: &str, name: &str| {
        let parameter = text.split(';').map(str::trim).find_map(|part| part.strip_prefix(name))?;
        Some(parameter.trim_start_matches('=').trim_matches('"').to_owned())
    };
    ensure!(answer.split(';').next().map(str::trim) == Some("permessage-deflate"), "another extension");
    let mut names = BTreeSet::new();
    for parameter in answer.split(';').skip(1) {
        let name = parameter.split('=').next().unwrap_or_default().trim();
        ensure!(names.insert(name), "{name} comes twice");
        match name {
            "server_no_context_takeover" | "client_no_context_takeover" => ensure!(!parameter.contains('=')),
            "server_max_window_bits" | "client_max_window_bits" => {
                let bits: u8 = value(answer, name).context("a value")?.parse()?;
                let most = value(offer, name).filter(|most| !most.is_empty()).map_or(Ok(15), |most| most.parse())?;
                ensure!((8..=most).contains(&bits), "{name} is {bits}");
            }
            _ => bail!("{name} is unknown"),
        }
    }
    ensure!(!names.contains("client_max_window_bits") || offer.contains("client_max_window_bits"), "7.1.2.2");
    for name in ["server_no_context_takeover", "server_max_window_bits"] {
        ensure!(!offer.contains(name) || names.contains(name), "{name} is offered and not answered");
    }
    Ok(())
}
