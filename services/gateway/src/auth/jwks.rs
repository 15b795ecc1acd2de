//! The keys of a JWKS endpoint, cached. A slow or dead endpoint never delays a token whose key is known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use reactor_runtime::clock;
use std::time::Instant;

/// Deadline of one fetch. A token with an unknown key id waits this long at most.
const FETCH_DEADLINE: Duration = Duration::from_secs(3);
/// Keys older than this are fetched again, while the old ones go on serving.
const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// Shortest time between two fetches, so that tokens with invented key ids cannot flood the endpoint. A token with an
/// unknown id waits out the rest of it, since the key may have been added just now.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Largest key set in bytes; real ones have a few KiB.
const MAX_BYTES: usize = 1024 * 1024;

/// A cached key set.
#[derive(Debug)]
pub struct JwksCache {
    url: String,
    http: reqwest::Client,
    state: Mutex<State>,
    /// Held during a fetch, so that concurrent askers share it.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<Vec<Jwk>>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
}

impl JwksCache {
    /// A cache over the endpoint; nothing is fetched yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(url: String) -> Result<Arc<Self>, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(FETCH_DEADLINE)
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()?;
        let fetching = tokio::sync::Mutex::new(());
        Ok(Arc::new(Self { url, http, state: Mutex::default(), fetching }))
    }

    /// The keys with this id, or all without one. Fetches when the id is unknown; refreshes old keys behind the
    /// caller's back.
    pub async fn keys(self: &Arc<Self>, kid: Option<&str>) -> Vec<Jwk> {
        let found = self.cached(kid);
        if !found.is_empty() {
            if self.is_old() {
                let cache = Arc::clone(self);
                tokio::spawn(async move { cache.refresh().await });
            }
            return found;
        }
        self.refresh().await;
        self.cached(kid)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys with this id that are known now, or all without one; never waits.
    pub fn cached(&self, kid: Option<&str>) -> Vec<Jwk> {
        let keys = Arc::clone(&self.state().keys);
        let wanted = |key: &&Jwk| kid.is_none() || key.common.key_id.as_deref() == kid;
        keys.iter().filter(wanted).cloned().collect()
    }

    /// Whether the endpoint has ever answered.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        self.state().fetched_at.is_some()
    }

    fn is_old(&self) -> bool {
        self.state().fetched_at.is_none_or(|at| clock::now().duration_since(at) > REFRESH_AFTER)
    }

    /// Fetches, unless a fetch that began after this call has answered it already.
    async fn refresh(&self) {
        let asked_at = clock::now();
        let _fetching = self.fetching.lock().await;
        let tried_at = self.state().tried_at;
        if let Some(tried_at) = tried_at {
            if tried_at >= asked_at {
                return;
            }
            tokio::time::sleep(MIN_INTERVAL.saturating_sub(clock::now().duration_since(tried_at))).await;
        }
        self.state().tried_at = Some(clock::now());
        match self.fetch().await {
            Ok(keys) => {
                let mut state = self.state();
                state.keys = Arc::new(keys);
                state.fetched_at = Some(clock::now());
            }
            Err(error) => tracing::warn!(%error, "cannot fetch the JWKS; known keys stay in use"),
        }
    }

    async fn fetch(&self) -> Result<Vec<Jwk>, FetchError> {
        let mut response = self.http.get(&self.url).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        parse(&body)
    }
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("request failed")]
    Http(#[from] reqwest::Error),
    #[error("the answer is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the answer is not a JWKS")]
    Format(#[from] serde_json::Error),
}

/// Reads a key set; the library passes over what is malformed or of a kind unknown to it.
fn parse(body: &[u8]) -> Result<Vec<Jwk>, FetchError> {
    Ok(serde_json::from_slice::<JwkSet>(body)?.keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_keys_spoil_no_others() {
        let body = br#"{"keys":[{"kty":"RSA","kid":"a"},{"kty":"oct","kid":"b","k":"c2VjcmV0"}]}"#;
        let keys = parse(body).expect("key set");
        assert!(keys.iter().any(|key| key.common.key_id.as_deref() == Some("b")));
        assert!(parse(b"[]").is_err());
    }
}
