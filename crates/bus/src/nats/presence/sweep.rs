//! Deleting what dead owners have left. Every owner looks; one of them does it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::pending;
use rand::Rng as _;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::super::subject::{entries_of_owner, lease_key, owner_key};
use super::feed::{Feed, Item};
use super::names::{CLAIMED, Change};
use super::store::{Options, Store, WriteError};
use crate::{BusError, OwnerId};

/// After an owner's lease is gone: longer than it needs to come back when the server was away.
const PATIENCE: Duration = Duration::from_secs(5);
/// Spread of the attempts, so that most see that another was first.
const SPREAD: Duration = Duration::from_secs(1);
/// After another has begun: longer than it needs.
const AGAIN_AFTER: Duration = Duration::from_secs(15);

/// An owner that was heard of.
#[derive(Default)]
struct Known {
    /// Revision of its key; `None` when that is not there.
    key: Option<u64>,
    leased: bool,
    /// When to sweep behind it, unless it comes back.
    due: Option<Instant>,
}

/// Sweeps behind others than `own`, without end.
pub(super) async fn sweep(own: OwnerId, store: Store) {
    let mut feed = Feed::new(store.clone(), vec![owner_key("*"), lease_key("*")]);
    let mut owners: HashMap<OwnerId, Known> = HashMap::new();
    loop {
        let due = owners.iter().filter_map(|(owner, known)| Some((known.due?, owner.clone(), known.key?))).min();
        let time = async {
            match &due {
                Some((at, ..)) => sleep_until(*at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            item = feed.next() => match item {
                Some(Item::Begin { .. }) => owners.clear(),
                Some(Item::Change(change, revision)) => note(&mut owners, &own, change, revision),
                Some(Item::Complete) => {}
                None => return,
            },
            () = time => {
                let Some((_, owner, key)) = due else { continue };
                if let Some(known) = owners.get_mut(&owner) {
                    known.due = Some(Instant::now() + AGAIN_AFTER);
                }
                match sweep_behind(&store, &owner, key).await {
                    Ok(Some(entries)) => info!(%owner, entries, "swept the presences of an owner that is gone"),
                    Ok(None) => {}
                    Err(error) => warn!(%owner, error = %error, "cannot sweep the presences of an owner that is gone"),
                }
            }
        }
    }
}

fn note(owners: &mut HashMap<OwnerId, Known>, own: &OwnerId, change: Change, revision: u64) {
    let mut wait = PATIENCE + SPREAD.mul_f64(rand::rng().random_range(0.0..1.0));
    let (owner, known) = match change {
        Change::Owner { owner, .. } | Change::Lease { owner, .. } if owner == *own => return,
        Change::Owner { owner, claimed } => {
            let known = owners.entry(owner.clone()).or_default();
            known.key = Some(revision);
            if claimed {
                wait = AGAIN_AFTER;
            }
            (owner, known)
        }
        Change::Lease { owner, .. } => {
            let known = owners.entry(owner.clone()).or_default();
            known.leased = true;
            (owner, known)
        }
        Change::LeaseGone { owner, .. } => {
            let Some(known) = owners.get_mut(&owner) else { return };
            known.leased = false;
            (owner, known)
        }
        Change::OwnerGone(owner) => {
            let Some(known) = owners.get_mut(&owner) else { return };
            known.key = None;
            (owner, known)
        }
        Change::Put(..) | Change::Removed(_) => return,
    };
    known.due = (!known.leased && known.key.is_some()).then(|| Instant::now() + wait);
    if !known.leased && known.key.is_none() {
        owners.remove(&owner);
    }
}

/// The number of entries that were deleted; `None` when another does it, or the owner lives after all.
async fn sweep_behind(store: &Store, owner: &OwnerId, key: u64) -> Result<Option<u64>, BusError> {
    let claim = Options { expected: Some(key), ..Options::default() };
    let claim = match store.store(owner_key(owner.as_str()), CLAIMED.into(), claim).await {
        Ok(revision) => revision,
        Err(WriteError::Changed) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // In this order: an owner that comes back after the look writes its lease, and then its entries, behind `last`.
    let last = store.last_sequence().await?;
    if store.read(&lease_key(owner.as_str())).await?.is_some() {
        return Ok(None);
    }
    let entries = store.purge(entries_of_owner(owner), last).await?;
    // An owner that came back has written its key again.
    let end = Options { delete: true, expected: Some(claim), ..Options::default() };
    match store.store(owner_key(owner.as_str()), Bytes::new(), end).await {
        Ok(_) | Err(WriteError::Changed) => Ok(Some(entries)),
        Err(error) => Err(error.into()),
    }
}
