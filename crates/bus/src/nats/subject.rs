//! Names of streams and subjects. Every name that is not ours is escaped, so that it stays one token.

use std::fmt::Write as _;

use reactor_model::TenantId;
use sha2::{Digest as _, Sha256};

use crate::{Channel, EntryId, OwnerId, Scope};

/// Escaped names that are longer are replaced by their hash: the server takes subjects of up to 4 KiB, and a long one
/// costs with every message.
const MAX_TOKEN_BYTES: usize = 240;

/// The stream that is a tenant's log. Tenant ids need no escaping: their characters are all allowed.
pub(super) fn stream_of(tenant: &TenantId) -> String {
    format!("RT_{tenant}")
}

/// Every subject of a tenant's log.
pub(super) fn subjects_of(tenant: &TenantId) -> String {
    format!("rt.{tenant}.cdc.>")
}

/// The subject of a batch of one table.
pub(super) fn subject_of(tenant: &TenantId, schema: &str, table: &str) -> String {
    let mut subject = format!("rt.{tenant}.cdc.");
    escape_into(&mut subject, schema, '%');
    subject.push('.');
    escape_into(&mut subject, table, '%');
    subject
}

/// The subject of a channel's messages. Not one that any stream keeps.
pub(super) fn messages_of(channel: &Channel) -> String {
    let mut subject = format!("rt.{}.messages.{}.", channel.tenant, scope_token(channel.scope));
    any_name_into(&mut subject, &channel.topic);
    subject
}

/// The stream of presences.
pub(super) const PRESENCE: &str = "KV_RT_PRESENCE";

/// Subjects of the stream of presences: three kinds of keys in one bucket.
pub(super) const PRESENCE_PREFIX: &str = "$KV.RT_PRESENCE.";

/// Says that there is or was such an owner, until what it left is swept. `*` for all.
pub(super) fn owner_key(owner: &str) -> String {
    format!("{PRESENCE_PREFIX}owner.{owner}")
}

/// Says that the owner lives. `*` for all.
pub(super) fn lease_key(owner: &str) -> String {
    format!("{PRESENCE_PREFIX}lease.{owner}")
}

/// An entry.
pub(super) fn entry_key(id: &EntryId) -> String {
    let EntryId { channel, owner, key } = id;
    let mut subject = format!("{PRESENCE_PREFIX}entry.{}.{}.", channel.tenant, scope_token(channel.scope));
    any_name_into(&mut subject, &channel.topic);
    // Writing to a String does not fail.
    let _ = write!(subject, ".{owner}.");
    any_name_into(&mut subject, key);
    subject
}

/// Every entry of a tenant.
pub(super) fn entries_of_tenant(tenant: &TenantId) -> String {
    format!("{PRESENCE_PREFIX}entry.{tenant}.>")
}

/// Every entry of an owner.
pub(super) fn entries_of_owner(owner: &OwnerId) -> String {
    format!("{PRESENCE_PREFIX}entry.*.*.*.{owner}.*")
}

fn scope_token(scope: Scope) -> &'static str {
    match scope {
        Scope::Public => "public",
        Scope::Private => "private",
    }
}

/// Writes a name that a client chose, of any length, as one token that a key of a bucket may have as well: escaped with
/// `=`, or `/` and the hash.
fn any_name_into(subject: &mut String, name: &str) {
    let start = subject.len();
    escape_into(subject, name, '=');
    if subject.len() - start > MAX_TOKEN_BYTES {
        subject.truncate(start);
        let _ = write!(subject, "/{:x}", Hex(&Sha256::digest(name)));
    }
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Writes a name as one token: the mark and `XX` for each byte outside `A-Z`, `a-z`, `0-9`, `_` and `-`; `_` for the
/// empty name, and so mark and `5F` for the name `_`.
fn escape_into(subject: &mut String, name: &str, mark: char) {
    match name {
        "" => subject.push('_'),
        "_" => {
            subject.push(mark);
            subject.push_str("5F");
        }
        _ => name.bytes().for_each(|byte| escape_byte(subject, byte, mark)),
    }
}

fn escape_byte(subject: &mut String, byte: u8, mark: char) {
    if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
        subject.push(char::from(byte));
    } else {
        // Writing to a String does not fail.
        let _ = write!(subject, "{mark}{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escape(name: &str) -> String {
        let mut token = String::new();
        escape_into(&mut token, name, '%');
        token
    }

    /// The way back, which nothing but this test needs: it shows that two names never share a token.
    fn unescape(token: &str) -> String {
        if token == "_" {
            return String::new();
        }
        let mut bytes = Vec::new();
        let mut rest = token.as_bytes();
        while let [first, tail @ ..] = rest {
            if *first == b'%' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
                rest = &tail[2..];
            } else {
                bytes.push(*first);
                rest = tail;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn names_become_tokens() {
        for (name, token) in [
            ("messages", "messages"),
            ("Order-Items_2", "Order-Items_2"),
            ("", "_"),
            ("_", "%5F"),
            ("_mark", "_mark"),
            ("a.b", "a%2Eb"),
            ("a b", "a%20b"),
            ("*", "%2A"),
            (">", "%3E"),
            ("50%", "50%25"),
            ("ä", "%C3%A4"),
        ] {
            assert_eq!(escape(name), token, "{name}");
        }
    }

    #[test]
    fn subjects_hold_tenant_schema_and_table() {
        let tenant: TenantId = "acme".parse().unwrap();
        assert_eq!(stream_of(&tenant), "RT_acme");
        assert_eq!(subjects_of(&tenant), "rt.acme.cdc.>");
        assert_eq!(subject_of(&tenant, "public", "order items"), "rt.acme.cdc.public.order%20items");
    }

    fn channel(topic: &str) -> Channel {
        Channel::new("acme".parse().unwrap(), Scope::Private, topic)
    }

    #[test]
    fn channels_have_short_subjects_of_their_own() {
        assert_eq!(messages_of(&channel("room:1.a")), "rt.acme.messages.private.room=3A1=2Ea");
        assert_eq!(messages_of(&channel("")), "rt.acme.messages.private._");
        let long = messages_of(&channel(&"x".repeat(241)));
        assert_eq!(long.len(), "rt.acme.messages.private./".len() + 64);
        assert_ne!(long, messages_of(&channel(&"x".repeat(242))));
        // What looks like a hash is not one.
        assert!(messages_of(&channel("/ab")).ends_with(".=2Fab"));
    }

    #[test]
    fn entries_have_six_tokens_behind_their_prefix() {
        let owner = OwnerId::from_token("gw-1").unwrap();
        let id = EntryId { channel: channel("a b"), owner: owner.clone(), key: "k.1".into() };
        assert_eq!(entry_key(&id), "$KV.RT_PRESENCE.entry.acme.private.a=20b.gw-1.k=2E1");
        let pattern = entries_of_owner(&owner);
        assert_eq!(pattern.split('.').count(), entry_key(&id).split('.').count());
    }

    proptest! {
        #[test]
        fn any_name_is_one_token(name in "\\PC{0,300}") {
            let mut token = String::new();
            any_name_into(&mut token, &name);
            prop_assert!(!token.is_empty() && token.len() <= MAX_TOKEN_BYTES);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=/".contains(&b)));
        }

        #[test]
        fn escaping_is_reversible_and_gives_one_token(name in "\\PC*|[._%*>A-F0-9 ]{0,8}") {
            let token = escape(&name);
            prop_assert!(!token.is_empty());
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-%".contains(&b)));
            prop_assert_eq!(unescape(&token), name);
        }
    }
}
