//! The server before an authorizer that does as it is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use reactor_model::TenantId;
use reactor_model::filter::{BoundFilter, Filter, Truth};
use reactor_policy_engine::{
    AuthorizeRequest, Authorizer, AuthorizerError, CheckRequest, CheckedRow, CheckedValue, ColumnMask, Comparison,
    Decision, Grant, MemberRow, MemberSet, Members, MembersRequest, PolicyVersion, Predicate, Principal, RowPolicy,
};
use reactor_proto::convert::{self, MembersReader};
use reactor_proto::policy::v1;
use reactor_proto::policy::v1::policy_client::PolicyClient;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Error};

use crate::grpc::serve;

/// Knows one tenant.
#[derive(Debug)]
struct Scripted;

fn known(tenant: &TenantId) -> Result<(), AuthorizerError> {
    if *tenant == acme() { Ok(()) } else { Err(AuthorizerError::UnknownTenant) }
}

impl Authorizer for Scripted {
    fn authorize(&self, request: AuthorizeRequest) -> BoxFuture<'_, Result<Decision, AuthorizerError>> {
        async move { known(&request.tenant).map(|()| Decision::Allow(grant())) }.boxed()
    }

    fn compare(&self, _: TenantId, _: Vec<Comparison>) -> BoxFuture<'_, Result<Vec<Truth>, AuthorizerError>> {
        async { Err(AuthorizerError::Timeout) }.boxed()
    }

    /// Those with a value are visible.
    fn check_rows(&self, request: CheckRequest) -> BoxFuture<'_, Result<Vec<bool>, AuthorizerError>> {
        async move {
            known(&request.tenant)?;
            Ok(request.rows.iter().map(|row| matches!(row.values[..], [CheckedValue::Text(_)])).collect())
        }
        .boxed()
    }

    fn members(&self, request: MembersRequest) -> BoxFuture<'_, Result<Members, AuthorizerError>> {
        async move { known(&request.tenant).map(|()| rows()) }.boxed()
    }

    fn watch(&self, tenant: TenantId) -> BoxStream<'static, PolicyVersion> {
        let versions = [1, 2].map(PolicyVersion);
        if tenant == acme() { stream::iter(versions).chain(stream::pending()).boxed() } else { stream::empty().boxed() }
    }

    fn unavailable(&self) -> Option<String> {
        None
    }
}

fn acme() -> TenantId {
    "acme".parse().expect("a name")
}

fn grant() -> Grant {
    Grant {
        rule: "grant:select".into(),
        columns: ColumnMask::All,
        filter: BoundFilter::And(Vec::new()),
        policy: RowPolicy { predicate: Predicate::Ask, sets: Vec::new(), check_key: Some("key".into()) },
        asks_postgres: true,
        org_scoped: false,
        row_security: true,
        table_oid: 1,
        policy_version: PolicyVersion(1),
        recheck_after: Duration::from_secs(30),
    }
}

/// More than a message takes.
fn rows() -> Members {
    let row = |id: usize| MemberRow { identity: vec![Some(format!("{id:0>1000}"))], keys: vec![None] };
    Members::Rows((0..6000).map(row).collect())
}

fn principal() -> Principal {
    Principal { role: "r".into(), permissions: BTreeSet::new(), claims_json: "{}".into() }
}

fn question(tenant: TenantId) -> AuthorizeRequest {
    AuthorizeRequest {
        tenant,
        principal: principal(),
        schema: "public".into(),
        table: "todos".into(),
        select: Vec::new(),
        filter: Filter::And(Vec::new()),
    }
}

fn check(tenant: TenantId) -> CheckRequest {
    let row = |value| CheckedRow { values: vec![value], must_exist: true };
    CheckRequest {
        tenant,
        principal: principal(),
        schema: "public".into(),
        table: "todos".into(),
        table_oid: 1,
        columns: vec!["title".into()],
        rows: vec![row(CheckedValue::Text("a".into())), row(CheckedValue::Null), row(CheckedValue::Missing)],
    }
}

fn members(tenant: TenantId, condition: Predicate) -> MembersRequest {
    let set = MemberSet {
        id: "s".into(),
        schema: "public".into(),
        table: "members".into(),
        table_oid: 2,
        keys: vec!["team".into()],
        identity: vec!["id".into()],
        condition,
    };
    MembersRequest { tenant, principal: principal(), schema: "public".into(), table: "todos".into(), set }
}

struct Running {
    client: PolicyClient<Channel>,
    stop: CancellationToken,
    server: JoinHandle<Result<(), Error>>,
}

async fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(Arc::new(Scripted), listener, stop.clone()));
    let client = PolicyClient::connect(format!("http://{address}")).await.expect("it listens");
    Running { client, stop, server }
}

#[tokio::test]
async fn decisions_and_judged_rows_are_passed_on() {
    let mut running = start().await;
    let asked = question(acme());
    let response = running.client.authorize(v1::AuthorizeRequest::from(asked.clone())).await.expect("an answer");
    assert_eq!(convert::decision(response.into_inner(), &asked), Ok(Decision::Allow(grant())));
    let judged = running.client.check_rows(v1::CheckRowsRequest::from(check(acme()))).await.expect("an answer");
    assert_eq!(judged.into_inner().visible, [true, false, false]);
}

#[tokio::test]
async fn a_set_is_told_in_messages_that_a_client_takes() {
    let mut running = start().await;
    let asked = members(acme(), Predicate::Const(Truth::True));
    let response = running.client.members(v1::MembersRequest::from(asked.clone())).await.expect("an answer");
    let mut parts = response.into_inner();
    let mut reader = MembersReader::new(&asked.set);
    let mut told = Vec::new();
    while let Some(part) = parts.message().await.expect("no part is too large") {
        told.push(reader.add(part).expect("understood"));
    }
    assert!(told.len() > 3);
    assert_eq!(told.pop(), Some(Some(rows())));
    assert!(told.iter().all(Option::is_none));
}

#[tokio::test]
async fn refusals_have_a_status() {
    let mut running = start().await;
    let nobody: TenantId = "nobody".parse().expect("a name");
    let condition = || Predicate::Const(Truth::True);
    let client = &mut running.client;
    let unknown = client.check_rows(v1::CheckRowsRequest::from(check(nobody.clone()))).await;
    assert_eq!(unknown.expect_err("refused").code(), Code::NotFound);
    let unknown = client.members(v1::MembersRequest::from(members(nobody.clone(), condition()))).await;
    assert_eq!(unknown.expect_err("refused").code(), Code::NotFound);
    let newer = client.members(v1::MembersRequest::from(members(acme(), Predicate::Ask))).await;
    assert_eq!(newer.expect_err("refused").code(), Code::InvalidArgument);
    let unnamed = client.watch(v1::WatchRequest { tenant: String::new() }).await;
    assert_eq!(unnamed.expect_err("refused").code(), Code::InvalidArgument);
    let unknown = client.watch(v1::WatchRequest { tenant: nobody.to_string() }).await.expect("a stream");
    assert!(matches!(unknown.into_inner().message().await, Ok(None)));
}

#[tokio::test]
async fn a_watch_does_not_hold_up_the_end_of_the_server() {
    let mut running = start().await;
    let watch = running.client.watch(v1::WatchRequest { tenant: acme().to_string() }).await.expect("a stream");
    let mut versions = watch.into_inner();
    for expected in [1, 2] {
        let version = versions.message().await.expect("told").expect("not the end");
        assert_eq!(version.policy_version, expected);
    }
    running.stop.cancel();
    assert!(matches!(versions.message().await, Ok(None)));
    let ended = tokio::time::timeout(Duration::from_secs(20), running.server).await;
    assert!(matches!(ended, Ok(Ok(Ok(())))), "{ended:?}");
}
