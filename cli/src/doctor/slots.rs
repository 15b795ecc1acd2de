//! Slots and WAL senders: whether there is room, and what our slots hold back. Pure.

use super::Wanted;
use super::check::{Check, bytes, literal};
use super::facts::{Server, Slot};

/// Finds what can be given up.
const UNUSED_SLOTS: &str = "SELECT slot_name, slot_type, database, wal_status FROM pg_replication_slots WHERE NOT active;  -- then, for one that nobody needs: SELECT pg_drop_replication_slot('…');";

/// A slot that nobody reads and that holds back more than this is told.
const IDLE_BYTES: u64 = 256 << 20;

/// What a bound on slots should leave beside the deliberate delay, for a peak of writes while nobody reads.
const HEADROOM: u64 = 2;

pub(super) fn judge(server: &Server, slots: &[Slot], wanted: &Wanted) -> Vec<Check> {
    let mut checks = vec![room_for_slots(server, slots), room_for_senders(server, slots), bound(server, wanted)];
    checks.extend(idle_timeout(server));
    checks.extend(slots.iter().map(slot));
    checks.extend(several(slots));
    checks
}

fn room_for_slots(server: &Server, slots: &[Slot]) -> Check {
    let Server { max_slots, used_slots, .. } = server;
    let message = format!("{used_slots} of {max_slots} in use");
    let has_own = slots.iter().any(|slot| !is_lost(slot));
    if used_slots < max_slots || has_own {
        return Check::ok("max_replication_slots", message);
    }
    Check::fail("max_replication_slots", format!("{message}: none is free for ours"))
        .mend(UNUSED_SLOTS)
        .mend(format!("or: ALTER SYSTEM SET max_replication_slots = {};  -- then restart Postgres", max_slots + 4))
}

fn room_for_senders(server: &Server, slots: &[Slot]) -> Check {
    let Server { max_senders, used_senders, .. } = server;
    let message = format!("{used_senders} of {max_senders} in use");
    if used_senders < max_senders || slots.iter().any(|slot| slot.is_active) {
        return Check::ok("max_wal_senders", message);
    }
    Check::fail("max_wal_senders", format!("{message}: none is free for ours"))
        .mend(format!("ALTER SYSTEM SET max_wal_senders = {};  -- then restart Postgres", max_senders + 4))
}

fn bound(server: &Server, wanted: &Wanted) -> Check {
    const NAME: &str = "max_slot_wal_keep_size";
    let least = wanted.confirm_lag_max_bytes.saturating_mul(HEADROOM);
    let set = |size: u64| format!("ALTER SYSTEM SET {NAME} = '{}MB'; SELECT pg_reload_conf();", size >> 20);
    match server.slot_keep_bytes {
        None => Check::warn(NAME, "not bounded: a slot that nobody reads holds back WAL until the disk is full")
            .mend(format!("{}  -- or as much as the disk can spare", set(least.saturating_mul(5)))),
        Some(size) if size < least => {
            let message = format!(
                "{}: little beside the {} that the slot may trail by; a peak of writes loses the slot, and every client reads anew",
                bytes(size),
                bytes(wanted.confirm_lag_max_bytes)
            );
            Check::warn(NAME, message).mend(set(least)).mend("or lower REACTOR_REPLICATION_CONFIRM_LAG_MAX_MB")
        }
        Some(size) => Check::ok(NAME, bytes(size)),
    }
}

fn idle_timeout(server: &Server) -> Option<Check> {
    let time = server.idle_slot_timeout.as_ref()?;
    let message = format!("{time}: a slot that is not read for that long is lost, and every client reads anew");
    Some(
        Check::warn("idle_replication_slot_timeout", message)
            .mend("ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();"),
    )
}

fn is_lost(slot: &Slot) -> bool {
    slot.invalidation.is_some() || slot.wal_status.as_deref() == Some("lost")
}

fn slot(slot: &Slot) -> Check {
    let held = bytes(slot.retained_bytes);
    let name = &slot.name;
    let drop = format!("SELECT pg_drop_replication_slot({});", literal(name));
    if is_lost(slot) {
        let why = slot.invalidation.as_deref().unwrap_or("max_slot_wal_keep_size was passed");
        let message = format!("{name} is lost ({why}): the next start makes a new one, and every client reads anew");
        return Check::warn("slot", message).mend(format!("start the replicator, or, if it is not needed: {drop}"));
    }
    let state = if slot.is_active { "active" } else { "not active" };
    let message = format!("{name}: {state}, holds back {held}");
    if slot.wal_status.as_deref() == Some("unreserved") {
        return Check::warn("slot", format!("{message}, and is about to be lost"))
            .mend("see that the replicator runs and keeps up, or raise max_slot_wal_keep_size");
    }
    if !slot.is_active && slot.retained_bytes > IDLE_BYTES {
        return Check::warn("slot", format!("{message} that nobody reads"))
            .mend(format!("start the replicator, or, if it is not needed: {drop}"));
    }
    Check::ok("slot", message)
}

fn several(slots: &[Slot]) -> Option<Check> {
    let good = slots.iter().filter(|slot| !is_lost(slot)).count();
    (good > 1).then(|| {
        let message =
            format!("{good} slots of this tenant: one is enough, and the others hold back WAL until the next start");
        Check::warn("slot", message).mend("restart the replicator, which keeps the furthest")
    })
}

#[cfg(test)]
mod tests {
    use reactor_replicator::SlotNames;

    use super::super::check::Status::{self, Fail, Ok, Warn};
    use super::*;

    fn server() -> Server {
        Server { max_slots: 10, used_slots: 1, max_senders: 10, slot_keep_bytes: Some(10 << 30), ..Server::default() }
    }

    fn ours() -> Slot {
        let name = "reactor_default_0000abcd".to_owned();
        Slot { name, is_active: true, wal_status: Some("reserved".into()), invalidation: None, retained_bytes: 5 << 20 }
    }

    #[track_caller]
    fn check(server: &Server, slots: &[Slot], expected: &[Status], part: &str) {
        let wanted = Wanted {
            publication: "p".into(),
            create_publication: false,
            slots: SlotNames::new("reactor", &"default".parse().expect("a tenant")),
            org_column: "org_id".into(),
            confirm_lag_max_bytes: 1 << 30,
            roles: Vec::new(),
        };
        let checks = judge(server, slots, &wanted);
        assert_eq!(checks.iter().map(|check| check.status).collect::<Vec<_>>(), expected, "{checks:?}");
        assert!(format!("{checks:?}").contains(part), "{checks:?} should say {part}");
    }

    #[test]
    fn room_is_judged() {
        check(&server(), &[], &[Ok, Ok, Ok], "1 of 10");
        let full = Server { used_slots: 10, used_senders: 10, ..server() };
        check(&full, &[], &[Fail, Fail, Ok], "max_replication_slots = 14");
        check(&full, &[ours()], &[Ok, Ok, Ok, Ok], "active, holds back 5 MiB");
        check(&Server { max_senders: 0, ..server() }, &[], &[Ok, Fail, Ok], "max_wal_senders = 4");
    }

    #[test]
    fn bounds_on_wal_are_judged() {
        check(&Server { slot_keep_bytes: None, ..server() }, &[], &[Ok, Ok, Warn], "'10240MB'");
        check(&Server { slot_keep_bytes: Some(1 << 30), ..server() }, &[], &[Ok, Ok, Warn], "'2048MB'");
        check(&Server { idle_slot_timeout: Some("1d".into()), ..server() }, &[], &[Ok, Ok, Ok, Warn], "1d");
    }

    #[test]
    fn slots_are_judged() {
        let lost = Slot { wal_status: Some("lost".into()), is_active: false, ..ours() };
        check(&server(), &[lost], &[Ok, Ok, Ok, Warn], "is lost");
        let idle = Slot { is_active: false, ..ours() };
        check(&server(), std::slice::from_ref(&idle), &[Ok, Ok, Ok, Ok], "not active");
        check(
            &server(),
            &[Slot { retained_bytes: 1 << 30, ..idle }],
            &[Ok, Ok, Ok, Warn],
            "pg_drop_replication_slot('reactor_default_0000abcd')",
        );
        check(
            &server(),
            &[Slot { wal_status: Some("unreserved".into()), ..ours() }],
            &[Ok, Ok, Ok, Warn],
            "about to be lost",
        );
        check(&server(), &[ours(), ours()], &[Ok, Ok, Ok, Ok, Ok, Warn], "2 slots");
    }
}
