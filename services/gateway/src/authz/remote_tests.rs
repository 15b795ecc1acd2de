//! The client against a server that does as it is told.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use reactor_model::filter::{BoundFilter, Filter, Operand, Operation, Operator, Truth};
use reactor_policy_engine::{
    AuthorizeRequest, Authorizer, AuthorizerError, ChannelAccess, ChannelRequest, ChannelRights, CheckRequest,
    CheckedRow, CheckedValue, ColumnMask, Comparison, Decision, Grant, MemberRow, MemberSet, Members, MembersRequest,
    PolicyVersion, Predicate, Principal, PublishedTable, ReplayRequest, RowPolicy, TablesRequest,
};
use reactor_proto::convert::member_parts;
use reactor_proto::policy::v1;
use reactor_proto::policy::v1::policy_client::PolicyClient;
use reactor_proto::policy::v1::policy_server::{Policy, PolicyServer};
use reactor_testkit::wait;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::RemoteAuthorizer;
use super::remote::watch_versions;

/// Short, as one test waits for it.
const DEADLINE: Duration = Duration::from_millis(400);

#[derive(Clone, Debug)]
enum Does {
    Answers,
    Fails(Status),
    Hangs,
    AnswersNonsense,
}

#[derive(Clone)]
struct Scripted(Arc<Mutex<Does>>);

impl Scripted {
    async fn answer<T: Default>(&self, good: T) -> Result<Response<T>, Status> {
        match self.now() {
            Does::Answers => Ok(Response::new(good)),
            Does::Fails(status) => Err(status),
            Does::Hangs => std::future::pending().await,
            Does::AnswersNonsense => Ok(Response::new(T::default())),
        }
    }
}

#[tonic::async_trait]
impl Policy for Scripted {
    type MembersStream = BoxStream<'static, Result<v1::MembersResponse, Status>>;
    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;

    async fn check_rows(
        &self,
        request: Request<v1::CheckRowsRequest>,
    ) -> Result<Response<v1::CheckRowsResponse>, Status> {
        let asked =
            CheckRequest::try_from(request.into_inner()).map_err(|error| Status::internal(error.to_string()))?;
        self.answer(v1::CheckRowsResponse { visible: asked.rows.iter().map(is_visible).collect() }).await
    }

    async fn members(&self, request: Request<v1::MembersRequest>) -> Result<Response<Self::MembersStream>, Status> {
        let asked = MembersRequest::try_from(request.into_inner());
        assert_eq!(asked, Ok(members_request()));
        // All but the last part.
        let begun = |parts: Vec<_>| stream::iter(parts.into_iter().take(2).map(Ok));
        let parts = member_parts(members());
        Ok(Response::new(match self.now() {
            Does::Answers => stream::iter(parts).map(Ok).boxed(),
            Does::Fails(status) => begun(parts).chain(stream::iter([Err(status)])).boxed(),
            Does::Hangs => begun(parts).chain(stream::pending()).boxed(),
            Does::AnswersNonsense => begun(parts).boxed(),
        }))
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let versions = stream::iter([7, 7, 8]).map(|policy_version| Ok(v1::WatchResponse { policy_version }));
        Ok(Response::new(match self.now() {
            Does::Answers => versions.boxed(),
            Does::Fails(status) => versions.chain(stream::iter([Err(status)])).boxed(),
            Does::Hangs => versions.chain(stream::pending()).boxed(),
            Does::AnswersNonsense => return Err(Status::unimplemented("an older service")),
        }))
    }

    async fn authorize(&self, _: Request<v1::AuthorizeRequest>) -> Result<Response<v1::AuthorizeResponse>, Status> {
        self.answer(grant().into()).await
    }

    async fn compare(&self, request: Request<v1::CompareRequest>) -> Result<Response<v1::CompareResponse>, Status> {
        let asked = request.into_inner().comparisons;
        let truth = |comparison: &v1::Comparison| v1::Truth::from(truth_of(&comparison.value)).into();
        self.answer(v1::CompareResponse { truths: asked.iter().map(truth).collect() }).await
    }

    async fn tables(&self, request: Request<v1::TablesRequest>) -> Result<Response<v1::TablesResponse>, Status> {
        let schema = request.into_inner().schema.unwrap_or_default();
        self.answer(v1::TablesResponse { tables: vec![v1::PublishedTable { schema, table: "t".into() }] }).await
    }

    async fn channel_rights(
        &self,
        request: Request<v1::ChannelRightsRequest>,
    ) -> Result<Response<v1::ChannelRightsResponse>, Status> {
        let read = request.into_inner().topic == "mine";
        let access = Some(v1::ChannelAccess { read, write: !read });
        self.answer(v1::ChannelRightsResponse { broadcast: access, presence: access, policy_version: 3 }).await
    }

    async fn replay(&self, request: Request<v1::ReplayRequest>) -> Result<Response<v1::ReplayResponse>, Status> {
        let asked = request.into_inner();
        let payload = Some(v1::stored_message::Payload::Json("x".repeat(5 << 20)));
        let message = v1::StoredMessage { id: asked.since_ms.to_string(), event: asked.topic, payload };
        self.answer(v1::ReplayResponse { messages: vec![message] }).await
    }

    async fn persist(&self, request: Request<v1::PersistRequest>) -> Result<Response<v1::PersistResponse>, Status> {
        let asked = request.into_inner();
        let stored = asked.channel.map(|channel| channel.topic) == asked.message.map(|message| message.event);
        self.answer(v1::PersistResponse { stored }).await
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        self.answer(v1::StatusResponse::default()).await
    }
}

fn truth_of(value: &str) -> Truth {
    if value.len().is_multiple_of(2) { Truth::True } else { Truth::Unknown }
}

fn grant() -> Decision {
    Decision::Allow(Grant {
        rule: "grant:columns".into(),
        columns: ColumnMask::Only(["id".to_owned()].into()),
        filter: BoundFilter::And(Vec::new()),
        policy: RowPolicy { predicate: Predicate::Ask, sets: Vec::new(), check_key: Some("key".into()) },
        asks_postgres: true,
        org_scoped: true,
        row_security: true,
        table_oid: 1,
        policy_version: PolicyVersion(7),
        recheck_after: Duration::from_secs(30),
    })
}

fn request() -> AuthorizeRequest {
    AuthorizeRequest {
        tenant: "acme".parse().expect("a name"),
        principal: Principal { role: "r".into(), permissions: BTreeSet::new(), claims_json: "{}".into() },
        schema: "public".into(),
        table: "todos".into(),
        select: Vec::new(),
        filter: Filter::And(Vec::new()),
    }
}

fn comparison(bytes: usize) -> Comparison {
    Comparison {
        schema: "public".into(),
        table: "todos".into(),
        column: "title".into(),
        operation: Operation { operator: Operator::Ilike, operand: Operand::Text("ä%".into()) },
        value: "x".repeat(bytes),
    }
}

fn check(sizes: &[usize]) -> CheckRequest {
    let row = |bytes: &usize| CheckedRow {
        values: vec![CheckedValue::Text("x".repeat(*bytes)), CheckedValue::Missing],
        must_exist: bytes.is_multiple_of(3),
    };
    CheckRequest {
        tenant: tenant(),
        principal: request().principal,
        schema: "public".into(),
        table: "todos".into(),
        table_oid: 1,
        columns: vec!["title".into(), "note".into()],
        rows: sizes.iter().map(row).collect(),
    }
}

fn is_visible(row: &CheckedRow) -> bool {
    matches!(&row.values[..], [CheckedValue::Text(text), CheckedValue::Missing] if text.len().is_multiple_of(2))
        && row.must_exist
}

fn members_request() -> MembersRequest {
    let set = MemberSet {
        id: "s".into(),
        schema: "public".into(),
        table: "members".into(),
        table_oid: 2,
        keys: vec!["team".into()],
        identity: vec!["id".into()],
        condition: Predicate::Const(Truth::True),
    };
    MembersRequest {
        tenant: tenant(),
        principal: request().principal,
        schema: "public".into(),
        table: "todos".into(),
        set,
    }
}

/// More than a message takes.
fn members() -> Members {
    let row = |id: usize| MemberRow { identity: vec![Some(format!("{id:0>1000}"))], keys: vec![None] };
    Members::Rows((0..6000).map(row).collect())
}

fn tenant() -> reactor_model::TenantId {
    "acme".parse().expect("a name")
}

/// A server on this port, or on a free one, until the token is cancelled.
async fn serve(port: u16) -> (Scripted, u16, CancellationToken) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let scripted = Scripted(Arc::new(Mutex::new(Does::Answers)));
    let stop = CancellationToken::new();
    let server = Server::builder().add_service(PolicyServer::new(scripted.clone()));
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
    (scripted, port, stop)
}

impl Scripted {
    fn now(&self) -> Does {
        self.0.lock().expect("not poisoned").clone()
    }

    fn does(&self, what: Does) {
        *self.0.lock().expect("not poisoned") = what;
    }
}

fn remote(port: u16) -> RemoteAuthorizer {
    RemoteAuthorizer::new(&format!("http://127.0.0.1:{port}"), DEADLINE).expect("a good address")
}

#[tokio::test]
async fn answers_arrive_as_they_were_sent() {
    let (_scripted, port, _stop) = serve(0).await;
    let remote = remote(port);
    assert_eq!(remote.authorize(request()).await.expect("an answer"), grant());
    let sizes = [1, 2, 3, 700_000, 700_001, 4, 2_500_000];
    let asked = sizes.into_iter().map(comparison).collect();
    let truths = remote.compare("acme".parse().expect("a name"), asked).await.expect("an answer");
    let expected: Vec<Truth> = sizes.iter().map(|size| truth_of(&"x".repeat(*size))).collect();
    assert_eq!(truths, expected, "in order, though in several messages");
}

#[tokio::test]
async fn rows_are_judged_in_order_though_in_several_messages() {
    let (_scripted, port, _stop) = serve(0).await;
    let remote = remote(port);
    let asked = check(&[6, 1, 3, 700_002, 700_001, 12, 2_500_002]);
    let expected: Vec<bool> = asked.rows.iter().map(is_visible).collect();
    assert_eq!(remote.check_rows(asked).await.expect("an answer"), expected);
    assert!(expected.contains(&true) && expected.contains(&false));
    assert!(remote.check_rows(check(&[])).await.expect("an answer").is_empty());
}

#[tokio::test]
async fn rows_without_a_result_each_are_not_judged() {
    let (scripted, port, _stop) = serve(0).await;
    let remote = remote(port);
    let ask = || remote.check_rows(check(&[6]));
    scripted.does(Does::AnswersNonsense);
    assert!(matches!(ask().await, Err(AuthorizerError::Unavailable(_))), "fewer results than rows");
    scripted.does(Does::Hangs);
    assert!(matches!(ask().await, Err(AuthorizerError::Timeout)));
    scripted.does(Does::Fails(Status::unavailable("no Postgres")));
    assert!(matches!(ask().await, Err(AuthorizerError::Unavailable(_))));
    scripted.does(Does::Answers);
    assert_eq!(ask().await.expect("an answer"), [true]);
}

#[tokio::test]
async fn a_set_is_answered_whole_or_not_at_all() {
    let (scripted, port, _stop) = serve(0).await;
    let remote = remote(port);
    let ask = || remote.members(members_request());
    assert_eq!(ask().await.expect("an answer"), members());
    scripted.does(Does::AnswersNonsense);
    assert!(matches!(ask().await, Err(AuthorizerError::Unavailable(_))), "it ends before its last part");
    scripted.does(Does::Fails(Status::unavailable("no Postgres")));
    assert!(matches!(ask().await, Err(AuthorizerError::Unavailable(_))));
    scripted.does(Does::Hangs);
    assert!(matches!(ask().await, Err(AuthorizerError::Timeout)));
}

#[tokio::test]
async fn versions_are_told_until_the_service_ends_or_fails() {
    let (scripted, port, _stop) = serve(0).await;
    let remote = remote(port);
    let told = [7, 7, 8].map(PolicyVersion);
    for (does, expected) in [
        (Does::Answers, &told[..]),
        (Does::Fails(Status::unavailable("no Postgres")), &told[..]),
        (Does::AnswersNonsense, &[]),
    ] {
        scripted.does(does);
        assert_eq!(remote.watch(tenant()).collect::<Vec<_>>().await, expected);
    }
    let nobody = RemoteAuthorizer::new("http://127.0.0.1:1", DEADLINE).expect("a good address");
    assert_eq!(nobody.watch(tenant()).count().await, 0);
}

#[tokio::test]
async fn a_silent_watch_ends_and_one_that_is_told_something_outlives_the_deadline() {
    let (scripted, port, stop) = serve(0).await;
    scripted.does(Does::Hangs);
    let client = PolicyClient::connect(format!("http://127.0.0.1:{port}")).await.expect("it listens");
    let silence = Duration::from_millis(100);
    assert_eq!(watch_versions(client, &tenant(), DEADLINE, silence).count().await, 3);
    let mut watched = remote(port).watch(tenant()).skip(3);
    let more = tokio::time::timeout(2 * DEADLINE, watched.next()).await;
    assert!(more.is_err(), "neither the deadline nor the end of the client ends it");
    drop((watched, stop));
}

#[tokio::test]
async fn everything_else_is_no_answer() {
    let (scripted, port, _stop) = serve(0).await;
    let remote = remote(port);
    let ask = || remote.authorize(request());
    scripted.does(Does::Hangs);
    assert!(matches!(ask().await, Err(AuthorizerError::Timeout)));
    scripted.does(Does::Fails(Status::deadline_exceeded("slow")));
    assert!(matches!(ask().await, Err(AuthorizerError::Timeout)));
    scripted.does(Does::Fails(Status::not_found("who?")));
    assert!(matches!(ask().await, Err(AuthorizerError::UnknownTenant)));
    scripted.does(Does::Fails(Status::unavailable("no Postgres")));
    assert!(matches!(ask().await, Err(AuthorizerError::Unavailable(reason)) if reason == "no Postgres"));
    assert!(remote.unavailable().is_some_and(|reason| reason.contains("no Postgres")));
    scripted.does(Does::AnswersNonsense);
    assert!(matches!(ask().await, Err(AuthorizerError::Unavailable(_))), "a decision that is not understood");
    let compared = remote.compare("acme".parse().expect("a name"), vec![comparison(1)]).await;
    assert!(matches!(compared, Err(AuthorizerError::Unavailable(_))), "fewer answers than questions");
    scripted.does(Does::Answers);
    assert!(ask().await.is_ok());
}

#[tokio::test]
async fn a_service_that_comes_back_is_found_again() {
    // A port that nobody else is given while the service is away.
    let port = reactor_testkit::free_port().expect("a port");
    let (_, _, stop) = serve(port).await;
    let remote = remote(port);
    let patience = Duration::from_secs(20);
    let notices = async |what: &str, back: bool| {
        let seen = wait::until(patience, what, || async {
            Ok(remote.authorize(request()).await.is_ok() == back && remote.unavailable().is_none() == back)
        });
        seen.await.expect("noticed in time");
    };
    notices("the service to answer", true).await;
    stop.cancel();
    notices("the service to be gone", false).await;
    let (_scripted, _, _stop) = serve(port).await;
    notices("the service to be back", true).await;
}

#[tokio::test]
async fn questions_about_channels_are_answered() {
    let (scripted, port, _stop) = serve(0).await;
    let remote = remote(port);
    let tables = TablesRequest { tenant: tenant(), schema: Some("s".into()), table: None };
    let expected = [PublishedTable { schema: "s".into(), table: "t".into() }];
    assert_eq!(remote.tables(tables).await.expect("an answer"), expected);
    let principal = Principal { role: "r".into(), permissions: BTreeSet::new(), claims_json: "{}".into() };
    let ask = |topic: &str| {
        let (topic, headers_json) = (topic.to_owned(), "{}".to_owned());
        remote.channel_rights(ChannelRequest { tenant: tenant(), principal: principal.clone(), topic, headers_json })
    };
    for (topic, read) in [("mine", true), ("other", false)] {
        let access = ChannelAccess { read, write: !read };
        let expected = ChannelRights { broadcast: access, presence: access, policy_version: PolicyVersion(3) };
        assert_eq!(ask(topic).await.expect("an answer"), expected);
    }
    let replay = ReplayRequest { tenant: tenant(), topic: "e".into(), since_ms: 7, limit: 1 };
    let stored = remote.replay(replay).await.expect("an answer");
    let [message] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!((message.id.as_str(), message.event.as_str()), ("7", "e"));
    scripted.does(Does::AnswersNonsense);
    assert!(matches!(ask("mine").await, Err(AuthorizerError::Unavailable(_))), "an answer without rights is none");
}
