//! Appends of one writer as a chain, so that a late one is never taken in a place that it was not made for.
//!
//! The expected last sequence alone does not do that: a writer that was replaced may have several appends on the way.
//! The first is refused, but a later one fits again as soon as the new writer has stored as many. So each append also
//! names the id of the one before it, which the server compares too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use reactor_model::TenantId;

use crate::{BusError, lock};

/// The chains of this process, one for each tenant that it writes for.
#[derive(Debug)]
pub(super) struct Chains {
    /// What no other process's ids begin with.
    writer: u64,
    /// Counts ids. They are not made of sequences, since two attempts at one sequence must differ.
    next_id: AtomicU64,
    tenants: Mutex<HashMap<TenantId, Arc<Mutex<Chain>>>>,
}

#[derive(Debug)]
struct Chain {
    /// Sequence of the newest append, stored or on the way.
    last: u64,
    last_id: String,
    /// Sequence of the newest append that was acknowledged.
    acknowledged: u64,
    /// Of the connection that the appends went over.
    generation: u64,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug)]
enum Broken {
    Fenced,
    Lost,
}

impl Broken {
    fn error(self) -> BusError {
        match self {
            Self::Fenced => BusError::Fenced,
            Self::Lost => BusError::Unavailable("an append before this one failed", None),
        }
    }
}

/// An append's place in its chain.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: String,
    /// Id of the append before; `None` for the first of a chain.
    pub(super) previous: Option<String>,
    chain: Arc<Mutex<Chain>>,
}

impl Chains {
    pub(super) fn new() -> Self {
        Self { writer: rand::random(), next_id: AtomicU64::new(1), tenants: Mutex::default() }
    }

    /// Forgets the tenant's chain: the next append begins one.
    pub(super) fn reset(&self, tenant: &TenantId) {
        lock(&self.tenants).remove(tenant);
    }

    /// The place of an append that expects `expected_last`. Refused when an earlier one failed.
    pub(super) fn extend(&self, tenant: &TenantId, expected_last: u64, generation: u64) -> Result<Place, BusError> {
        let id = format!("{:016x}:{}", self.writer, self.next_id.fetch_add(1, Ordering::Relaxed));
        let mut tenants = lock(&self.tenants);
        if let Some(chain) = tenants.get(tenant).cloned() {
            let mut state = lock(&chain);
            if let Some(broken) = state.broken {
                return Err(broken.error());
            }
            if state.last == expected_last {
                let previous = state.continue_over(generation)?;
                state.last = expected_last + 1;
                state.last_id.clone_from(&id);
                drop(state);
                return Ok(Place { id, previous, chain });
            }
        }
        let chain = Arc::new(Mutex::new(Chain {
            last: expected_last + 1,
            last_id: id.clone(),
            acknowledged: expected_last,
            generation,
            broken: None,
        }));
        tenants.insert(tenant.clone(), Arc::clone(&chain));
        Ok(Place { id, previous: None, chain })
    }
}

impl Chain {
    /// Id to name as the one before. Over a new connection there is none, because a server that was restarted has
    /// forgotten it; then nothing may be on the way from before.
    fn continue_over(&mut self, generation: u64) -> Result<Option<String>, BusError> {
        if self.generation == generation {
            return Ok(Some(self.last_id.clone()));
        }
        if self.acknowledged != self.last {
            self.broken = Some(Broken::Lost);
            return Err(Broken::Lost.error());
        }
        self.generation = generation;
        Ok(None)
    }
}

impl Place {
    pub(super) fn acknowledge(&self, seq: u64) {
        let mut chain = lock(&self.chain);
        chain.acknowledged = chain.acknowledged.max(seq);
    }

    /// After this the chain takes no more.
    pub(super) fn fail(&self, error: &BusError) {
        let broken = if matches!(error, BusError::Fenced) { Broken::Fenced } else { Broken::Lost };
        lock(&self.chain).broken.get_or_insert(broken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        "t".parse().unwrap()
    }

    #[test]
    fn each_append_names_the_one_before() {
        let chains = Chains::new();
        let first = chains.extend(&tenant(), 4, 1).unwrap();
        let second = chains.extend(&tenant(), 5, 1).unwrap();
        assert_eq!(first.previous, None);
        assert_eq!(second.previous, Some(first.id));
    }

    #[test]
    fn after_a_failure_nothing_is_taken_until_reset() {
        let chains = Chains::new();
        let first = chains.extend(&tenant(), 0, 1).unwrap();
        first.fail(&BusError::Fenced);
        assert!(matches!(chains.extend(&tenant(), 1, 1), Err(BusError::Fenced)));
        assert!(matches!(chains.extend(&tenant(), 9, 1), Err(BusError::Fenced)));
        chains.reset(&tenant());
        assert!(chains.extend(&tenant(), 9, 1).is_ok());
    }

    #[test]
    fn a_new_connection_is_fine_only_with_nothing_on_the_way() {
        let chains = Chains::new();
        let first = chains.extend(&tenant(), 0, 1).unwrap();
        first.acknowledge(1);
        let second = chains.extend(&tenant(), 1, 2).unwrap();
        assert_eq!(second.previous, None);
        assert!(matches!(chains.extend(&tenant(), 2, 3), Err(BusError::Unavailable(..))));
        second.acknowledge(2);
        assert!(matches!(chains.extend(&tenant(), 2, 3), Err(BusError::Unavailable(..))));
    }
}
