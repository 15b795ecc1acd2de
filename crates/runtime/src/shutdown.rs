//! How a process stops: who is told, what is waited for, and which way it ended.
//!
//! Two moments are kept apart. *Leaving*: the process reports that it is not ready, so that load balancers take it
//! out, but works on. *Draining*: it refuses new work and finishes what it has. Tasks are started through
//! [`Shutdown::spawn`], so that the end can wait for them by name and none is lost silently.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::metrics::{IntCounter, Registry};

/// How waiting for the tasks ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every task finished.
    Drained,
    /// The deadline came first; these tasks were still running.
    Cut(Vec<&'static str>),
}

struct Inner {
    leaving: CancellationToken,
    draining: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<BTreeMap<&'static str, usize>>,
    failure: Mutex<Option<String>>,
    panics: IntCounter,
}

/// Handle to the stop of the process; clones are the same.
#[derive(Clone)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new(&Registry::new())
    }
}

impl Shutdown {
    /// Nothing is stopping yet. Panics of tasks are counted in `metrics`.
    #[must_use]
    pub fn new(metrics: &Registry) -> Self {
        Self {
            inner: Arc::new(Inner {
                leaving: CancellationToken::new(),
                draining: CancellationToken::new(),
                tracker: TaskTracker::new(),
                running: Mutex::default(),
                failure: Mutex::default(),
                panics: metrics.counter("reactor_task_panics_total", "tasks that ended with a panic"),
            }),
        }
    }

    /// Cancelled when the process is no longer ready but still takes work.
    #[must_use]
    pub fn leaving(&self) -> CancellationToken {
        self.inner.leaving.clone()
    }

    /// Cancelled when new work must be refused and running work be finished.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.inner.draining.clone()
    }

    /// Whether new work is refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.is_cancelled()
    }

    /// First step of a stop: not ready, but working.
    pub fn begin_leaving(&self) {
        self.inner.leaving.cancel();
    }

    /// Second step of a stop; implies the first.
    pub fn begin_drain(&self) {
        self.inner.leaving.cancel();
        self.inner.draining.cancel();
    }

    /// Stops the process because it cannot go on. The first reason is kept and becomes the exit's.
    pub fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(reason = %reason, "stopping after a failure");
        lock(&self.inner.failure).get_or_insert(reason);
        self.begin_drain();
    }

    /// Why the process could not go on, if so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.inner.failure).clone()
    }

    /// Starts a task that the stop waits for. A panic in it is logged and counted, and ends only this task.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = self.clone();
        self.spawn_tracked(name, async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                shutdown.note_panic(name);
            }
        })
    }

    /// Starts a task without which the process cannot go on: its error or its panic stops the process.
    pub fn spawn_critical<F, E>(&self, name: &'static str, task: F) -> AbortHandle
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let shutdown = self.clone();
        self.spawn_tracked(name, async move {
            match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => shutdown.fail(format!("{name}: {}", error_chain(error.into().as_ref()))),
                Err(_) => {
                    shutdown.note_panic(name);
                    shutdown.fail(format!("{name}: panicked"));
                }
            }
        })
    }

    /// Waits until every task has finished, but not longer than `deadline`, and logs which way it ended.
    pub async fn wait(&self, deadline: Duration) -> Outcome {
        self.inner.tracker.close();
        if tokio::time::timeout(deadline, self.inner.tracker.wait()).await.is_ok() {
            tracing::info!("every task finished");
            return Outcome::Drained;
        }
        let left: Vec<&'static str> = lock(&self.inner.running).keys().copied().collect();
        tracing::warn!(tasks = ?left, deadline_secs = deadline.as_secs_f64(), "cut: tasks were still running at the deadline");
        Outcome::Cut(left)
    }

    fn spawn_tracked<F>(&self, name: &'static str, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let running = Running::enter(self.clone(), name);
        let named = async move {
            let _running = running;
            task.await;
        };
        let handle = self.inner.tracker.spawn(named.instrument(tracing::info_span!("task", task = name)));
        handle.abort_handle()
    }

    fn note_panic(&self, task: &'static str) {
        self.inner.panics.inc();
        tracing::error!(task, "task panicked");
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("leaving", &self.inner.leaving.is_cancelled())
            .field("draining", &self.is_draining())
            .field("running", &*lock(&self.inner.running))
            .finish_non_exhaustive()
    }
}

/// Counts a task as running until it is dropped, which an abort does too.
struct Running {
    shutdown: Shutdown,
    name: &'static str,
}

impl Running {
    fn enter(shutdown: Shutdown, name: &'static str) -> Self {
        *lock(&shutdown.inner.running).entry(name).or_insert(0) += 1;
        Self { shutdown, name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = lock(&self.shutdown.inner.running);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

/// An error with all its sources in one line, without repeating a source that the error above quotes already.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

/// The map and the reason are whole after every statement, so a poisoned lock is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_tasks_that_finish() {
        let shutdown = Shutdown::default();
        let draining = shutdown.draining();
        shutdown.spawn("worker", async move { draining.cancelled().await });
        shutdown.begin_drain();
        assert_eq!(shutdown.wait(Duration::from_secs(5)).await, Outcome::Drained);
        assert_eq!(shutdown.failure(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_is_cut_and_named() {
        let shutdown = Shutdown::default();
        shutdown.spawn("stuck", std::future::pending());
        shutdown.spawn("quick", async {});
        shutdown.begin_drain();
        assert_eq!(shutdown.wait(Duration::from_secs(5)).await, Outcome::Cut(vec!["stuck"]));
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_only() {
        let metrics = Registry::new();
        let shutdown = Shutdown::new(&metrics);
        shutdown.spawn("fragile", async { panic!("on purpose") });
        assert_eq!(shutdown.wait(Duration::from_secs(5)).await, Outcome::Drained);
        assert!(!shutdown.is_draining());
        assert!(metrics.render().contains("reactor_task_panics_total 1"));
    }

    #[tokio::test]
    async fn a_critical_task_that_panics_stops_the_process() {
        let shutdown = Shutdown::default();
        shutdown.spawn_critical("heart", async {
            if true {
                panic!("on purpose");
            }
            Ok::<(), std::io::Error>(())
        });
        shutdown.draining().cancelled().await;
        assert_eq!(shutdown.failure().as_deref(), Some("heart: panicked"));
    }

    #[tokio::test]
    async fn the_first_failure_is_the_reason() {
        let shutdown = Shutdown::default();
        shutdown.spawn_critical("heart", async { Err(std::io::Error::other("no pulse")) });
        shutdown.draining().cancelled().await;
        shutdown.fail("later");
        assert_eq!(shutdown.failure().as_deref(), Some("heart: no pulse"));
        assert!(shutdown.leaving().is_cancelled());
    }

    #[tokio::test]
    async fn an_aborted_task_is_no_longer_waited_for() {
        let shutdown = Shutdown::default();
        shutdown.spawn("stuck", std::future::pending()).abort();
        assert_eq!(shutdown.wait(Duration::from_secs(5)).await, Outcome::Drained);
    }

    #[test]
    fn leaving_comes_before_draining() {
        let shutdown = Shutdown::default();
        shutdown.begin_leaving();
        assert!(shutdown.leaving().is_cancelled() && !shutdown.is_draining());
    }

    #[test]
    fn a_chain_is_one_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("could not start")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(error_chain(&Outer(std::io::Error::other("port in use"))), "could not start: port in use");
    }
}
