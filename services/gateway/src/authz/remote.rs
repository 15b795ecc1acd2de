//! The policy service behind [`Authorizer`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use reactor_model::TenantId;
use reactor_model::filter::Truth;
use reactor_policy_engine::{
    AuthorizeRequest, Authorizer, AuthorizerError, ChannelRequest, ChannelRights, CheckRequest, Comparison, Decision,
    Members, MembersRequest, PersistRequest, PolicyVersion, PublishedTable, ReplayRequest, StoredMessage,
    TablesRequest,
};
use reactor_proto::chunks::chunks;
use reactor_proto::convert::{self, MembersReader};
use reactor_proto::policy::v1;
use reactor_proto::policy::v1::policy_client::PolicyClient;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{info, warn};

/// How often it is asked whether the service can answer, for `/ready`.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// An idle connection is checked this often, so that a service that went away without a word is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A watched service tells a version each second; when it has told none for so long, it is lost.
const SILENCE: Duration = Duration::from_secs(5);

/// What may be read of a message: the service makes them smaller.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The same for stored broadcasts: 25 of the largest.
const MAX_REPLAY_BYTES: usize = 80 * 1024 * 1024;

/// The address of the policy service cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy service's address must be of the form http://host:port")]
pub struct InvalidPolicyUrl;

/// Asks the policy service over gRPC. The connection is made when first needed and again whenever it is lost.
pub struct RemoteAuthorizer {
    client: PolicyClient<Channel>,
    deadline: Duration,
    health: Arc<Health>,
    _stop: DropGuard,
}

impl RemoteAuthorizer {
    /// A client of the service at this address; each question is given this much time. Must be called within a runtime.
    ///
    /// # Errors
    /// [`InvalidPolicyUrl`].
    pub fn new(url: &str, deadline: Duration) -> Result<Self, InvalidPolicyUrl> {
        if !url.starts_with("http://") {
            return Err(InvalidPolicyUrl);
        }
        let channel = Endpoint::from_shared(url.to_owned())
            .map_err(|_| InvalidPolicyUrl)?
            .connect_timeout(deadline)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(deadline)
            .keep_alive_while_idle(true)
            .connect_lazy();
        let client = PolicyClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let health = Arc::new(Health(Mutex::new(Some("the policy service was not asked yet".to_owned()))));
        let stop = CancellationToken::new();
        let watch = watch_status(client.clone(), deadline, Arc::clone(&health));
        tokio::spawn(stop.clone().run_until_cancelled_owned(watch));
        Ok(Self { client, deadline, health, _stop: stop.drop_guard() })
    }

    async fn ask_decision(&self, request: AuthorizeRequest) -> Result<Decision, AuthorizerError> {
        let mut client = self.client.clone();
        let message = self.request(request.clone().into());
        let response = self.within(message, async move |message| client.authorize(message).await).await?;
        convert::decision(response, &request).map_err(not_understood)
    }

    async fn ask_comparisons(
        &self,
        tenant: &TenantId,
        comparisons: Vec<v1::Comparison>,
    ) -> Result<Vec<Truth>, AuthorizerError> {
        let asked = comparisons.len();
        let message = v1::CompareRequest { tenant: tenant.to_string(), comparisons };
        let mut client = self.client.clone();
        let response = self.within(self.request(message), async move |request| client.compare(request).await).await?;
        if response.truths.len() != asked {
            return Err(AuthorizerError::Unavailable("it answered another number of comparisons".to_owned()));
        }
        Ok(response.truths.into_iter().map(convert::truth).collect())
    }

    async fn ask_rows(&self, message: v1::CheckRowsRequest) -> Result<Vec<bool>, AuthorizerError> {
        let asked = message.rows.len();
        let mut client = self.client.clone();
        let response =
            self.within(self.request(message), async move |request| client.check_rows(request).await).await?;
        if response.visible.len() != asked {
            return Err(AuthorizerError::Unavailable("it judged another number of rows".to_owned()));
        }
        Ok(response.visible)
    }

    async fn ask_members(&self, request: MembersRequest) -> Result<Members, AuthorizerError> {
        let mut client = self.client.clone();
        let mut reader = MembersReader::new(&request.set);
        let read = async move |request| {
            let mut parts = client.members(request).await?.into_inner();
            while let Some(part) = parts.message().await? {
                let members = reader.add(part).map_err(|error| Status::data_loss(error.to_string()))?;
                if let Some(members) = members {
                    return Ok(Response::new(members));
                }
            }
            Err(Status::data_loss("it told a part of a set only"))
        };
        self.within(self.request(request.into()), read).await
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    async fn within<T, U>(
        &self,
        request: Request<T>,
        call: impl AsyncFnOnce(Request<T>) -> Result<Response<U>, Status>,
    ) -> Result<U, AuthorizerError> {
        let answer = tokio::time::timeout(self.deadline, call(request)).await;
        let result = match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(no_answer(&status)),
            Err(_) => Err(AuthorizerError::Timeout),
        };
        match &result {
            Ok(_) => self.health.set(None),
            Err(error @ AuthorizerError::Unavailable(_)) => self.health.set(Some(error.to_string())),
            // Of one question, not of the service.
            Err(AuthorizerError::Timeout | AuthorizerError::UnknownTenant) => {}
        }
        result
    }
}

impl Authorizer for RemoteAuthorizer {
    fn authorize(&self, request: AuthorizeRequest) -> BoxFuture<'_, Result<Decision, AuthorizerError>> {
        self.ask_decision(request).boxed()
    }

    fn compare(
        &self,
        tenant: TenantId,
        comparisons: Vec<Comparison>,
    ) -> BoxFuture<'_, Result<Vec<Truth>, AuthorizerError>> {
        async move {
            let mut truths = Vec::with_capacity(comparisons.len());
            for part in chunks(comparisons.into_iter().map(v1::Comparison::from)) {
                truths.extend(self.ask_comparisons(&tenant, part).await?);
            }
            Ok(truths)
        }
        .boxed()
    }

    fn check_rows(&self, request: CheckRequest) -> BoxFuture<'_, Result<Vec<bool>, AuthorizerError>> {
        async move {
            let mut question = v1::CheckRowsRequest::from(request);
            let rows = std::mem::take(&mut question.rows);
            let mut visible = Vec::with_capacity(rows.len());
            for rows in chunks(rows) {
                visible.extend(self.ask_rows(v1::CheckRowsRequest { rows, ..question.clone() }).await?);
            }
            Ok(visible)
        }
        .boxed()
    }

    fn members(&self, request: MembersRequest) -> BoxFuture<'_, Result<Members, AuthorizerError>> {
        self.ask_members(request).boxed()
    }

    fn tables(&self, request: TablesRequest) -> BoxFuture<'_, Result<Vec<PublishedTable>, AuthorizerError>> {
        async move {
            let mut client = self.client.clone();
            let message = self.request(request.into());
            let response = self.within(message, async move |message| client.tables(message).await).await?;
            Ok(response.tables.into_iter().map(Into::into).collect())
        }
        .boxed()
    }

    fn channel_rights(&self, request: ChannelRequest) -> BoxFuture<'_, Result<ChannelRights, AuthorizerError>> {
        async move {
            let mut client = self.client.clone();
            let message = self.request(request.into());
            let response = self.within(message, async move |message| client.channel_rights(message).await).await?;
            response.try_into().map_err(not_understood)
        }
        .boxed()
    }

    fn replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<Vec<StoredMessage>, AuthorizerError>> {
        async move {
            // Messages are far larger than what answers usually are.
            let mut client = self.client.clone().max_decoding_message_size(MAX_REPLAY_BYTES);
            let message = self.request(request.into());
            let response = self.within(message, async move |message| client.replay(message).await).await?;
            response.messages.into_iter().map(|message| message.try_into().map_err(not_understood)).collect()
        }
        .boxed()
    }

    fn persist(&self, request: PersistRequest) -> BoxFuture<'_, Result<bool, AuthorizerError>> {
        async move {
            let mut client = self.client.clone();
            let message = self.request(request.into());
            Ok(self.within(message, async move |message| client.persist(message).await).await?.stored)
        }
        .boxed()
    }

    fn watch(&self, tenant: TenantId) -> BoxStream<'static, PolicyVersion> {
        watch_versions(self.client.clone(), &tenant, self.deadline, SILENCE)
    }

    fn unavailable(&self) -> Option<String> {
        self.health.get()
    }
}

impl fmt::Debug for RemoteAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteAuthorizer").field("unavailable", &self.unavailable()).finish_non_exhaustive()
    }
}

/// Why the service cannot answer, as far as is known.
struct Health(Mutex<Option<String>>);

impl Health {
    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs when it has changed.
    fn set(&self, unavailable: Option<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == unavailable {
            return;
        }
        match &unavailable {
            Some(reason) => warn!(reason = %reason, "no answers from the policy service"),
            None => info!("the policy service answers"),
        }
        *known = unavailable;
    }
}

async fn watch_status(mut client: PolicyClient<Channel>, deadline: Duration, health: Arc<Health>) {
    let mut interval = tokio::time::interval(STATUS_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let unavailable = match tokio::time::timeout(deadline, client.status(v1::StatusRequest {})).await {
            Ok(Ok(response)) => Some(response.into_inner().unavailable).filter(|reason| !reason.is_empty()),
            Ok(Err(status)) => Some(no_answer(&status).to_string()),
            Err(_) => Some(AuthorizerError::Timeout.to_string()),
        };
        health.set(unavailable);
    }
}

fn no_answer(status: &Status) -> AuthorizerError {
    match status.code() {
        Code::NotFound => AuthorizerError::UnknownTenant,
        Code::DeadlineExceeded | Code::Cancelled => AuthorizerError::Timeout,
        _ => AuthorizerError::Unavailable(status.message().to_owned()),
    }
}

fn not_understood(error: convert::NotUnderstood) -> AuthorizerError {
    AuthorizerError::Unavailable(error.to_string())
}

/// The versions that the service tells, until none has come for so long.
pub(super) fn watch_versions(
    mut client: PolicyClient<Channel>,
    tenant: &TenantId,
    deadline: Duration,
    silence: Duration,
) -> BoxStream<'static, PolicyVersion> {
    // No deadline travels along: the answer has no end.
    let request = v1::WatchRequest { tenant: tenant.to_string() };
    let begin =
        async move { Some(tokio::time::timeout(deadline, client.watch(request)).await.ok()?.ok()?.into_inner()) };
    let versions = move |begun| {
        stream::unfold(begun, move |begun: Option<Streaming<v1::WatchResponse>>| async move {
            let mut versions = begun?;
            let version = tokio::time::timeout(silence, versions.message()).await.ok()?.ok()??.policy_version;
            Some((PolicyVersion(version), Some(versions)))
        })
    };
    stream::once(begin).flat_map(versions).boxed()
}

#[cfg(test)]
mod tests {
    use reactor_model::filter::{Operand, Operation, Operator};

    use super::*;

    fn comparison(bytes: usize) -> Comparison {
        Comparison {
            schema: "public".into(),
            table: "todos".into(),
            column: "title".into(),
            operation: Operation { operator: Operator::Ilike, operand: Operand::Text("ä%".into()) },
            value: "x".repeat(bytes),
        }
    }

    #[tokio::test]
    async fn only_plain_http_addresses_are_taken() {
        for wrong in ["policy:4100", "https://policy:4100", "http://", ""] {
            assert_eq!(RemoteAuthorizer::new(wrong, KEEP_ALIVE).err(), Some(InvalidPolicyUrl), "{wrong}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_no_answer() {
        let remote = RemoteAuthorizer::new("http://127.0.0.1:1", Duration::from_millis(500)).expect("a good address");
        assert!(remote.unavailable().is_some());
        let answer = remote.compare("acme".parse().expect("a name"), vec![comparison(1)]).await;
        assert!(matches!(answer, Err(AuthorizerError::Unavailable(_) | AuthorizerError::Timeout)), "{answer:?}");
    }
}
