//! A task that ends with its owner.

use tokio::sync::watch;
use tokio::task::AbortHandle;

#[derive(Debug)]
pub(super) struct Task {
    handle: AbortHandle,
    /// Its other end goes with the task.
    alive: watch::Receiver<()>,
}

impl Task {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let (ended, alive) = watch::channel(());
        let work = async move {
            let _ended = ended;
            work.await;
        };
        Self { handle: tokio::spawn(work).abort_handle(), alive }
    }

    /// Resolves when it does nothing more.
    pub(super) async fn end(&self) {
        self.handle.abort();
        // An error is what is waited for: nothing is ever sent.
        let _ = self.alive.clone().changed().await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
