//! Subscription requests as clients write them, in query or body, turned into checked values.

use std::sync::Arc;

use http::HeaderMap;
use reactor_model::filter::Filter;
use reactor_model::{Code, EventId};
use serde::Deserialize;

use crate::connection::Start;
use crate::error::ApiError;
use crate::hub::EventMask;

/// Query parameters with a meaning of their own; every other is a filter on a column.
const RESERVED: &[&str] =
    &["events", "schema", "filter", "select", "leave", "org", "last_event_id", "access_token", "apikey"];

/// A request for one or several subscriptions, not yet authorized.
#[derive(Debug)]
pub(super) struct SubscribeRequest {
    pub(super) subscriptions: Vec<Wanted>,
    pub(super) token: Option<String>,
    pub(super) org: Option<String>,
    pub(super) start: Start,
}

/// One subscription as asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: Option<Arc<str>>,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) events: EventMask,
    pub(super) leave: bool,
    pub(super) select: Vec<String>,
    pub(super) filter: Filter,
}

/// The body of `POST /realtime/v1/subscribe`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    subscriptions: Vec<BodySubscription>,
    #[serde(default)]
    last_event_id: Option<String>,
    #[serde(default)]
    org: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodySubscription {
    id: String,
    table: String,
    #[serde(default)]
    schema: Option<String>,
    #[serde(default)]
    events: Names,
    #[serde(default)]
    leave: bool,
    #[serde(default)]
    select: Names,
    #[serde(default)]
    filter: Option<String>,
}

/// A list of names, or one text with names separated by commas.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Names {
    #[default]
    None,
    List(Vec<String>),
    Text(String),
}

impl Names {
    fn iter(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::None => Box::new(std::iter::empty()),
            Self::List(names) => Box::new(names.iter().map(String::as_str)),
            Self::Text(text) => Box::new(text.split(',')),
        }
    }
}

/// What both kinds of request say outside their subscriptions.
fn envelope(
    headers: &HeaderMap,
    query: &[(String, String)],
    in_body: (Option<String>, Option<String>),
) -> Result<SubscribeRequest, ApiError> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim).map(str::to_owned);
    let parameter = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let (last_event_id, org) = in_body;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let last = given(header("last-event-id")).or_else(|| given(parameter("last_event_id"))).or(given(last_event_id));
    let start = match last {
        None => Start::Now,
        Some(text) => text.parse::<EventId>().map_or(Start::Unknown, Start::After),
    };
    let token = bearer(headers)?
        .or_else(|| given(parameter("access_token")))
        .or_else(|| given(header("apikey")))
        .or_else(|| given(parameter("apikey")));
    let org = given(header("x-reactor-org")).or_else(|| given(parameter("org"))).or(given(org));
    Ok(SubscribeRequest { subscriptions: Vec::new(), token, org, start })
}

fn bearer(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(http::header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::new(Code::TokenInvalid, "the Authorization header is not of the form `Bearer <token>`"));
    }
    Ok(Some(token.trim().to_owned()))
}

fn bad_filter(error: &reactor_model::filter::FilterError) -> ApiError {
    ApiError::new(Code::BadFilter, error.to_string())
}

fn events<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<EventMask, ApiError> {
    EventMask::parse(names).map_err(|name| {
        ApiError::new(
            Code::BadRequest,
            format!("unknown event `{name}`: allowed are insert, update, delete, truncate and *"),
        )
    })
}

/// A parameter that is on or off; off when absent.
fn switch(name: &str, text: Option<&str>) -> Result<bool, ApiError> {
    match text {
        None | Some("" | "false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(ApiError::new(Code::BadRequest, format!("`{name}` is neither true nor false"))),
    }
}

/// Splits at commas outside double quotes, which are taken off; `""` inside them is one quote.
fn split_names(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                names.last_mut().into_iter().for_each(|name| name.push('"'));
            }
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(String::new()),
            _ => names.last_mut().into_iter().for_each(|name| name.push(character)),
        }
    }
    names
}

/// Column names; `*` or nothing is all.
fn select<T: AsRef<str>>(names: impl Iterator<Item = T>) -> Vec<String> {
    let names = names.map(|name| name.as_ref().trim().to_owned());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    if names.iter().any(|name| name == "*") { Vec::new() } else { names }
}

impl SubscribeRequest {
    /// Reads `GET /data/v1/{table}/subscribe`.
    pub(super) fn from_query(table: String, headers: &HeaderMap, query: &[(String, String)]) -> Result<Self, ApiError> {
        let mut request = envelope(headers, query, (None, None))?;
        let all =
            |name: &'static str| query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str());
        let mut filters = Vec::new();
        for text in all("filter") {
            filters.push(Filter::parse(text).map_err(|error| bad_filter(&error))?);
        }
        for (name, value) in query.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
            filters.push(Filter::parse_param(name, value).map_err(|error| bad_filter(&error))?);
        }
        let schema = all("schema").next().filter(|schema| !schema.is_empty()).unwrap_or("public");
        request.subscriptions.push(Wanted {
            name: None,
            schema: schema.to_owned(),
            table,
            events: events(all("events").flat_map(|text| text.split(',')))?,
            leave: switch("leave", all("leave").next())?,
            select: select(all("select").flat_map(split_names)),
            filter: Filter::all(filters),
        });
        request.without_nul()
    }

    /// Postgres has no NUL in names and texts: no name or value with one can exist.
    fn without_nul(self) -> Result<Self, ApiError> {
        let has_nul = |wanted: &Wanted| {
            let names = [&wanted.schema, &wanted.table].into_iter().chain(&wanted.select);
            names.into_iter().any(|name| name.contains('\0')) || wanted.filter.to_string().contains('\0')
        };
        if self.subscriptions.iter().any(has_nul) {
            return Err(ApiError::new(Code::BadRequest, "names and values cannot hold the character NUL"));
        }
        Ok(self)
    }

    /// Reads `POST /realtime/v1/subscribe`.
    pub(super) fn from_body(
        body: &[u8],
        headers: &HeaderMap,
        query: &[(String, String)],
        max_subscriptions: usize,
    ) -> Result<Self, ApiError> {
        let body: Body = serde_json::from_slice(body).map_err(|error| {
            ApiError::new(Code::BadRequest, format!("the body is not a subscription request: {error}"))
        })?;
        let mut request = envelope(headers, query, (body.last_event_id, body.org))?;
        if body.subscriptions.is_empty() {
            return Err(ApiError::new(Code::BadRequest, "`subscriptions` is empty: at least one is needed"));
        }
        if body.subscriptions.len() > max_subscriptions {
            let message = format!(
                "{} subscriptions: at most {max_subscriptions} are allowed in one connection",
                body.subscriptions.len()
            );
            return Err(ApiError::new(Code::TooManySubscriptions, message));
        }
        for subscription in body.subscriptions {
            if request.subscriptions.iter().any(|known| known.name.as_deref() == Some(subscription.id.as_str())) {
                return Err(ApiError::new(
                    Code::BadRequest,
                    format!("the subscription id `{}` is used twice", subscription.id),
                ));
            }
            request.subscriptions.push(Wanted {
                events: events(subscription.events.iter())?,
                leave: subscription.leave,
                select: select(subscription.select.iter()),
                filter: Filter::parse(subscription.filter.as_deref().unwrap_or_default())
                    .map_err(|error| bad_filter(&error))?,
                schema: subscription.schema.filter(|schema| !schema.is_empty()).unwrap_or_else(|| "public".to_owned()),
                table: subscription.table,
                name: Some(subscription.id.into()),
            });
        }
        request.without_nul()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn refused(pairs: &[(&str, &str)], code: Code, part: &str) {
        let error = SubscribeRequest::from_query("t".into(), &HeaderMap::new(), &query(pairs)).expect_err(part);
        assert_eq!(error.code, code);
        assert!(error.message.contains(part), "{} should name {part}", error.message);
    }

    #[test]
    fn query_requests_are_read() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer abc".parse().expect("header"));
        headers.insert("x-reactor-org", "acme".parse().expect("header"));
        let pairs = query(&[
            ("events", "insert,update"),
            ("id", "eq.1"),
            ("leave", "true"),
            ("select", "id, \"a,\"\"b\""),
            ("last_event_id", "zzz"),
            ("access_token", "no"),
        ]);
        let request = SubscribeRequest::from_query("todos".into(), &headers, &pairs).expect("request");
        assert_eq!(request.token.as_deref(), Some("abc"));
        assert_eq!(request.org.as_deref(), Some("acme"));
        assert_eq!(request.start, Start::Unknown);
        let wanted = &request.subscriptions[0];
        assert_eq!((wanted.schema.as_str(), wanted.table.as_str()), ("public", "todos"));
        assert_eq!(wanted.select, ["id", "a,\"b"]);
        assert_eq!(wanted.filter.conditions().len(), 1);
        assert!(wanted.leave);
    }

    #[test]
    fn wrong_requests_are_refused_by_name() {
        refused(&[("events", "upsert")], Code::BadRequest, "upsert");
        refused(&[("leave", "maybe")], Code::BadRequest, "leave");
        refused(&[("id", "foo.1")], Code::BadFilter, "foo");
        refused(&[("filter", "id")], Code::BadFilter, "id");
        refused(&[("id", "eq.\0")], Code::BadRequest, "NUL");
    }

    #[test]
    fn bodies_are_read_and_bounded() {
        let read = |body: &str| SubscribeRequest::from_body(body.as_bytes(), &HeaderMap::new(), &[], 2);
        let request = read(
            r#"{"subscriptions":[{"id":"a","table":"t","events":["insert"],"select":["x"]},{"id":"b","table":"t","filter":"x=eq.1"}],"last_event_id":""}"#,
        );
        let request = request.expect("request");
        assert_eq!(request.subscriptions.len(), 2);
        assert_eq!(request.start, Start::Now);
        for (body, part) in [
            ("{}", "subscriptions"),
            (r#"{"subscriptions":[]}"#, "empty"),
            (r#"{"subscriptions":[{"id":"a","table":"t"},{"id":"a","table":"t"}]}"#, "twice"),
            (r#"{"subscriptions":[{"id":"a","tabel":"t"}]}"#, "tabel"),
            (
                r#"{"subscriptions":[{"id":"a","table":"t"},{"id":"b","table":"t"},{"id":"c","table":"t"}]}"#,
                "at most 2",
            ),
        ] {
            let error = read(body).expect_err(body);
            assert!(error.message.contains(part), "{} should name {part}", error.message);
        }
    }
}
