//! Decisions that are used again until they must be asked anew.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use moka::future::Cache;
use reactor_model::TenantId;
use reactor_model::filter::Truth;
use reactor_policy_engine::{
    AuthorizeRequest, Authorizer, AuthorizerError, ChannelAccess, ChannelRequest, ChannelRights, CheckRequest,
    Comparison, Decision, Grant, Members, MembersRequest, PersistRequest, PolicyVersion, Principal, PublishedTable,
    ReplayRequest, StoredMessage, TablesRequest,
};
use reactor_runtime::clock;

/// How long an allowed request is answered again without asking while the policies' version is not known: long enough for a wave
/// of reconnects to ask once, short enough that a change of grants is seen at once.
pub const FRESH: Duration = Duration::from_secs(1);

/// How long a version counts as the present one after it was told. It is told every second.
const PRESENT_FOR: Duration = Duration::from_secs(3);

/// How long a decision is used at all. What it depends on is named by its version, so that this only bounds what a mistake
/// there could do.
const MAX_LIFETIME: Duration = Duration::from_secs(600);

/// Bound of each cache. A request is some hundred bytes and the token's claims.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Bound of the answers about channels that are kept for a moment: 10,000 at most, and fewer where claims and headers are long.
const CHANNEL_BYTES: u64 = 10_000 * ENTRY_BYTES as u64;

/// Lists of tables that are.
const TABLES: u64 = 100;

/// What an entry takes beside the request's texts.
const ENTRY_BYTES: usize = 1024;

/// Stands before an authorizer. While the version of the policies is being watched through it, a decision of the present version
/// is not asked for again. Else the same question asked by many at once, or within [`FRESH`], is asked once. While the
/// authorizer behind gives no answer, an allowed request is answered as before until its recheck time has passed since it was
/// last known to be right, and not a moment longer. A failure is never kept.
pub struct CachingAuthorizer {
    inner: Arc<dyn Authorizer>,
    max_age: Duration,
    present: Arc<Present>,
    /// Allowed requests of a moment ago, and questions under way, by the version that was the present one.
    fresh: Cache<(Option<PolicyVersion>, AuthorizeRequest), Cached>,
    /// Allowed requests, for while their version is the present one, and for when no answer can be had.
    good: Cache<AuthorizeRequest, Cached>,
    /// What was allowed in channels a moment ago, and questions under way. What depends on rows may change at any time.
    channels: Cache<(Option<PolicyVersion>, ChannelRequest), ChannelRights>,
    tables: Cache<(Option<PolicyVersion>, TablesRequest), Arc<Vec<PublishedTable>>>,
}

#[derive(Clone)]
struct Cached {
    decision: Arc<Decision>,
    asked: Instant,
}

impl Cached {
    fn grant(&self) -> Option<&Grant> {
        match &*self.decision {
            Decision::Allow(grant) => Some(grant),
            Decision::Deny(_) => None,
        }
    }
}

/// The version that was told last, and when.
#[derive(Debug, Default)]
struct Present(Mutex<Option<(PolicyVersion, Instant)>>);

impl Present {
    fn told(&self, version: PolicyVersion) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, clock::now()));
    }

    fn last(&self) -> Option<(PolicyVersion, Instant)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version, while it is known to be the present one.
    fn version(&self) -> Option<PolicyVersion> {
        self.last().filter(|(_, at)| clock::now() < *at + PRESENT_FOR).map(|(version, _)| version)
    }
}

impl CachingAuthorizer {
    /// Keeps decisions for their recheck time, at most `max_age`, after they were last known to be right.
    #[must_use]
    pub fn new(inner: Arc<dyn Authorizer>, max_age: Duration) -> Self {
        let fresh = Cache::builder().max_capacity(CACHE_BYTES).weigher(|(_, request), cached| weight(request, cached));
        let good = Cache::builder().max_capacity(CACHE_BYTES).weigher(weight);
        let channels = Cache::builder().max_capacity(CHANNEL_BYTES);
        let channels = channels.weigher(|(_, request): &(_, ChannelRequest), _| channel_weight(request));
        Self {
            inner,
            max_age,
            present: Arc::default(),
            fresh: fresh.time_to_live(FRESH.min(max_age)).build(),
            good: good.time_to_live(MAX_LIFETIME).build(),
            channels: channels.time_to_live(FRESH).build(),
            tables: Cache::builder().max_capacity(TABLES).time_to_live(FRESH).build(),
        }
    }

    async fn decide(&self, request: AuthorizeRequest) -> Result<Decision, AuthorizerError> {
        let present = self.present.version();
        if present.is_some()
            && let Some(cached) = self.good.get(&request).await
            && cached.grant().map(|grant| grant.policy_version) == present
        {
            return Ok(self.answer(&cached));
        }
        let asked = request.clone();
        let key = (present, request);
        match self.fresh.try_get_with_by_ref(&key, Box::pin(self.ask(asked))).await {
            Ok(cached) => {
                if cached.grant().is_none() {
                    // Whoever mends what was refused finds it mended at once.
                    self.fresh.invalidate(&key).await;
                }
                Ok(self.answer(&cached))
            }
            Err(error) => match self.good.get(&key.1).await {
                Some(cached) if self.good_until(&cached) > clock::now() => Ok(self.answer(&cached)),
                _ => Err(shared_error(error)),
            },
        }
    }

    /// Until when a decision is good: it was right when it was asked, and when its version was last told.
    fn good_until(&self, cached: &Cached) -> Instant {
        let Some(grant) = cached.grant() else { return cached.asked };
        let told = self.present.last().filter(|(version, _)| *version == grant.policy_version);
        told.map_or(cached.asked, |(_, at)| at.max(cached.asked)) + grant.recheck_after
    }

    /// A decision for whoever asks now: what is left of its time, not the whole.
    fn answer(&self, cached: &Cached) -> Decision {
        let mut decision = Decision::clone(&cached.decision);
        if let Decision::Allow(grant) = &mut decision {
            grant.recheck_after = self.good_until(cached).saturating_duration_since(clock::now());
        }
        decision
    }

    async fn ask(&self, request: AuthorizeRequest) -> Result<Cached, AuthorizerError> {
        let asked = clock::now();
        let mut decision = self.inner.authorize(request.clone()).await?;
        if let Decision::Allow(grant) = &mut decision {
            grant.recheck_after = grant.recheck_after.min(self.max_age);
        }
        let cached = Cached { decision: Arc::new(decision), asked };
        match &*cached.decision {
            Decision::Allow(_) => self.good.insert(request, cached.clone()).await,
            Decision::Deny(_) => self.good.invalidate(&request).await,
        }
        Ok(cached)
    }
}

impl Authorizer for CachingAuthorizer {
    fn authorize(&self, request: AuthorizeRequest) -> BoxFuture<'_, Result<Decision, AuthorizerError>> {
        self.decide(request).boxed()
    }

    fn compare(
        &self,
        tenant: TenantId,
        comparisons: Vec<Comparison>,
    ) -> BoxFuture<'_, Result<Vec<Truth>, AuthorizerError>> {
        self.inner.compare(tenant, comparisons)
    }

    fn check_rows(&self, request: CheckRequest) -> BoxFuture<'_, Result<Vec<bool>, AuthorizerError>> {
        self.inner.check_rows(request)
    }

    fn members(&self, request: MembersRequest) -> BoxFuture<'_, Result<Members, AuthorizerError>> {
        self.inner.members(request)
    }

    fn tables(&self, request: TablesRequest) -> BoxFuture<'_, Result<Vec<PublishedTable>, AuthorizerError>> {
        async move {
            let key = (self.present.version(), request.clone());
            let asking = async { self.inner.tables(request).await.map(Arc::new) };
            let tables = self.tables.try_get_with_by_ref(&key, asking).await.map_err(shared_error)?;
            Ok(Vec::clone(&tables))
        }
        .boxed()
    }

    fn channel_rights(&self, request: ChannelRequest) -> BoxFuture<'_, Result<ChannelRights, AuthorizerError>> {
        async move {
            let key = (self.present.version(), request.clone());
            let asking = self.inner.channel_rights(request);
            let rights = self.channels.try_get_with_by_ref(&key, asking).await.map_err(shared_error)?;
            let all = ChannelAccess { read: true, write: true };
            if rights.broadcast != all || rights.presence != all {
                // Whoever is given a right has it at once.
                self.channels.invalidate(&key).await;
            }
            Ok(rights)
        }
        .boxed()
    }

    fn replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<Vec<StoredMessage>, AuthorizerError>> {
        self.inner.replay(request)
    }

    fn persist(&self, request: PersistRequest) -> BoxFuture<'_, Result<bool, AuthorizerError>> {
        self.inner.persist(request)
    }

    fn watch(&self, tenant: TenantId) -> BoxStream<'static, PolicyVersion> {
        let present = Arc::clone(&self.present);
        self.inner.watch(tenant).inspect(move |version| present.told(*version)).boxed()
    }

    fn unavailable(&self) -> Option<String> {
        self.inner.unavailable()
    }
}

impl fmt::Debug for CachingAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachingAuthorizer").field("inner", &self.inner).field("max_age", &self.max_age).finish()
    }
}

fn principal_bytes(principal: &Principal) -> usize {
    principal.claims_json.len() + principal.permissions.iter().map(String::len).sum::<usize>()
}

fn channel_weight(request: &ChannelRequest) -> u32 {
    let bytes = ENTRY_BYTES + principal_bytes(&request.principal) + request.topic.len() + request.headers_json.len();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn weight(request: &AuthorizeRequest, cached: &Cached) -> u32 {
    let principal = &request.principal;
    let filter = request.filter.to_string().len();
    // The policy's literals are of the size of the claims that they come from.
    let sets = cached.grant().map_or(0, |grant| grant.policy.sets.len());
    let claims = principal.claims_json.len();
    let bytes = ENTRY_BYTES + claims + principal_bytes(principal) + 2 * filter + sets * ENTRY_BYTES;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A question asked once for many gives its failure to all of them.
fn shared_error(error: Arc<AuthorizerError>) -> AuthorizerError {
    match &*error {
        AuthorizerError::Unavailable(reason) => AuthorizerError::Unavailable(reason.clone()),
        AuthorizerError::Timeout => AuthorizerError::Timeout,
        AuthorizerError::UnknownTenant => AuthorizerError::UnknownTenant,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use reactor_model::Code;
    use reactor_model::filter::{BoundFilter, Filter};
    use reactor_policy_engine::{ColumnMask, Denial, RowPolicy};

    use super::*;

    /// Answers what it is told to, after a moment, and counts.
    #[derive(Debug, Default)]
    struct Scripted {
        asked: AtomicUsize,
        answer: Mutex<Option<Decision>>,
        version: Arc<AtomicU64>,
    }

    impl Scripted {
        fn answers(self: &Arc<Self>, answer: Option<Decision>) {
            *self.answer.lock().expect("not poisoned") = answer;
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    impl Authorizer for Scripted {
        fn authorize(&self, _: AuthorizeRequest) -> BoxFuture<'_, Result<Decision, AuthorizerError>> {
            async {
                self.asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.answer.lock().expect("not poisoned").clone().ok_or(AuthorizerError::Timeout)
            }
            .boxed()
        }

        fn compare(&self, _: TenantId, _: Vec<Comparison>) -> BoxFuture<'_, Result<Vec<Truth>, AuthorizerError>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn check_rows(&self, _: CheckRequest) -> BoxFuture<'_, Result<Vec<bool>, AuthorizerError>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn members(&self, _: MembersRequest) -> BoxFuture<'_, Result<Members, AuthorizerError>> {
            async { Ok(Members::Changed) }.boxed()
        }

        fn watch(&self, _: TenantId) -> BoxStream<'static, PolicyVersion> {
            let (version, told) = (Arc::clone(&self.version), std::iter::repeat(()));
            futures::stream::iter(told).map(move |()| PolicyVersion(version.load(Ordering::SeqCst))).boxed()
        }

        fn unavailable(&self) -> Option<String> {
            None
        }
    }

    fn allow(recheck_after: Duration) -> Decision {
        Decision::Allow(Grant {
            rule: "grant:select".into(),
            columns: ColumnMask::All,
            filter: BoundFilter::And(Vec::new()),
            policy: RowPolicy::everything(),
            asks_postgres: false,
            org_scoped: false,
            row_security: false,
            table_oid: 1,
            policy_version: PolicyVersion(1),
            recheck_after,
        })
    }

    fn request(table: &str) -> AuthorizeRequest {
        AuthorizeRequest {
            tenant: "acme".parse().expect("a name"),
            principal: Principal { role: "r".into(), permissions: BTreeSet::new(), claims_json: "{}".into() },
            schema: "public".into(),
            table: table.into(),
            select: Vec::new(),
            filter: Filter::And(Vec::new()),
        }
    }

    fn caching(answer: Option<Decision>, max_age: Duration) -> (Arc<Scripted>, CachingAuthorizer) {
        let inner = Arc::new(Scripted::default());
        inner.answers(answer);
        (Arc::clone(&inner), CachingAuthorizer::new(inner, max_age))
    }

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn the_same_question_of_many_is_asked_once() {
        let (inner, caching) = caching(Some(allow(LONG)), LONG);
        let answers = futures::future::join_all((0..50).map(|_| caching.authorize(request("todos")))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Decision::Allow(_)))));
        assert_eq!(inner.asked(), 1);
        assert!(caching.authorize(request("other")).await.is_ok());
        assert_eq!(inner.asked(), 2);
    }

    fn allow_at(version: u64, recheck_after: Duration) -> Decision {
        let Decision::Allow(grant) = allow(recheck_after) else { unreachable!("it allows") };
        Decision::Allow(Grant { policy_version: PolicyVersion(version), ..grant })
    }

    #[tokio::test]
    async fn a_decision_of_the_watched_version_is_not_asked_for_again() {
        let (inner, caching) = caching(Some(allow_at(1, LONG)), LONG);
        let mut versions = caching.watch("acme".parse().expect("a name"));
        inner.version.store(1, Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(versions.next().await, Some(PolicyVersion(1)));
            assert!(caching.authorize(request("todos")).await.is_ok());
            tokio::time::sleep(FRESH / 2).await;
        }
        assert_eq!(inner.asked(), 1, "beyond the time for which it is fresh");
        // A new version, told before and after it is known who may read what.
        inner.version.store(2, Ordering::SeqCst);
        versions.next().await;
        assert!(caching.authorize(request("todos")).await.is_ok());
        assert_eq!(inner.asked(), 2, "however fresh the old one is");
        inner.answers(Some(allow_at(2, LONG)));
        tokio::time::sleep(FRESH + Duration::from_millis(50)).await;
        versions.next().await;
        for _ in 0..3 {
            assert!(caching.authorize(request("todos")).await.is_ok());
        }
        assert_eq!(inner.asked(), 3);
    }

    #[tokio::test]
    async fn a_version_that_is_told_no_more_is_asked_about() {
        let (inner, caching) = caching(Some(allow_at(1, LONG)), LONG);
        inner.version.store(1, Ordering::SeqCst);
        caching.watch("acme".parse().expect("a name")).next().await;
        assert!(caching.authorize(request("todos")).await.is_ok());
        tokio::time::sleep(PRESENT_FOR + Duration::from_millis(50)).await;
        assert!(caching.authorize(request("todos")).await.is_ok());
        assert_eq!(inner.asked(), 2);
    }

    #[tokio::test]
    async fn a_failure_is_never_kept() {
        let (inner, caching) = caching(None, LONG);
        let answers = futures::future::join_all((0..5).map(|_| caching.authorize(request("todos")))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(AuthorizerError::Timeout))));
        inner.answers(Some(allow(LONG)));
        assert!(caching.authorize(request("todos")).await.is_ok());
    }

    #[tokio::test]
    async fn a_decision_serves_until_its_recheck_time_and_no_longer() {
        let lifetime = FRESH + Duration::from_millis(500);
        let (inner, caching) = caching(Some(allow(lifetime)), LONG);
        assert!(caching.authorize(request("todos")).await.is_ok());
        inner.answers(None);
        tokio::time::sleep(FRESH + Duration::from_millis(50)).await;
        let Ok(Decision::Allow(grant)) = caching.authorize(request("todos")).await else {
            panic!("the cache serves while policy is unreachable");
        };
        assert_eq!(inner.asked(), 2, "it is asked before an old answer is used");
        assert!(grant.recheck_after < Duration::from_millis(500), "what is left, not the whole");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(caching.authorize(request("todos")).await.is_err());
    }

    #[tokio::test]
    async fn the_setting_bounds_the_recheck_time() {
        let (_, caching) = caching(Some(allow(LONG)), Duration::from_secs(5));
        let Ok(Decision::Allow(grant)) = caching.authorize(request("todos")).await else {
            panic!("allowed");
        };
        assert!(grant.recheck_after <= Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_denial_is_not_used_again_but_shared_by_those_who_ask_together() {
        let denial = Denial { code: Code::PermissionDenied, message: "m".into(), hint: "h".into() };
        let (inner, caching) = caching(Some(Decision::Deny(denial)), LONG);
        let answers = futures::future::join_all((0..5).map(|_| caching.authorize(request("todos")))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Decision::Deny(_)))));
        assert_eq!(inner.asked(), 1);
        inner.answers(Some(allow(LONG)));
        assert!(matches!(caching.authorize(request("todos")).await, Ok(Decision::Allow(_))));
    }
}
