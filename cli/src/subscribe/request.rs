//! The request for the stream of events.

use std::time::Duration;

use reactor_model::Code;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, Url};

use super::args::SubscribeArgs;
use super::ended::{Ended, Problem};
use crate::exit::{Failure, Outcome};
use crate::gateway::reason;

/// How long an answer's head may take: the gateway asks the policy service before it answers, and Postgres behind it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What is read of a refusal; ours are far smaller.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// `GET /data/v1/{table}/subscribe` with everything that stays the same from connection to connection.
pub(super) struct Request {
    url: Url,
    org: Option<String>,
}

impl Request {
    pub(super) fn new(args: &SubscribeArgs) -> Outcome<Self> {
        let url = subscribe_url(args.gateway.url()?, args);
        let url = url.ok_or_else(|| Failure::usage("--url: it cannot be a base for paths"))?;
        Ok(Self { url, org: args.org.clone().filter(|org| !org.is_empty()) })
    }

    /// The address that the token is sent to.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Opens the stream.
    pub(super) async fn open(&self, client: &Client, token: &str, last_id: Option<&str>) -> Result<Response, Ended> {
        let mut request = client.get(self.url.clone()).bearer_auth(token).header(ACCEPT, "text/event-stream");
        if let Some(org) = &self.org {
            request = request.header("x-reactor-org", org);
        }
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = tokio::time::timeout(ANSWER_WITHIN, request.send()).await;
        match answer {
            Err(_) => Err(Ended::Unreachable(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
            Ok(Err(error)) if error.is_builder() || error.is_redirect() => Err(Ended::Impossible(reason(&error))),
            Ok(Err(error)) => Err(Ended::Unreachable(reason(&error))),
            Ok(Ok(response)) => accept(response).await,
        }
    }
}

/// Where the table's changes are, with the query.
fn subscribe_url(mut url: Url, args: &SubscribeArgs) -> Option<Url> {
    url.path_segments_mut().ok()?.pop_if_empty().extend(["data", "v1", args.table.as_str(), "subscribe"]);
    let mut query = Vec::new();
    if args.schema != "public" {
        query.push(("schema", args.schema.clone()));
    }
    if !args.events.is_empty() {
        query.push(("events", args.events.join(",")));
    }
    query.extend(args.select.iter().map(|columns| ("select", columns.clone())));
    query.extend(args.filter.iter().map(|filter| ("filter", filter.clone())));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Some(url)
}

/// The stream, or what was answered instead.
async fn accept(response: Response) -> Result<Response, Ended> {
    let status = response.status().as_u16();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if status == 200 && is_event_stream(kind) {
        return Ok(response);
    }
    if response.status().is_success() {
        return Err(Ended::NotEvents { status, kind: kind.to_owned() });
    }
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let problem = Problem::read(&body(response).await);
    Err(Ended::Refused {
        status,
        code: problem.code.as_deref().and_then(Code::from_wire),
        problem,
        retry_after: retry_after.map(Duration::from_secs),
    })
}

fn is_event_stream(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// The beginning of a refusal's body, as far as it comes in time.
async fn body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while body.len() < MAX_REFUSAL_BYTES {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
    };
    // What has come by then has to do.
    let _ = tokio::time::timeout(ANSWER_WITHIN, reading).await;
    body.truncate(MAX_REFUSAL_BYTES);
    body
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    #[track_caller]
    fn check(args: &[&str], expected: &str) {
        let command = SubscribeArgs::augment_args(Command::new("subscribe").no_binary_name(true));
        let matches = command.try_get_matches_from(args).expect("good arguments");
        let args = SubscribeArgs::from_arg_matches(&matches).map_err(|error| error.to_string()).expect("arguments");
        let request = Request::new(&args).map_err(|failure| format!("{failure:?}")).expect("a request");
        assert_eq!(request.url().as_str(), expected);
    }

    #[test]
    fn addresses_carry_table_and_query() {
        check(&["todos", "--url", "http://h:1"], "http://h:1/data/v1/todos/subscribe");
        check(&["todos", "--url", "http://h:1/"], "http://h:1/data/v1/todos/subscribe");
        check(&["a/b?", "--url", "https://h/api/"], "https://h/api/data/v1/a%2Fb%3F/subscribe");
        check(
            &["t", "--url", "http://h", "--schema", "s", "--events", "insert,update", "--select", "a,b"],
            "http://h/data/v1/t/subscribe?schema=s&events=insert%2Cupdate&select=a%2Cb",
        );
        check(
            &["t", "--url", "http://h", "--filter", "a=eq.1&2", "--filter", "or=(b.eq.1,c.gt.2)"],
            "http://h/data/v1/t/subscribe?filter=a%3Deq.1%262&filter=or%3D%28b.eq.1%2Cc.gt.2%29",
        );
    }

    #[test]
    fn event_streams_are_told_by_their_type() {
        for (kind, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("text/html", false),
            ("text/event-streamer", false),
            ("", false),
        ] {
            assert_eq!(is_event_stream(kind), expected, "{kind}");
        }
    }
}
