//! Broadcasts over HTTP: a batch, or one message.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rand::Rng;
use reactor_bus::BusError;
use reactor_protocol::audience::channel_name;
use reactor_protocol::broadcast::{Broadcast, Encoding, Envelope, UserBroadcast};
use reactor_protocol::session::{ChannelName, Rights};
use reactor_protocol::uuid;
use serde_json::{Value, json};

use super::connection::PUBLISH_DEADLINE;
use super::persist::{message_to_store, persist};
use super::upgrade::x_headers;
use super::{identify, member};
use crate::auth::Identity;
use crate::transport::App;

/// Largest body of a batch.
pub(crate) const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// What is said of a payload that is larger than is taken.
const TOO_LARGE: &str = "Payload size exceeds tenant limit";
/// Names a request, in its answer and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of an id that a caller may give itself.
const OWN_ID_BYTES: std::ops::RangeInclusive<usize> = 20..=200;

/// A refused request.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    body: Value,
    /// For metrics.
    reason: &'static str,
}

impl Refused {
    fn message(status: StatusCode, message: &str, reason: &'static str) -> Self {
        Self { status, body: json!({"message": message}), reason }
    }

    fn errors(errors: &Value) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body: json!({"errors": errors}), reason: "rest_invalid" }
    }

    fn not_allowed() -> Self {
        Self::message(StatusCode::FORBIDDEN, "Unauthorized", "rest_not_allowed")
    }

    fn no_database() -> Self {
        Self::message(StatusCode::UNPROCESSABLE_ENTITY, "Tenant database unavailable", "rest_policy")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.body)).into_response()
    }
}

/// One message of a batch, checked.
struct Checked {
    name: ChannelName,
    broadcast: Broadcast,
}

/// `POST …/api/broadcast`.
pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let taken = take_batch(&app, &headers, body).await;
    answer(&app, &headers, taken)
}

/// `POST …/api/broadcast/{topic}/events/{event}`.
pub(crate) async fn single(
    State(app): State<Arc<App>>,
    Path((topic, event)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let query = query.unwrap_or_default();
    let is_on = |wanted: &str| {
        form_urlencoded::parse(query.as_bytes())
            .any(|(name, value)| name == wanted && value.eq_ignore_ascii_case("true"))
    };
    let has_ttl = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "persist[ttl]");
    let private = is_on("private");
    let persist = has_ttl || is_on("persist");
    let name = ChannelName { name: channel_name(&topic).into(), private };
    let taken = take_single(&app, name, &event, persist, &headers, body).await;
    answer(&app, &headers, taken)
}

fn answer(app: &App, headers: &HeaderMap, taken: Result<(), Refused>) -> Response {
    let id = request_id(headers);
    let mut response = match taken {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(refused) => {
            app.metrics.ws.refused.with_label_values(&[refused.reason]).inc();
            tracing::debug!(reason = refused.reason, request_id = ?id, "a broadcast over HTTP was refused");
            refused.into_response()
        }
    };
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The id that the caller gave the request, or a new one.
fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let own = headers.get(REQUEST_ID).filter(|id| OWN_ID_BYTES.contains(&id.len()) && id.to_str().is_ok());
    own.cloned().or_else(|| HeaderValue::try_from(uuid::text(rand::rng().random(), 4)).ok())
}

/// Who asks: `Authorization` before `apikey`.
async fn identity(app: &App, headers: &HeaderMap) -> Result<Identity, Refused> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let token = identify::trimmed(bearer.or_else(|| text("apikey")).or_else(|| text("x-api-key")).unwrap_or_default());
    let verified = identify::verify(&app.verifier, &token).await;
    verified.map_err(|_| Refused::message(StatusCode::UNAUTHORIZED, "Unauthorized", "rest_token"))
}

fn check_open(app: &App) -> Result<(), Refused> {
    let refused = || Refused::message(StatusCode::FORBIDDEN, "Tenant is suspended", "rest_disabled");
    app.settings.enabled.then_some(()).ok_or_else(refused)
}

fn body_of(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refused> {
    body.map_err(|rejection| Refused::message(rejection.status(), "The body could not be read", "rest_body"))
}

async fn take_batch(app: &App, headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<(), Refused> {
    check_open(app)?;
    let identity = identity(app, headers).await?;
    let body: Value = serde_json::from_slice(&body_of(body)?)
        .map_err(|_| Refused::message(StatusCode::BAD_REQUEST, "The body is not JSON", "rest_body"))?;
    let messages = body.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty());
    let messages = messages.ok_or_else(|| Refused::errors(&json!({"messages": ["can't be blank"]})))?;
    let checked: Vec<Result<Checked, Value>> = messages.iter().map(|message| check(app, message)).collect();
    if checked.iter().any(Result::is_err) {
        let errors: Vec<Value> =
            checked.into_iter().map(|checked| checked.err().unwrap_or_else(|| json!({}))).collect();
        return Err(Refused::errors(&json!({"messages": errors})));
    }
    let mut may_send: HashMap<ChannelName, bool> = HashMap::new();
    let mut allowed = Vec::with_capacity(checked.len());
    for Checked { name, broadcast } in checked.into_iter().flatten() {
        if name.private {
            let known = may_send.get(&name).copied();
            let may = match known {
                Some(may) => may,
                None => rights(app, &identity, &name, headers).await.is_ok_and(|rights| rights.broadcast.write),
            };
            may_send.insert(name.clone(), may);
            if !may {
                app.metrics.ws.publish_failed.with_label_values(&["not_allowed"]).inc();
                continue;
            }
        }
        allowed.push((name, broadcast));
    }
    publish(app, allowed).await
}

/// Reads a message, or says what is wrong with each of its members.
fn check(app: &App, message: &Value) -> Result<Checked, Value> {
    let text = |name: &str| message.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut errors = serde_json::Map::new();
    for name in ["topic", "event"] {
        if text(name).is_none() {
            errors.insert(name.to_owned(), json!(["can't be blank"]));
        }
    }
    let payload = match message.get("payload") {
        Some(payload @ Value::Object(_)) => payload.to_string(),
        None | Some(Value::Null) => {
            errors.insert("payload".to_owned(), json!(["can't be blank"]));
            String::new()
        }
        Some(_) => {
            errors.insert("payload".to_owned(), json!(["is invalid"]));
            String::new()
        }
    };
    if payload.len() > app.session.max_payload_bytes {
        errors.insert("payload".to_owned(), json!([TOO_LARGE]));
    }
    let (Some(topic), Some(event), true) = (text("topic"), text("event"), errors.is_empty()) else {
        return Err(Value::Object(errors));
    };
    let private = match message.get("private") {
        Some(Value::Bool(private)) => *private,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    let broadcast = Broadcast::batch(event, payload.into()).map_err(|_| json!({"payload": ["is invalid"]}))?;
    Ok(Checked { name: ChannelName { name: channel_name(topic).into(), private }, broadcast })
}

async fn take_single(
    app: &App,
    name: ChannelName,
    event: &str,
    is_kept: bool,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(), Refused> {
    check_open(app)?;
    let identity = identity(app, headers).await?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let encoding = match content_type.as_str() {
        "" | "application/json" => Encoding::Json,
        "application/octet-stream" => Encoding::Binary,
        _ => {
            let text = "Unsupported Media Type. Use application/json or application/octet-stream";
            let (status, body) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, json!({"error": text}));
            return Err(Refused { status, body, reason: "rest_media_type" });
        }
    };
    let body = body_of(body)?;
    if body.len() > app.session.max_payload_bytes {
        return Err(Refused::errors(&json!({"payload": [TOO_LARGE]})));
    }
    if name.name.is_empty() || event.is_empty() {
        return Err(Refused::errors(&json!({"topic": ["can't be blank"]})));
    }
    let payload = match encoding {
        Encoding::Binary => body,
        Encoding::Json => object(body)?,
    };
    if is_kept && !name.private {
        return Err(Refused::errors(&json!({"persist": ["can only be used on private channels"]})));
    }
    if name.private {
        let rights = rights(app, &identity, &name, headers).await?;
        if !rights.broadcast.write {
            return Err(Refused::not_allowed());
        }
    }
    let broadcast = UserBroadcast::new(event, encoding, payload);
    let broadcast = broadcast.map_err(|_| Refused::errors(&json!({"payload": ["is invalid"]})))?;
    let mut broadcast = Broadcast::User(broadcast);
    let stored = if is_kept { message_to_store(&mut broadcast) } else { None };
    publish(app, vec![(name.clone(), broadcast)]).await?;
    let Some(message) = stored else { return Ok(()) };
    match persist(app, &identity.principal, &name, &x_headers(headers), message).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refused::not_allowed()),
        Err(_) => Err(Refused::no_database()),
    }
}

/// A value that is no object reaches subscribers in one.
fn object(body: Bytes) -> Result<Bytes, Refused> {
    if body.is_empty() {
        return Err(Refused::errors(&json!({"payload": ["can't be blank"]})));
    }
    let value: Value =
        serde_json::from_slice(&body).map_err(|_| Refused::errors(&json!({"payload": ["is invalid"]})))?;
    Ok(if value.is_object() { body } else { json!({"_json": value}).to_string().into() })
}

async fn rights(app: &App, identity: &Identity, name: &ChannelName, headers: &HeaderMap) -> Result<Rights, Refused> {
    let rights = member::rights(app, &identity.principal, name, &x_headers(headers)).await;
    rights.map_err(|error| {
        tracing::debug!(%error, "nobody says who may send to a channel");
        Refused::no_database()
    })
}

/// Hands messages to the bus, in their order, and waits until it has them all.
async fn publish(app: &App, messages: Vec<(ChannelName, Broadcast)>) -> Result<(), Refused> {
    let handing = async {
        let mut handed = Vec::with_capacity(messages.len());
        for (name, broadcast) in messages {
            app.metrics.ws.published.with_label_values(&["rest"]).inc();
            let envelope = Envelope { origin: None, broadcast };
            handed.push(app.topics.bus().publish(&app.topics.channel(&name), envelope.encode()).await?);
        }
        Ok::<_, BusError>(handed)
    };
    let late = |_| BusError::Unavailable("the bus did not take a broadcast in time", None);
    let taken = async {
        let handed = tokio::time::timeout(PUBLISH_DEADLINE, handing).await.map_err(late)??;
        tokio::time::timeout(PUBLISH_DEADLINE, futures::future::try_join_all(handed)).await.map_err(late)?
    };
    taken.await.map(|_| ()).map_err(|error| match error {
        // What the bus takes may be less than what a tenant's client may send.
        BusError::TooLarge(_) => Refused::errors(&json!({"payload": [TOO_LARGE]})),
        error => {
            tracing::warn!(%error, "a broadcast was not taken");
            Refused::message(StatusCode::INTERNAL_SERVER_ERROR, "RPC error", "rest_bus")
        }
    })
}
