//! Cases of RFC 6455, each named by its section.

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut server = BytesMut::new();
    write_frame(&mut server, first & 0x0f, payload);
    let length_bytes = server.len() - payload.len();
    let mut out = server[..length_bytes].to_vec();
    out[0] = first;
    out[1] |= MASKED;
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn decode(bytes: &[u8]) -> Result<Vec<Inbound>, Broken> {
    decode_with(Compression::None, bytes)
}

fn decode_with(compression: Compression, bytes: &[u8]) -> Result<Vec<Inbound>, Broken> {
    let mut decoder = Decoder::new(compression);
    decoder.feed(bytes);
    let mut all = Vec::new();
    while let Some(message) = decoder.read()? {
        all.push(message);
    }
    Ok(all)
}

fn text(text: &'static str) -> Inbound {
    Inbound::Text(Bytes::from_static(text.as_bytes()))
}

#[test]
fn section_5_7_a_masked_text() {
    let bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode(&bytes), Ok(vec![text("Hello")]));
    // Byte by byte it is the same.
    let mut decoder = Decoder::default();
    for byte in &bytes[..10] {
        decoder.feed(std::slice::from_ref(byte));
        assert_eq!(decoder.read(), Ok(None));
    }
    decoder.feed(&bytes[10..]);
    assert_eq!(decoder.read(), Ok(Some(text("Hello"))));
}

#[test]
fn section_5_1_unmasked_frames_are_refused() {
    assert!(matches!(decode(&[0x81, 0x01, b'a']), Err(Broken::Protocol(_))));
}

#[test]
fn section_5_2_reserved_bits_opcodes_and_lengths() {
    for first in [0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f] {
        assert!(matches!(decode(&client_frame(first, b"a")), Err(Broken::Protocol(_))), "{first:#x}");
    }
    let long = [0x82, 0xfe, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5];
    assert!(matches!(decode(&long), Err(Broken::Protocol(_))));
    let longer = [0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    assert!(matches!(decode(&longer), Err(Broken::Protocol(_))));
    let top_bit = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1];
    assert!(matches!(decode(&top_bit), Err(Broken::Protocol(_))));
    for length in [0, 125, 126, 65_535, 65_536, 70_000] {
        let payload = vec![7; length];
        let expected = Ok(vec![Inbound::Binary(payload.clone().into())]);
        assert_eq!(decode(&client_frame(0x82, &payload)), expected, "{length}");
    }
}

#[test]
fn section_5_4_fragments_are_joined_and_controls_may_come_between() {
    let bytes = [client_frame(0x01, b"Hel"), client_frame(0x89, b"x"), client_frame(0x80, b"lo")].concat();
    assert_eq!(decode(&bytes), Ok(vec![Inbound::Ping(Bytes::from_static(b"x")), text("Hello")]));
    assert!(matches!(decode(&client_frame(0x80, b"a")), Err(Broken::Protocol(_))));
    let nested = [client_frame(0x01, b"a"), client_frame(0x81, b"b")].concat();
    assert!(matches!(decode(&nested), Err(Broken::Protocol(_))));
}

#[test]
fn section_5_5_controls_are_whole_and_short() {
    assert!(matches!(decode(&client_frame(0x09, b"")), Err(Broken::Protocol(_))));
    assert!(matches!(decode(&client_frame(0x89, &[0; 126])), Err(Broken::Protocol(_))));
    assert_eq!(decode(&client_frame(0x8a, b"late")), Ok(vec![Inbound::Pong]));
}

#[test]
fn section_5_5_1_and_7_4_close_codes() {
    let closes = |payload: &[u8]| decode(&client_frame(0x88, payload));
    assert_eq!(closes(b""), Ok(vec![Inbound::Close(None)]));
    for code in [1000_u16, 1001, 1003, 1007, 1011, 3000, 4999] {
        assert_eq!(closes(&code.to_be_bytes()), Ok(vec![Inbound::Close(Some(code))]));
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        assert!(matches!(closes(&code.to_be_bytes()), Err(Broken::Protocol(_))), "{code}");
    }
    assert!(matches!(closes(b"\x03"), Err(Broken::Protocol(_))));
    assert_eq!(closes(b"\x03\xe8\xff"), Err(Broken::NotUtf8));
}

#[test]
fn section_8_1_texts_are_utf8() {
    assert_eq!(decode(&client_frame(0x81, b"\xff")), Err(Broken::NotUtf8));
    // A character may be cut by fragments.
    let cut = [client_frame(0x01, b"\xc3"), client_frame(0x80, b"\xa4")].concat();
    assert_eq!(decode(&cut), Ok(vec![text("ä")]));
}

#[test]
fn section_10_4_what_is_too_large_is_refused_before_it_is_read() {
    let mut bytes = vec![0x82, 0xff];
    bytes.extend_from_slice(&(MAX_FRAME_BYTES as u64 + 1).to_be_bytes());
    assert_eq!(decode(&bytes), Err(Broken::TooLarge));
    let part = vec![0; MAX_FRAME_BYTES];
    assert_eq!(decode(&[client_frame(0x02, &part), client_frame(0x80, b"x")].concat()), Err(Broken::TooLarge));
}

/// The text of RFC 7692, 7.2.3.1.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[test]
fn rfc_7692_section_6_the_first_frame_says_that_a_message_is_compressed() {
    let decode = |frames: &[Vec<u8>]| decode_with(Compression::Deflate, &frames.concat());
    assert_eq!(decode(&[client_frame(0xc1, &HELLO), client_frame(0xc1, &HELLO)]), Ok(vec![text("Hello"); 2]));
    assert_eq!(decode(&[client_frame(0xc2, &HELLO)]), Ok(vec![Inbound::Binary(Bytes::from_static(b"Hello"))]));
    assert_eq!(decode(&[client_frame(0x81, b"Hello")]), Ok(vec![text("Hello")]));
    let (start, end) = HELLO.split_at(3);
    let parts = [client_frame(0x41, start), client_frame(0x89, b"x"), client_frame(0x00, b""), client_frame(0x80, end)];
    assert_eq!(decode(&parts), Ok(vec![Inbound::Ping(Bytes::from_static(b"x")), text("Hello")]));
    // The bit does not outlast its message.
    assert_eq!(decode(&[client_frame(0xc1, &HELLO), client_frame(0x81, b"a")]), Ok(vec![text("Hello"), text("a")]));
}

#[test]
fn rfc_7692_section_6_1_the_bit_is_on_no_other_frame() {
    let decode = |frames: &[Vec<u8>]| decode_with(Compression::Deflate, &frames.concat());
    for first in [0xc8, 0xc9, 0xca, 0xa1, 0x91, 0xe1, 0xd1] {
        assert!(matches!(decode(&[client_frame(first, &HELLO)]), Err(Broken::Protocol(_))), "{first:#x}");
    }
    let (start, end) = HELLO.split_at(3);
    for first in [0x41, 0x01] {
        let parts = [client_frame(first, start), client_frame(0xc0, end)];
        assert!(matches!(decode(&parts), Err(Broken::Protocol(_))), "{first:#x}");
    }
}

#[test]
fn what_is_inflated_is_judged_as_what_comes_plain() {
    let decode = |first, payload: &[u8]| {
        let deflated = deflate::deflate(payload).expect("it becomes smaller");
        decode_with(Compression::Deflate, &client_frame(first, &deflated))
    };
    let large = vec![b'x'; MAX_FRAME_BYTES];
    assert_eq!(decode(0xc1, &large), Ok(vec![Inbound::Text(large.clone().into())]));
    assert_eq!(decode(0xc1, &[&large[..], b"x"].concat()), Err(Broken::TooLarge));
    assert_eq!(decode(0xc1, &[0xff; 300]), Err(Broken::NotUtf8));
    assert_eq!(decode(0xc2, &[0xff; 300]), Ok(vec![Inbound::Binary(vec![0xff; 300].into())]));
    let broken = decode_with(Compression::Deflate, &client_frame(0xc2, &[0x06]));
    assert_eq!((&broken, broken.as_ref().map_err(|error| error.code())), (&Err(Broken::NotDeflate), Err(1007)));
}

#[test]
fn a_shared_message_is_written_once_in_each_form() {
    let payload = Bytes::from(vec![b'x'; 1000]);
    let shared = Shared::new(Encoded::Text(payload.clone()));
    for (compression, first) in [(Compression::None, 0x81), (Compression::Deflate, 0xc1)] {
        let frame = shared.frame(compression);
        assert_eq!((frame[0], frame.as_ptr()), (first, shared.frame(compression).as_ptr()), "{compression:?}");
    }
    let deflated = BytesMut::from(&shared.frame(Compression::Deflate)[2..]);
    assert_eq!(deflate::inflate(deflated, MAX_FRAME_BYTES), Ok(payload));
    // A short one is the same in both.
    let shared = Shared::new(Encoded::Text(Bytes::from_static(b"Hello")));
    assert_eq!(shared.frame(Compression::Deflate), shared.frame(Compression::None));
}

#[test]
fn frames_are_written_unmasked_and_whole() {
    let encode = |message| encode(&message, Compression::None);
    assert_eq!(&encode(Encoded::Text(Bytes::from_static(b"Hello")))[..], b"\x81\x05Hello");
    assert_eq!(&encode(Encoded::Binary(vec![1; 200].into()))[..4], [0x82, 126, 0, 200]);
    assert_eq!(&encode(Encoded::Binary(vec![1; 70_000].into()))[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    assert_eq!(&close_frame(Some(1012), "service restart")[..4], [0x88, 17, 3, 0xf4]);
    assert_eq!(&close_frame(None, "")[..], [0x88, 0]);
    assert_eq!(&pong(b"x")[..], b"\x8a\x01x");
}
