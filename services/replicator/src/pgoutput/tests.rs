//! Byte vectors of every message, each truncation of them, and random bytes.

use bytes::BufMut;
use proptest::prelude::*;
use reactor_model::{Lsn, ReplicaIdentity, Tuple, tuple::Datum};

use super::{DecodeError, Message, OldRow, RelationColumn, RelationMessage, decode};

/// 2000-01-01 in µs since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let datums: Vec<Datum<'_>> =
        values.iter().map(|value| value.map_or(Datum::Null, |text| Datum::Text(text.as_bytes()))).collect();
    Tuple::from_values(datums).as_bytes().to_vec()
}

fn bytes(kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![kind];
    fill(&mut bytes);
    bytes
}

fn relation_bytes() -> Vec<u8> {
    bytes(b'R', |out| {
        out.put_u32(42);
        out.put_slice(b"public\0todos\0d");
        out.put_u16(2);
        out.put_slice(b"\x01id\0");
        out.put_u32(20);
        out.put_i32(-1);
        out.put_slice(b"\x00title\0");
        out.put_u32(25);
        out.put_i32(-1);
    })
}

/// One of each, in bytes.
fn samples() -> Vec<Vec<u8>> {
    let key = row(&[Some("1"), None]);
    let full = row(&[Some("1"), Some("a")]);
    let changed = |kind, parts: &[(u8, &[u8])]| {
        bytes(kind, |out| {
            out.put_u32(42);
            for (tag, row) in parts {
                out.put_u8(*tag);
                out.put_slice(row);
            }
        })
    };
    vec![
        bytes(b'B', |out| {
            out.put_u64(0x10);
            out.put_i64(5);
            out.put_u32(7);
        }),
        bytes(b'C', |out| {
            out.put_u8(0);
            out.put_u64(0x10);
            out.put_u64(0x30);
            out.put_i64(5);
        }),
        bytes(b'O', |out| {
            out.put_u64(3);
            out.put_slice(b"elsewhere\0");
        }),
        relation_bytes(),
        bytes(b'Y', |out| {
            out.put_u32(900);
            out.put_slice(b"public\0mood\0");
        }),
        changed(b'I', &[(b'N', &full)]),
        changed(b'U', &[(b'N', &full)]),
        changed(b'U', &[(b'K', &key), (b'N', &full)]),
        changed(b'U', &[(b'O', &full), (b'N', &full)]),
        changed(b'D', &[(b'K', &key)]),
        changed(b'D', &[(b'O', &full)]),
        bytes(b'T', |out| {
            out.put_u32(2);
            out.put_u8(1);
            out.put_u32(42);
            out.put_u32(43);
        }),
        bytes(b'M', |out| {
            out.put_u8(1);
            out.put_u64(9);
            out.put_slice(b"topic\0");
            out.put_u32(2);
            out.put_slice(b"hi");
        }),
    ]
}

#[test]
fn each_message_decodes() {
    let samples = samples();
    let key = row(&[Some("1"), None]);
    let full = row(&[Some("1"), Some("a")]);
    let decoded: Vec<Message<'_>> = samples.iter().map(|sample| decode(sample).expect("a message")).collect();
    let column = |name: &str, identity_key, type_oid| RelationColumn {
        name: name.to_owned(),
        identity_key,
        type_oid,
        type_mod: -1,
    };
    assert_eq!(
        decoded[..11],
        [
            Message::Begin { commit_lsn: Lsn(0x10), commit_time_us: EPOCH_US + 5, xid: 7 },
            Message::Commit { commit_lsn: Lsn(0x10), end_lsn: Lsn(0x30), commit_time_us: EPOCH_US + 5 },
            Message::Origin { lsn: Lsn(3), name: "elsewhere" },
            Message::Relation(RelationMessage {
                oid: 42,
                schema: "public".to_owned(),
                table: "todos".to_owned(),
                identity: ReplicaIdentity::Default,
                columns: vec![column("id", true, 20), column("title", false, 25)],
            }),
            Message::Type { oid: 900, schema: "public", name: "mood" },
            Message::Insert { relation: 42, new: &full },
            Message::Update { relation: 42, old: OldRow::None, new: &full },
            Message::Update { relation: 42, old: OldRow::Key(&key), new: &full },
            Message::Update { relation: 42, old: OldRow::Full(&full), new: &full },
            Message::Delete { relation: 42, old: OldRow::Key(&key) },
            Message::Delete { relation: 42, old: OldRow::Full(&full) },
        ]
    );
    let Message::Truncate { relations } = decoded[11] else { panic!("not a truncate") };
    assert_eq!(relations.iter().collect::<Vec<_>>(), [42, 43]);
    assert_eq!(decoded[12], Message::Logical { transactional: true, lsn: Lsn(9), prefix: "topic", content: b"hi" });
}

#[test]
fn every_truncation_and_a_trailing_byte_is_refused() {
    for sample in samples() {
        for end in 0..sample.len() {
            assert!(decode(&sample[..end]).is_err(), "{:?} up to {end}", sample.first());
        }
        let mut longer = sample.clone();
        longer.push(0);
        assert!(decode(&longer).is_err(), "{:?} and one byte", sample.first());
    }
}

#[test]
fn what_was_not_asked_for_is_refused() {
    for kind in [b'S', b'E', b'c', b'A', b'b', b'P', b'K', b'r', b'p', 0, 255] {
        assert_eq!(decode(&[kind, 0, 0, 0, 1]), Err(DecodeError::Unknown(kind)));
    }
    let binary = bytes(b'I', |out| {
        out.put_u32(42);
        out.put_slice(b"N\x00\x01b\x00\x00\x00\x01x");
    });
    assert_eq!(decode(&binary), Err(DecodeError::Malformed("row")));
    let latin1 = bytes(b'Y', |out| {
        out.put_u32(1);
        out.put_slice(b"caf\xe9\0x\0");
    });
    assert_eq!(decode(&latin1), Err(DecodeError::Malformed("name")));
    assert_eq!(decode(&bytes(b'T', |out| out.put_slice(&[255; 9]))), Err(DecodeError::Truncated));
}

#[test]
fn the_system_schema_has_its_name() {
    let mut sample = bytes(b'R', |out| {
        out.put_u32(1);
        out.put_slice(b"\0t\0f");
        out.put_u16(0);
    });
    let Ok(Message::Relation(relation)) = decode(&sample) else { panic!("not a relation") };
    assert_eq!((relation.schema.as_str(), relation.identity), ("pg_catalog", ReplicaIdentity::Full));
    let identity = sample.len() - 3;
    sample[identity] = b'?';
    assert_eq!(decode(&sample), Err(DecodeError::Malformed("replica identity")));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(which in 0_usize..13, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut sample = samples().swap_remove(which);
        let at = at.index(sample.len());
        sample[at] = byte;
        let _ = decode(&sample);
    }
}
