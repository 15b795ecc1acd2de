//! `GET /realtime/v1/websocket`: who may open a connection, and what those who may not are told.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use reactor_protocol::wire::WireVersion;
use reactor_runtime::metrics::IntGauge;
use sha1::{Digest, Sha1};
use tracing::Instrument;

use super::connection::{Connection, Opened};
use super::deflate::{self, Compression};
use super::identify;
use super::socket::Socket;
use crate::transport::App;

/// Of RFC 6455, 1.3.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a connection is refused.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    /// Empty for a refusal without a body.
    text: String,
    reason: &'static str,
}

impl Refused {
    fn new(status: StatusCode, text: impl Into<String>, reason: &'static str) -> Self {
        Self { status, text: text.into(), reason }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        if self.text.is_empty() {
            return self.status.into_response();
        }
        let mut response = (self.status, axum::Json(serde_json::json!({"error": self.text}))).into_response();
        if self.status == StatusCode::UPGRADE_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        response
    }
}

/// Answers a request for a connection.
pub(crate) async fn upgrade(State(app): State<Arc<App>>, mut request: Request) -> Response {
    match accept(&app, &mut request).await {
        Ok(response) => response,
        Err(refused) => {
            app.metrics.ws.refused.with_label_values(&[refused.reason]).inc();
            tracing::debug!(reason = refused.reason, "a connection was refused");
            refused.into_response()
        }
    }
}

async fn accept(app: &Arc<App>, request: &mut Request) -> Result<Response, Refused> {
    let accept_key = handshake(request)?;
    let query: Vec<(String, String)> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let parameter = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let version = WireVersion::from_vsn(parameter("vsn"))
        .ok_or_else(|| Refused::new(StatusCode::FORBIDDEN, "", "unknown_version"))?;
    if !app.settings.enabled {
        return Err(Refused::new(StatusCode::FORBIDDEN, "Realtime was disabled for this tenant", "disabled"));
    }
    if app.refuse.is_cancelled() {
        let text = "RealtimeRestarting: Realtime is restarting, please standby";
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, text, "draining"));
    }
    let headers = request.headers();
    let agreed = if app.settings.websocket_compression { agree(headers) } else { None };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let token = identify::trimmed(header("x-api-key").or_else(|| parameter("apikey")).unwrap_or_default());
    let identity = identify::verify(&app.verifier, &token).await.map_err(|error| {
        let (status, text) = identify::upgrade_refusal(&error, &token);
        Refused::new(StatusCode::from_u16(status).unwrap_or(StatusCode::UNAUTHORIZED), text, "token")
    })?;
    let opened = Opened {
        version,
        token,
        identity: Arc::new(identity),
        org: header("x-reactor-org").or_else(|| parameter("org")).filter(|org| !org.is_empty()).map(str::to_owned),
        headers: x_headers(headers).into(),
        compression: if agreed.is_some() { Compression::Deflate } else { Compression::None },
    };
    let open = app
        .open_connection()
        .map_err(|_| Refused::new(StatusCode::TOO_MANY_REQUESTS, "Too many connected users", "connections"))?;
    let compression = opened.compression;
    let connection = Connection::new(Arc::clone(app), opened);
    let upgrading = hyper::upgrade::on(request);
    let mut gauges = vec![app.metrics.ws.connections.clone()];
    gauges.extend(agreed.is_some().then(|| app.metrics.ws.compressed.clone()));
    let span = tracing::info_span!("socket", tenant = %app.feed.tenant());
    let serving = async move {
        match upgrading.await {
            Ok(upgraded) => {
                gauges.iter().for_each(IntGauge::inc);
                Box::pin(connection.run(Socket::new(TokioIo::new(upgraded), compression))).await;
                gauges.iter().for_each(IntGauge::dec);
            }
            Err(error) => tracing::debug!(%error, "a connection went away before it was open"),
        }
        drop(open);
    };
    app.connections.spawn(serving.instrument(span));
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept_key),
    ];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response();
    if let Some(agreed) = agreed {
        response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(agreed));
    }
    Ok(response)
}

/// The answer to the extensions that are offered.
fn agree(headers: &HeaderMap) -> Option<&'static str> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    deflate::negotiate(offers.filter_map(|offers| offers.to_str().ok()))
}

/// Checks the opening handshake (RFC 6455, 4.2.1) and gives the key that accepts it.
fn handshake(request: &Request) -> Result<HeaderValue, Refused> {
    let headers = request.headers();
    let has = |name: header::HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    let only = |name: header::HeaderName| {
        let mut values = headers.get_all(name).into_iter();
        values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
    };
    if request.version() != http::Version::HTTP_11 {
        let text = "A WebSocket is opened with HTTP/1.1";
        return Err(Refused::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, text, "handshake"));
    }
    if only(header::HOST).is_none() {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "Host is missing", "handshake"));
    }
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket endpoint", "handshake"));
    }
    if only(header::SEC_WEBSOCKET_VERSION).map(<[u8]>::trim_ascii) != Some(b"13") {
        return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13", "handshake"));
    }
    let key = only(header::SEC_WEBSOCKET_KEY).unwrap_or_default();
    let decoded = base64::engine::general_purpose::STANDARD.decode(key).ok();
    if decoded.is_none_or(|key| key.len() != 16) {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing or not valid", "handshake"));
    }
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    HeaderValue::from_str(&accept)
        .map_err(|_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "Error connecting to Realtime", "handshake"))
}

/// The headers that begin with `x-`, for policies; the token is in the claims.
pub(super) fn x_headers(headers: &HeaderMap) -> String {
    let mut object = serde_json::Map::new();
    for (name, value) in headers {
        if let (true, Ok(value)) = (name.as_str().starts_with("x-"), value.to_str()) {
            object.insert(name.as_str().to_owned(), value.into());
        }
    }
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let request =
            headers.iter().fold(http::Request::builder(), |request, (name, value)| request.header(*name, *value));
        request.body(Body::empty()).expect("a request")
    }

    #[test]
    fn section_1_3_the_accept_key() {
        let request = request(&[
            ("host", "x"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        assert_eq!(handshake(&request).expect("good"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn section_4_2_1_requests_that_are_no_handshake() {
        let good = [
            ("host", "x"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (index, status) in [(0, 400), (1, 426), (2, 426), (3, 426), (4, 400)] {
            let mut headers = good.to_vec();
            headers.remove(index);
            assert_eq!(handshake(&request(&headers)).expect_err("bad").status.as_u16(), status);
        }
    }
}
