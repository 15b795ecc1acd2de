//! The replication slot: its name, which one to use, and its end.
//!
//! The epoch is part of the slot's name: one unbroken history is the life of one slot. Whoever finds the slot finds the
//! epoch, and a slot that was dropped and made anew cannot be taken for the old one.

use reactor_model::envelope::BatchHead;
use reactor_model::{Epoch, Lsn, TenantId};
use reactor_pg::{Client, PgError};
use tokio_postgres::types::Type;

/// The longest name that Postgres keeps.
const MAX_NAME_BYTES: usize = 63;
/// `_` and eight hex digits.
const EPOCH_BYTES: usize = 9;

/// How the slots of one tenant are called: `<prefix>_<tenant>_<epoch>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotNames {
    stem: String,
}

impl SlotNames {
    /// The names for a tenant. Characters that slot names cannot have become `_`; a tenant too long for a name ends in a
    /// hash of the whole.
    #[must_use]
    pub fn new(prefix: &str, tenant: &TenantId) -> Self {
        let mut stem = format!("{prefix}_{}", tenant.as_str().to_ascii_lowercase().replace('-', "_"));
        let room = MAX_NAME_BYTES - EPOCH_BYTES;
        if stem.len() > room {
            let hash = format!("_{:08x}", fnv1a(tenant.as_str().as_bytes()));
            stem.truncate(room - hash.len());
            stem.push_str(&hash);
        }
        Self { stem }
    }

    /// The name of the slot of this epoch.
    #[must_use]
    pub fn name(&self, epoch: Epoch) -> String {
        format!("{}_{epoch}", self.stem)
    }

    /// The epoch of a slot of this tenant; `None` for any other slot.
    #[must_use]
    pub fn epoch(&self, slot: &str) -> Option<Epoch> {
        let digits = slot.strip_prefix(&self.stem)?.strip_prefix('_')?;
        let is_epoch = digits.len() == 8 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_epoch.then(|| u32::from_str_radix(digits, 16).ok().map(Epoch))?
    }
}

/// FNV-1a, 32 bits: stable for ever, which names must be.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What the server says about one slot of the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotState {
    /// Its name.
    pub(crate) name: String,
    /// The epoch in the name.
    pub(crate) epoch: Epoch,
    /// Process that uses it now.
    pub(crate) active_pid: Option<i32>,
    /// Why it cannot be used any more.
    pub(crate) invalid: Option<String>,
    /// From where it sends; `None` while it is being made.
    pub(crate) confirmed: Option<Lsn>,
    /// WAL that it holds back.
    pub(crate) retained_bytes: u64,
}

/// What to do with the slots that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The slot to go on with.
    pub(crate) keep: Option<SlotState>,
    /// Slots to drop, each with the reason.
    pub(crate) drop: Vec<(SlotState, String)>,
    /// Whether a slot that was in use is among those to drop.
    pub(crate) loses_history: bool,
}

/// What the choice among slots depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Circumstances<'a> {
    /// The newest batch in the log.
    pub(crate) newest: Option<BatchHead>,
    /// End of the server's log.
    pub(crate) wal_end: Lsn,
    /// A slot that cannot decode its next change.
    pub(crate) doomed: Option<&'a str>,
}

/// Chooses among the tenant's slots: of those that can be used the one that the log follows, else the furthest.
#[must_use]
pub(crate) fn choose(slots: Vec<SlotState>, circumstances: Circumstances<'_>) -> Choice {
    let newest_epoch = circumstances.newest.map(|head| head.epoch);
    let mut choice = Choice::default();
    for slot in slots {
        if let Some(why) = why_lost(&slot, circumstances) {
            choice.loses_history = true;
            choice.drop.push((slot, why));
        } else if slot.confirmed.is_none() {
            choice.drop.push((slot, "its creation was broken off".to_owned()));
        } else {
            choice.offer(slot, newest_epoch);
        }
    }
    choice
}

fn why_lost(slot: &SlotState, circumstances: Circumstances<'_>) -> Option<String> {
    if let Some(why) = &slot.invalid {
        return Some(format!("it was invalidated ({why})"));
    }
    if circumstances.doomed == Some(slot.name.as_str()) {
        return Some("the publication did not exist at the place that it has to decode next".to_owned());
    }
    let published = circumstances.newest.filter(|head| head.epoch == slot.epoch).map(|head| head.last.lsn);
    if published.is_some_and(|published| published > circumstances.wal_end) {
        return Some("the server has lost changes that were published, as after a failover".to_owned());
    }
    None
}

impl Choice {
    fn offer(&mut self, slot: SlotState, newest_epoch: Option<Epoch>) {
        let rank = |slot: &SlotState| (Some(slot.epoch) == newest_epoch, slot.confirmed);
        let (better, worse) = match self.keep.take() {
            None => (slot, None),
            Some(kept) if rank(&kept) >= rank(&slot) => (kept, Some(slot)),
            Some(kept) => (slot, Some(kept)),
        };
        self.keep = Some(better);
        self.drop.extend(worse.map(|slot| (slot, "another slot of this tenant goes further".to_owned())));
    }
}

/// Reads the tenant's slots in this database.
///
/// # Errors
/// [`PgError`] when the catalog cannot be read.
pub(crate) async fn list(client: &Client, names: &SlotNames) -> Result<Vec<SlotState>, PgError> {
    let rows = client.query_typed(SLOTS, &[]).await?;
    let mut slots = Vec::new();
    for row in rows {
        let name: String = row.try_get(0)?;
        let Some(epoch) = names.epoch(&name) else { continue };
        let confirmed: Option<String> = row.try_get(3)?;
        slots.push(SlotState {
            name,
            epoch,
            active_pid: row.try_get(1)?,
            invalid: row.try_get(2)?,
            confirmed: confirmed.and_then(|text| text.parse().ok()),
            retained_bytes: row.try_get::<_, Option<i64>>(4)?.and_then(|bytes| bytes.try_into().ok()).unwrap_or(0),
        });
    }
    Ok(slots)
}

/// Columns that only newer versions have are read through `to_jsonb`.
const SLOTS: &str = "
select s.slot_name::text, s.active_pid,
       case when s.wal_status = 'lost' then coalesce(to_jsonb(s)->>'invalidation_reason', 'wal_removed')
            when to_jsonb(s)->>'conflicting' = 'true' then coalesce(to_jsonb(s)->>'invalidation_reason', 'conflict')
            when s.plugin <> 'pgoutput' then 'its plugin is ' || s.plugin
            else to_jsonb(s)->>'invalidation_reason' end,
       s.confirmed_flush_lsn::text,
       pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
                       s.restart_lsn)::bigint
  from pg_replication_slots s
 where s.slot_type = 'logical' and s.database = current_database()";

/// WAL that the slot holds back; `None` when it is not there.
///
/// # Errors
/// [`PgError`] when the catalog cannot be read.
pub(crate) async fn retained_bytes(client: &Client, names: &SlotNames, slot: &str) -> Result<Option<u64>, PgError> {
    Ok(list(client, names).await?.into_iter().find(|state| state.name == slot).map(|state| state.retained_bytes))
}

/// Drops a slot.
///
/// # Errors
/// [`PgError`], also when it is in use.
pub(crate) async fn drop_slot(client: &Client, slot: &str) -> Result<(), PgError> {
    client.query_typed("select pg_drop_replication_slot($1)", &[(&slot, Type::NAME)]).await?;
    Ok(())
}

/// Ends the session of the process that uses a slot.
///
/// # Errors
/// [`PgError`], also without the right to.
pub(crate) async fn terminate(client: &Client, pid: i32) -> Result<(), PgError> {
    client.query_typed("select pg_terminate_backend($1)", &[(&pid, Type::INT4)]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use reactor_model::Position;

    use super::*;

    fn names(tenant: &str) -> SlotNames {
        SlotNames::new("reactor", &tenant.parse().expect("a tenant id"))
    }

    fn slot(epoch: u32, confirmed: u64) -> SlotState {
        SlotState {
            name: names("t").name(Epoch(epoch)),
            epoch: Epoch(epoch),
            active_pid: None,
            invalid: None,
            confirmed: Some(Lsn(confirmed)),
            retained_bytes: 10,
        }
    }

    #[test]
    fn names_hold_tenant_and_epoch() {
        for (tenant, expected) in [("default", "reactor_default_000000ab"), ("Acme-1", "reactor_acme_1_000000ab")] {
            let name = names(tenant).name(Epoch(0xab));
            assert_eq!(name, expected);
            assert_eq!(names(tenant).epoch(&name), Some(Epoch(0xab)));
        }
        let (long, longer) = ("x".repeat(63), format!("{}y", "x".repeat(62)));
        assert_eq!(names(&long).name(Epoch(1)).len(), 63);
        assert_ne!(names(&long), names(&longer));
    }

    #[test]
    fn slots_of_others_are_not_ours() {
        for other in [
            "reactor_a_deadbeef_000000ab",
            "reactor_a",
            "reactor_a_000000AB",
            "reactor_a_00000ab",
            "reactor_a_0000000ab",
            "reactor_ab_000000ab",
            "reactor_a_+00000ab",
            "mine",
        ] {
            assert_eq!(names("a").epoch(other), None, "{other}");
        }
    }

    fn newest(epoch: u32, lsn: u64) -> Option<BatchHead> {
        let last = Position::before(Lsn(lsn));
        Some(BatchHead { epoch: Epoch(epoch), previous: last, last, ends_transaction: true })
    }

    fn circumstances(newest: Option<BatchHead>) -> Circumstances<'static> {
        Circumstances { newest, wal_end: Lsn(1000), ..Circumstances::default() }
    }

    #[test]
    fn the_slot_that_the_log_follows_is_kept_and_strays_are_dropped() {
        let choice = choose(vec![slot(1, 50), slot(2, 90)], circumstances(newest(1, 60)));
        assert_eq!((choice.keep, choice.drop.len(), choice.loses_history), (Some(slot(1, 50)), 1, false));
        let choice = choose(vec![slot(1, 50), slot(2, 90)], circumstances(None));
        assert_eq!(choice.keep, Some(slot(2, 90)));
        let unfinished = SlotState { confirmed: None, ..slot(3, 0) };
        let choice = choose(vec![unfinished], circumstances(None));
        assert_eq!((choice.keep, choice.drop.len(), choice.loses_history), (None, 1, false));
        assert_eq!(choose(Vec::new(), circumstances(newest(1, 60))), Choice::default());
    }

    #[test]
    fn a_slot_that_cannot_go_on_is_dropped_and_its_history_lost() {
        let invalid = SlotState { invalid: Some("wal_removed".to_owned()), ..slot(1, 5) };
        let plain = circumstances(newest(1, 60));
        for choice in [
            choose(vec![invalid], plain),
            choose(vec![slot(1, 5)], Circumstances { doomed: Some("reactor_t_00000001"), ..plain }),
            choose(vec![slot(1, 5)], circumstances(newest(1, 1001))),
        ] {
            assert_eq!((choice.keep, choice.drop.len(), choice.loses_history), (None, 1, true));
        }
        let fine = choose(vec![slot(1, 5)], circumstances(newest(2, 1001)));
        assert!(fine.keep.is_some(), "positions of another epoch say nothing");
    }
}
