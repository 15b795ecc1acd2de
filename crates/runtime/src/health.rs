//! Whether the process may take work (ready) and whether it is sane (live). Two questions that never share an answer.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::shutdown::Shutdown;

/// A runtime that ran no timer for so long is stuck: a blocked worker is noticed, a slow scrape or a busy machine is not.
const STALL_LIMIT: Duration = Duration::from_secs(30);

type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Named checks that each say why the process cannot take work, if so. Clones are the same list.
#[derive(Clone)]
pub struct Readiness {
    leaving: CancellationToken,
    checks: Arc<RwLock<Vec<(&'static str, Check)>>>,
}

impl Readiness {
    /// Not ready until the first check is added, nor once the process is leaving.
    #[must_use]
    pub fn new(shutdown: &Shutdown) -> Self {
        Self { leaving: shutdown.leaving(), checks: Arc::default() }
    }

    /// Adds a check: `None` is well, a text is the reason why not. It is called by each request and must not block.
    pub fn add(&self, name: &'static str, check: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.checks.write().unwrap_or_else(PoisonError::into_inner).push((name, Box::new(check)));
    }

    /// Why the process cannot take work; empty when it can.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        if self.leaving.is_cancelled() {
            return vec!["stopping".to_owned()];
        }
        let checks = self.checks.read().unwrap_or_else(PoisonError::into_inner);
        if checks.is_empty() {
            return vec!["starting".to_owned()];
        }
        checks.iter().filter_map(|(name, check)| check().map(|reason| format!("{name}: {reason}"))).collect()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("reasons", &self.reasons()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Pulse {
    started: Instant,
    last_millis: AtomicU64,
    watched: AtomicBool,
}

/// The pulse of the runtime that does the work, taken from outside of it. Never depends on Postgres or NATS.
#[derive(Clone, Debug)]
pub struct Liveness {
    pulse: Arc<Pulse>,
}

impl Liveness {
    /// Live, and not watched until the first beat.
    #[must_use]
    pub fn new() -> Self {
        let pulse = Pulse { started: clock::now(), last_millis: AtomicU64::new(0), watched: AtomicBool::new(false) };
        Self { pulse: Arc::new(pulse) }
    }

    /// Says that the runtime runs its timers.
    pub fn beat(&self) {
        self.pulse.last_millis.store(self.millis(clock::now()), Ordering::Relaxed);
        self.pulse.watched.store(true, Ordering::Relaxed);
    }

    /// No more beats are to be expected: the process stops, which has a deadline of its own.
    pub fn retire(&self) {
        self.pulse.watched.store(false, Ordering::Relaxed);
    }

    /// For how long there was no beat, when that is too long.
    #[must_use]
    pub fn stalled(&self, now: Instant) -> Option<Duration> {
        let silent_millis = self.millis(now).saturating_sub(self.pulse.last_millis.load(Ordering::Relaxed));
        let silent = Duration::from_millis(silent_millis);
        (self.pulse.watched.load(Ordering::Relaxed) && silent > STALL_LIMIT).then_some(silent)
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.pulse.started).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Liveness {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_what_no_check_denies() {
        let shutdown = Shutdown::default();
        let readiness = Readiness::new(&shutdown);
        assert_eq!(readiness.reasons(), ["starting"]);
        readiness.add("nats", || None);
        assert!(readiness.reasons().is_empty());
        readiness.add("postgres", || Some("connection refused".to_owned()));
        assert_eq!(readiness.reasons(), ["postgres: connection refused"]);
        shutdown.begin_leaving();
        assert_eq!(readiness.reasons(), ["stopping"]);
    }

    #[test]
    fn a_silent_runtime_is_not_live() {
        let liveness = Liveness::new();
        let later = clock::now() + 2 * STALL_LIMIT;
        assert_eq!(liveness.stalled(later), None);
        liveness.beat();
        assert_eq!(liveness.stalled(clock::now()), None);
        assert!(liveness.stalled(later).is_some_and(|silent| silent > STALL_LIMIT));
        liveness.retire();
        assert_eq!(liveness.stalled(later), None);
    }
}
