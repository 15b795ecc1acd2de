//! Cases of RFC 7692, each named by its section, and round trips.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 5_000_000;

fn inflated(payload: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    inflate(BytesMut::from(payload), limit).map(Vec::from)
}

/// A whole DEFLATE stream, which ends with a last block of its own.
fn ended(payload: &[u8]) -> Vec<u8> {
    let mut stream = miniz_oxide::deflate::compress_to_vec(payload, 6);
    // 7.2.3.5: room for the block that the receiver puts behind it.
    stream.push(0);
    stream
}

#[test]
fn section_7_1_offers_and_their_answers() {
    let (plain, window, none) = (Some(ANSWER), Some(ANSWER_WITH_WINDOW), None);
    let cases: &[(&[&str], Option<&str>)] = &[
        (&["permessage-deflate"], plain),
        // Chrome, Firefox, ws.
        (&["permessage-deflate; client_max_window_bits"], plain),
        // Safari in its time; another extension.
        (&["x-webkit-deflate-frame, permessage-deflate"], plain),
        (&["x-webkit-deflate-frame"], none),
        (&["permessage-bzip2", "permessage-deflate"], plain),
        (&[" permessage-deflate ;client_no_context_takeover; server_no_context_takeover "], plain),
        (&["permessage-deflate; client_max_window_bits=10"], plain),
        (&["permessage-deflate; client_max_window_bits = \"10\""], plain),
        (&["permessage-deflate; server_max_window_bits=15"], window),
        (&["permessage-deflate; server_max_window_bits=\"15\"; client_max_window_bits"], window),
        // A window that the compressor cannot keep to.
        (&["permessage-deflate; server_max_window_bits=14"], none),
        (&["permessage-deflate; server_max_window_bits=8"], none),
        // 5.1: the next offer is the fall-back.
        (&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], plain),
        (&["permessage-deflate; unknown", "permessage-deflate; server_max_window_bits=15"], window),
        // Bad values.
        (&["permessage-deflate; server_max_window_bits"], none),
        (&["permessage-deflate; server_max_window_bits="], none),
        (&["permessage-deflate; server_max_window_bits=16"], none),
        (&["permessage-deflate; server_max_window_bits=+15"], none),
        (&["permessage-deflate; server_max_window_bits=015"], none),
        (&["permessage-deflate; client_max_window_bits=7"], none),
        (&["permessage-deflate; client_max_window_bits=08"], none),
        (&["permessage-deflate; client_max_window_bits=\"\""], none),
        (&["permessage-deflate; server_no_context_takeover=1"], none),
        (&["permessage-deflate; client_no_context_takeover=\"\""], none),
        // Unknown, double, none.
        (&["permessage-deflate; foo"], none),
        (&["permessage-deflate; foo=\"a, permessage-deflate\""], none),
        (&["permessage-deflate; foo=\"\\\", permessage-deflate\""], none),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits=10"], none),
        (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], none),
        (&["permessage-deflate;"], none),
        (&["Permessage-Deflate"], none),
        (&["permessage-deflate=1"], none),
        (&["", ",", ";", "\"", "=", "permessage-deflate \""], none),
        (&[", , permessage-deflate"], plain),
        (&[], none),
    ];
    for (offers, answer) in cases {
        assert_eq!(negotiate(offers.iter().copied()), *answer, "{offers:?}");
    }
}

#[test]
fn section_7_2_3_the_examples() {
    let cases: [&[u8]; 4] = [
        // 7.2.3.1: one block.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        // 7.2.3.3: no compression.
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        // 7.2.3.4: a last block.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        // 7.2.3.5: two blocks.
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ];
    for payload in cases {
        assert_eq!(inflated(payload, LIMIT), Ok(b"Hello".to_vec()), "{payload:x?}");
    }
    // 7.2.3.6: nothing.
    assert_eq!(inflated(&[0x00], LIMIT), Ok(Vec::new()));
    // 7.2.1: two last blocks.
    let twice = [miniz_oxide::deflate::compress_to_vec(b"Hel", 6), ended(b"lo")].concat();
    assert_eq!(inflated(&twice, LIMIT), Ok(b"Hello".to_vec()));
}

#[test]
fn section_7_2_2_what_is_no_deflate_data_is_refused() {
    let whole = ended(&[b'a'; 1000]);
    let cases: [&[u8]; 6] = [
        // Not even the header of a block.
        &[],
        // A reserved kind of block.
        &[0x06, 0x00],
        // A length that its complement denies.
        &[0x00, 0x05, 0x00, 0x05, 0x00, 0x48],
        // A distance before the beginning: the second message of 7.2.3.2.
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        // Cut off.
        &[0xf2, 0x48, 0xcd],
        &whole[..whole.len() / 2],
    ];
    for payload in cases {
        assert_eq!(inflated(payload, LIMIT), Err(InflateError::Broken), "{payload:x?}");
    }
}

#[test]
fn a_bomb_is_not_inflated_beyond_the_limit() {
    for (length, limit) in [(1000, 1000), (LIMIT, LIMIT), (0, 0), (1, 1)] {
        assert_eq!(inflated(&ended(&vec![7; length]), limit).map(|out| out.len()), Ok(length));
    }
    for (length, limit) in [(1001, 1000), (LIMIT + 1, LIMIT), (1, 0), (50_000_000, LIMIT)] {
        assert_eq!(inflated(&ended(&vec![7; length]), limit), Err(InflateError::TooLarge));
    }
}

#[test]
fn what_does_not_become_smaller_stays_as_it_is() {
    assert_eq!(deflate(b""), None);
    assert_eq!(deflate(&[b'a'; MIN_BYTES - 1]), None);
    assert!(deflate(&[b'a'; MIN_BYTES]).is_some_and(|deflated| deflated.len() < 20));
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    for length in [MIN_BYTES, 1000, 100_000] {
        let payload: Vec<u8> = std::iter::repeat_with(&mut noise).take(length).collect();
        assert_eq!(deflate(&payload), None, "{length}");
    }
}

/// Bytes with repetitions near and far, or without.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(prop::sample::select(vec!["id", "note", ",", "{", "\"", "ä", "0"]), 0..4000);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        words.prop_map(|words| words.concat().into_bytes()),
        (any::<u8>(), 0..200_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #[test]
    fn what_is_compressed_is_smaller_and_comes_back(payload in payloads()) {
        if let Some(deflated) = deflate(&payload) {
            prop_assert!(deflated.len() < payload.len());
            prop_assert_eq!(inflated(&deflated, payload.len()), Ok(payload.clone()));
            prop_assert_eq!(inflated(&deflated, payload.len() - 1), Err(InflateError::TooLarge));
        }
        prop_assert_eq!(inflated(&ended(&payload), LIMIT), Ok(payload));
    }

    #[test]
    fn whatever_comes_is_bounded(payload in prop::collection::vec(any::<u8>(), 0..300), limit in 0..500_usize) {
        if let Ok(out) = inflated(&payload, limit) {
            prop_assert!(out.len() <= limit);
        }
    }

    #[test]
    fn whatever_is_offered_is_answered_or_not(header in "[a-z_=;,\" \\\\0-9]{0,40}|permessage-deflate[a-z_=;,\" 0-9]{0,40}") {
        if let Some(answer) = negotiate([header.as_str()]) {
            prop_assert!(header.contains(NAME) && answer.starts_with(ANSWER));
        }
    }
}
