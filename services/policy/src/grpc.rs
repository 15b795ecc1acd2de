//! The gRPC side: wire messages in, wire messages out, any [`Authorizer`] between.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use reactor_policy_engine::{Authorizer, AuthorizerError};
use reactor_proto::convert;
use reactor_proto::policy::v1;
use reactor_proto::policy::v1::policy_server::{Policy, PolicyServer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A batch of comparisons holds values of rows, which can be as large as what the bus carries.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Questions of one gateway in flight; more wait at the gateway, where they have a deadline.
const MAX_CONCURRENT: u32 = 1024;

/// Answers gateways until `stop` is cancelled, then finishes what it has begun.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    authorizer: Arc<dyn Authorizer>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service =
        PolicyServer::new(Service { authorizer, stop: stop.clone() }).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .max_concurrent_streams(MAX_CONCURRENT)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

struct Service {
    authorizer: Arc<dyn Authorizer>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Policy for Service {
    type MembersStream = BoxStream<'static, Result<v1::MembersResponse, Status>>;
    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;

    async fn authorize(
        &self,
        request: Request<v1::AuthorizeRequest>,
    ) -> Result<Response<v1::AuthorizeResponse>, Status> {
        let question = request.into_inner().try_into().map_err(not_understood)?;
        let decision = self.authorizer.authorize(question).await.map_err(no_answer)?;
        Ok(Response::new(decision.into()))
    }

    async fn compare(&self, request: Request<v1::CompareRequest>) -> Result<Response<v1::CompareResponse>, Status> {
        let request = request.into_inner();
        let tenant = convert::tenant(&request.tenant).map_err(not_understood)?;
        let comparisons = request.comparisons.into_iter().map(TryInto::try_into);
        let comparisons = comparisons.collect::<Result<_, _>>().map_err(not_understood)?;
        let truths = self.authorizer.compare(tenant, comparisons).await.map_err(no_answer)?;
        let truths = truths.into_iter().map(|truth| v1::Truth::from(truth).into()).collect();
        Ok(Response::new(v1::CompareResponse { truths }))
    }

    async fn check_rows(
        &self,
        request: Request<v1::CheckRowsRequest>,
    ) -> Result<Response<v1::CheckRowsResponse>, Status> {
        let question = request.into_inner().try_into().map_err(not_understood)?;
        let visible = self.authorizer.check_rows(question).await.map_err(no_answer)?;
        Ok(Response::new(v1::CheckRowsResponse { visible }))
    }

    async fn members(&self, request: Request<v1::MembersRequest>) -> Result<Response<Self::MembersStream>, Status> {
        let question = request.into_inner().try_into().map_err(not_understood)?;
        let members = self.authorizer.members(question).await.map_err(no_answer)?;
        Ok(Response::new(stream::iter(convert::member_parts(members)).map(Ok).boxed()))
    }

    async fn tables(&self, request: Request<v1::TablesRequest>) -> Result<Response<v1::TablesResponse>, Status> {
        let question = request.into_inner().try_into().map_err(not_understood)?;
        let tables = self.authorizer.tables(question).await.map_err(no_answer)?;
        Ok(Response::new(v1::TablesResponse { tables: tables.into_iter().map(Into::into).collect() }))
    }

    async fn channel_rights(
        &self,
        request: Request<v1::ChannelRightsRequest>,
    ) -> Result<Response<v1::ChannelRightsResponse>, Status> {
        let question = request.into_inner().try_into().map_err(not_understood)?;
        Ok(Response::new(self.authorizer.channel_rights(question).await.map_err(no_answer)?.into()))
    }

    async fn replay(&self, request: Request<v1::ReplayRequest>) -> Result<Response<v1::ReplayResponse>, Status> {
        let question = request.into_inner().try_into().map_err(not_understood)?;
        let messages = self.authorizer.replay(question).await.map_err(no_answer)?;
        Ok(Response::new(v1::ReplayResponse { messages: messages.into_iter().map(Into::into).collect() }))
    }

    async fn persist(&self, request: Request<v1::PersistRequest>) -> Result<Response<v1::PersistResponse>, Status> {
        let question = request.into_inner().try_into().map_err(not_understood)?;
        let stored = self.authorizer.persist(question).await.map_err(no_answer)?;
        Ok(Response::new(v1::PersistResponse { stored }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let tenant = convert::tenant(&request.into_inner().tenant).map_err(not_understood)?;
        let versions = self.authorizer.watch(tenant).map(|version| Ok(v1::WatchResponse { policy_version: version.0 }));
        // It has no end of its own, and the server waits for what it has begun.
        Ok(Response::new(versions.take_until(self.stop.clone().cancelled_owned()).boxed()))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let unavailable = self.authorizer.unavailable().unwrap_or_default();
        Ok(Response::new(v1::StatusResponse { unavailable }))
    }
}

fn not_understood(error: convert::NotUnderstood) -> Status {
    Status::invalid_argument(error.to_string())
}

fn no_answer(error: AuthorizerError) -> Status {
    match error {
        AuthorizerError::Unavailable(reason) => Status::unavailable(reason),
        AuthorizerError::Timeout => Status::deadline_exceeded(error.to_string()),
        AuthorizerError::UnknownTenant => Status::not_found(error.to_string()),
    }
}
