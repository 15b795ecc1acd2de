//! From messages of the stream to what they say, and back.
//!
//! Names are in the payload, because those in a subject may be hashes.

use std::sync::Arc;

use async_nats::Message;
use async_nats::header::{HeaderMap, NATS_MARKER_REASON};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use reactor_model::TenantId;

use super::super::subject::PRESENCE_PREFIX;
use crate::board::Value;
use crate::{BusError, Channel, EntryId, OwnerId, Scope};

/// Header and value of a key's deletion, as in any bucket.
pub(super) const OPERATION: &str = "KV-Operation";
pub(super) const DELETE: &str = "DEL";

/// Of the form of payloads.
const VERSION: u8 = 1;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// There is such an owner. Somebody has begun to sweep behind it when `claimed`.
    Owner { owner: OwnerId, claimed: bool },
    /// What the owner left is swept.
    OwnerGone(OwnerId),
    /// The owner lives. Those of its entries that were set before `since` are void.
    Lease { owner: OwnerId, since: u64 },
    /// The owner does not live: it has left, or its lease has lapsed.
    LeaseGone { owner: OwnerId, lapsed: bool },
    /// An entry is set.
    Put(EntryId, Value),
    /// An entry is removed.
    Removed(EntryId),
}

/// `None` for what says nothing, such as a deletion that is itself forgotten, or is not ours.
pub(super) fn change_of(message: &Message, seq: u64) -> Option<Change> {
    let (kind, rest) = message.subject.strip_prefix(PRESENCE_PREFIX)?.split_once('.')?;
    let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name));
    let lapsed = header(NATS_MARKER_REASON.as_ref()).is_some();
    let gone = lapsed || header(OPERATION).is_some();
    match kind {
        "owner" => {
            let owner = OwnerId::from_token(rest)?;
            let claimed = message.payload.as_ref() == CLAIMED;
            Some(if gone { Change::OwnerGone(owner) } else { Change::Owner { owner, claimed } })
        }
        "lease" => {
            let owner = OwnerId::from_token(rest)?;
            Some(match gone {
                true => Change::LeaseGone { owner, lapsed },
                false => Change::Lease { owner, since: since_of(&message.payload)? },
            })
        }
        "entry" => {
            let tenant = rest.split_once('.')?.0.parse().ok()?;
            let (id, bytes) = decode_entry(&tenant, message.payload.clone())?;
            Some(if gone { Change::Removed(id) } else { Change::Put(id, Value { bytes, revision: seq }) })
        }
        _ => None,
    }
}

/// Payload of an owner's key: as the owner writes it, and as who is about to sweep behind it does.
pub(super) const REGISTERED: &[u8] = b"registered";
pub(super) const CLAIMED: &[u8] = b"claimed";

/// Payload of a lease.
pub(super) fn lease_payload(since: u64) -> Bytes {
    since.to_string().into()
}

fn since_of(payload: &[u8]) -> Option<u64> {
    std::str::from_utf8(payload).ok()?.parse().ok()
}

/// Payload of an entry; of its removal, with an empty value. Refused when a name or the whole is too long.
pub(super) fn encode_entry(id: &EntryId, value: &[u8], max_bytes: usize) -> Result<Bytes, BusError> {
    let names: [&str; 3] = [&id.channel.topic, id.owner.as_str(), &id.key];
    let size = 2 + names.iter().map(|name| 2 + name.len()).sum::<usize>() + value.len();
    if size > max_bytes {
        return Err(BusError::TooLarge(size));
    }
    let mut payload = BytesMut::with_capacity(size);
    payload.put_u8(VERSION);
    payload.put_u8(match id.channel.scope {
        Scope::Public => 0,
        Scope::Private => 1,
    });
    for name in names {
        payload.put_u16(u16::try_from(name.len()).map_err(|_| BusError::TooLarge(name.len()))?);
        payload.put_slice(name.as_bytes());
    }
    payload.put_slice(value);
    Ok(payload.freeze())
}

fn decode_entry(tenant: &TenantId, mut payload: Bytes) -> Option<(EntryId, Bytes)> {
    if payload.try_get_u8().ok()? != VERSION {
        return None;
    }
    let scope = match payload.try_get_u8().ok()? {
        0 => Scope::Public,
        1 => Scope::Private,
        _ => return None,
    };
    let topic = decode_name(&mut payload)?;
    let owner = OwnerId::from_token(&decode_name(&mut payload)?)?;
    let key = decode_name(&mut payload)?;
    Some((EntryId { channel: Channel::new(tenant.clone(), scope, topic), owner, key }, payload))
}

fn decode_name(payload: &mut Bytes) -> Option<Arc<str>> {
    let length = usize::from(payload.try_get_u16().ok()?);
    if length > payload.len() {
        return None;
    }
    std::str::from_utf8(&payload.split_to(length)).ok().map(Arc::from)
}

/// Headers of a deletion, which is itself forgotten after `kept_secs`.
pub(super) fn deletion(kept_secs: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(OPERATION, DELETE);
    headers.insert(async_nats::header::NATS_MESSAGE_TTL, kept_secs.to_string());
    headers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::subject::{entry_key, lease_key, owner_key};
    use super::*;

    fn message(subject: String, headers: Option<HeaderMap>, payload: Bytes) -> Message {
        Message { subject: subject.into(), reply: None, payload, headers, status: None, description: None, length: 0 }
    }

    fn owner() -> OwnerId {
        OwnerId::from_token("gw-1").unwrap()
    }

    fn id(topic: &str, key: &str) -> EntryId {
        let channel = Channel::new("acme".parse().unwrap(), Scope::Private, topic);
        EntryId { channel, owner: owner(), key: key.into() }
    }

    fn lapse() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MARKER_REASON, "MaxAge");
        headers
    }

    #[test]
    fn owners_and_leases() {
        let said =
            |subject: String, headers, payload: &'static [u8]| change_of(&message(subject, headers, payload.into()), 7);
        let (key, lease) = (owner_key("gw-1"), lease_key("gw-1"));
        assert_eq!(said(key.clone(), None, REGISTERED), Some(Change::Owner { owner: owner(), claimed: false }));
        assert_eq!(said(key.clone(), None, CLAIMED), Some(Change::Owner { owner: owner(), claimed: true }));
        assert_eq!(said(key, Some(deletion(60)), b""), Some(Change::OwnerGone(owner())));
        assert_eq!(said(lease.clone(), None, b"12"), Some(Change::Lease { owner: owner(), since: 12 }));
        assert_eq!(said(lease.clone(), None, b"?"), None);
        assert_eq!(
            said(lease.clone(), Some(deletion(60)), b""),
            Some(Change::LeaseGone { owner: owner(), lapsed: false })
        );
        assert_eq!(said(lease, Some(lapse()), b""), Some(Change::LeaseGone { owner: owner(), lapsed: true }));
        assert_eq!(said("$KV.OTHER.lease.a".into(), None, b"1"), None);
    }

    #[test]
    fn entries_that_are_too_long_are_refused() {
        assert!(encode_entry(&id("room", "k"), b"value", 22).is_ok());
        assert!(matches!(encode_entry(&id("room", "k"), b"values", 22), Err(BusError::TooLarge(23))));
        assert!(matches!(encode_entry(&id(&"x".repeat(70_000), "k"), b"", 1 << 20), Err(BusError::TooLarge(70_000))));
    }

    #[test]
    fn a_deletion_that_is_forgotten_says_nothing() {
        assert_eq!(change_of(&message(entry_key(&id("room", "k")), Some(lapse()), Bytes::new()), 7), None);
    }

    proptest! {
        #[test]
        fn entries_come_back(topic in "\\PC*", key in "\\PC*", value: Vec<u8>) {
            let id = id(&topic, &key);
            let payload = encode_entry(&id, &value, 1 << 20).unwrap();
            let put = change_of(&message(entry_key(&id), None, payload.clone()), 7);
            prop_assert_eq!(put, Some(Change::Put(id.clone(), Value { bytes: value.into(), revision: 7 })));
            let removed = change_of(&message(entry_key(&id), Some(deletion(60)), payload), 8);
            prop_assert_eq!(removed, Some(Change::Removed(id)));
        }

        #[test]
        fn any_payload_is_survived(payload: Vec<u8>) {
            change_of(&message(entry_key(&id("room", "k")), None, payload.into()), 7);
        }
    }
}
