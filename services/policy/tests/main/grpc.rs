//! The same answers over the wire.

use std::sync::Arc;

use reactor_model::Code;
use reactor_policy::{PostgresAuthorizer, serve};
use reactor_policy_engine::{Authorizer as _, Decision};
use reactor_proto::convert::decision;
use reactor_proto::policy::v1;
use reactor_proto::policy::v1::policy_client::PolicyClient;
use reactor_runtime::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{Db, With, comparisons, request, settings};

const SQL: &str = "
create table todos (id int primary key, title text);
create publication supabase_realtime for table todos;
create role {r}_reader;
grant select on todos to {r}_reader;
";

#[tokio::test]
async fn answers_travel_and_a_stop_ends_it() {
    let (db, roles) = Db::new(SQL).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let authorizer = Arc::new(PostgresAuthorizer::new(settings(&db.url), &Registry::new()));
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(authorizer, listener, stop.clone()));
    let mut client = PolicyClient::connect(format!("http://{address}")).await.unwrap();

    let asked = request(&roles.name("reader"), "todos").with_filter("id.gt. 07");
    let response = client.authorize(v1::AuthorizeRequest::from(asked.clone())).await.unwrap().into_inner();
    assert_eq!(decision(response, &asked).unwrap(), db.authorizer.authorize(asked).await.unwrap());
    let asked = request("nobody", "todos");
    let denied = client.authorize(v1::AuthorizeRequest::from(asked.clone())).await.unwrap().into_inner();
    let denied = decision(denied, &asked).unwrap();
    assert!(matches!(denied, Decision::Deny(denial) if denial.code == Code::PermissionDenied));

    let compared = comparisons("todos", "title.ilike.Ä%", &["ä", "b"]).into_iter().map(Into::into).collect();
    let question = v1::CompareRequest { tenant: "acme".into(), comparisons: compared };
    let truths = client.compare(question).await.unwrap().into_inner().truths;
    assert_eq!(truths, [v1::Truth::True as i32, v1::Truth::False as i32]);
    assert_eq!(client.status(v1::StatusRequest {}).await.unwrap().into_inner().unavailable, "");

    let unknown = v1::CompareRequest { tenant: "other".into(), comparisons: Vec::new() };
    assert_eq!(client.compare(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    let newer = v1::AuthorizeRequest { filter: Some(v1::Filter { node: None }), ..request("r", "t").into() };
    assert_eq!(client.authorize(newer).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    stop.cancel();
    server.await.unwrap().unwrap();
}
