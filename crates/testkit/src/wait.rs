//! Waiting for something to become so, instead of sleeping and hoping.

use std::time::Duration;

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(20);

/// Asks `condition` again and again until it answers yes; fails with `what` when `within` is over.
///
/// An error of the condition counts as "not yet", and the last one is part of the failure.
pub async fn until<F, Fut>(within: Duration, what: &str, mut condition: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    value(within, what, || {
        let answer = condition();
        async move { Ok(answer.await?.then_some(())) }
    })
    .await
}

/// Asks `source` again and again until it gives a value; fails with `what` when `within` is over.
pub async fn value<T, F, Fut>(within: Duration, what: &str, mut source: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let mut last = None;
    let asking = async {
        loop {
            match source().await {
                Ok(Some(value)) => return value,
                Ok(None) => last = None,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(within, asking).await {
        Ok(value) => Ok(value),
        Err(_) => match last {
            Some(error) => Err(error.context(format!("{what}: not within {within:?}"))),
            None => bail!("{what}: not within {within:?}"),
        },
    }
}

/// Lets time pass where time itself is what the test is about, such as a lease that has to run out; `why` says so.
pub async fn elapse(duration: Duration, why: &str) {
    tracing::debug!(?duration, why, "letting time pass");
    tokio::time::sleep(duration).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_holds_later_is_waited_for() {
        let mut asked = 0;
        let condition = || {
            asked += 1;
            let holds = asked > 3;
            async move { Ok(holds) }
        };
        until(Duration::from_secs(1), "four questions", condition).await.unwrap();
    }
}
