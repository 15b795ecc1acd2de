//! A client of Server-Sent Events that shows what was sent, and does nothing by itself.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::HeaderMap;
use reactor_protocol::sse::{SseEvent, SseParser};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};
use serde_json::Value;

/// How long an answer's headers may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A request for a stream of events.
#[derive(Clone, Debug)]
pub struct SseRequest {
    method: http::Method,
    url: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Option<Value>,
    h2c: bool,
}

impl SseRequest {
    /// `GET url`.
    pub fn get(url: impl Into<String>) -> Self {
        let (query, headers) = (Vec::new(), Vec::new());
        Self { method: http::Method::GET, url: url.into(), query, headers, body: None, h2c: false }
    }

    /// `POST url` with a JSON body.
    pub fn post(url: impl Into<String>, body: Value) -> Self {
        Self { method: http::Method::POST, body: Some(body), ..Self::get(url) }
    }

    /// Adds one header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds one query parameter; escaped here.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer`.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Adds `X-Reactor-Org`.
    #[must_use]
    pub fn org(self, org: &str) -> Self {
        self.header("x-reactor-org", org)
    }

    /// Adds `Last-Event-ID`.
    #[must_use]
    pub fn last_event_id(self, id: &str) -> Self {
        self.header("last-event-id", id)
    }

    /// Speaks HTTP/2 without TLS instead of HTTP/1.1.
    #[must_use]
    pub fn h2c(mut self) -> Self {
        self.h2c = true;
        self
    }

    /// Sends it and gives whatever is answered.
    pub async fn send(&self) -> Result<Response> {
        let builder = client_builder();
        let client = if self.h2c { builder.http2_prior_knowledge() } else { builder.http1_only() }.build()?;
        let sending = self.build(&client).send();
        tokio::time::timeout(ANSWER_WITHIN, sending).await.context("no answer in time")?.context("cannot connect")
    }

    /// Sends it and expects an answer that is not 200: its status and JSON body.
    pub async fn refused(&self) -> Result<(u16, Value)> {
        let response = self.send().await?;
        let status = response.status().as_u16();
        ensure!(status != 200, "expected a refusal, got 200");
        let body = response.bytes().await?;
        let text = String::from_utf8_lossy(&body);
        let json = serde_json::from_slice(&body).with_context(|| format!("{status} without JSON: {text}"))?;
        Ok((status, json))
    }

    /// Sends it and expects a stream.
    pub async fn open(&self) -> Result<SseClient> {
        let response = self.send().await?;
        let status = response.status();
        if status != 200 {
            bail!("{status}: {}", response.text().await.unwrap_or_default());
        }
        let kind = response.headers().get(http::header::CONTENT_TYPE).cloned();
        ensure!(
            kind.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")),
            "the answer is not an event stream but {kind:?}"
        );
        Ok(SseClient { response, parser: SseParser::default(), read: VecDeque::new(), last_id: None, retry: None })
    }

    fn build(&self, client: &Client) -> RequestBuilder {
        let mut request = client.request(self.method.clone(), &self.url).query(&self.query);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match &self.body {
            Some(body) => request.json(body),
            None => request,
        }
    }
}

/// An open stream of events; closed with this value.
#[derive(Debug)]
pub struct SseClient {
    response: Response,
    parser: SseParser,
    read: VecDeque<SseEvent>,
    last_id: Option<String>,
    retry: Option<u64>,
}

impl SseClient {
    /// The answer's headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The newest `id:` seen: what a resuming client sends.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The newest `retry:` seen, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// The next event, heartbeats too; fails when none comes in time and when the stream ends.
    pub async fn next(&mut self, within: Duration) -> Result<SseEvent> {
        self.next_or_end(within).await?.context("the stream has ended")
    }

    /// The next event, or `None` when the server has ended the stream; fails when neither comes in time.
    pub async fn next_or_end(&mut self, within: Duration) -> Result<Option<SseEvent>> {
        let reading = self.read_next();
        tokio::time::timeout(within, reading).await.with_context(|| format!("no event within {within:?}"))?
    }

    /// The next event of this name; every event before it must be a heartbeat.
    pub async fn expect(&mut self, name: &str, within: Duration) -> Result<SseEvent> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let event = self.next(left).await.with_context(|| format!("waiting for {name}"))?;
            if event.event == name {
                return Ok(event);
            }
            ensure!(event.event == "heartbeat", "expected {name}, got {}: {}", event.event, event.data);
        }
    }

    /// All events up to and including the first for which `done` holds.
    pub async fn collect_until(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&SseEvent) -> bool,
    ) -> Result<Vec<SseEvent>> {
        let deadline = tokio::time::Instant::now() + within;
        let mut events = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let event = self.next(left).await.with_context(|| format!("after {} events", events.len()))?;
            let last = done(&event);
            events.push(event);
            if last {
                return Ok(events);
            }
        }
    }

    /// Checks that nothing but heartbeats comes for a while.
    pub async fn expect_silence(&mut self, during: Duration) -> Result<()> {
        let deadline = tokio::time::Instant::now() + during;
        loop {
            match tokio::time::timeout_at(deadline, self.read_next()).await {
                Err(_) => return Ok(()),
                Ok(event) => match event? {
                    Some(event) if event.event == "heartbeat" => {}
                    Some(event) => bail!("expected silence, got {}: {}", event.event, event.data),
                    None => bail!("the stream has ended"),
                },
            }
        }
    }

    async fn read_next(&mut self) -> Result<Option<SseEvent>> {
        loop {
            while let Some(event) = self.read.pop_front() {
                self.retry = event.retry.or(self.retry);
                if event.id.is_some() {
                    self.last_id.clone_from(&event.id);
                }
                // A block with nothing but `retry:` is no event.
                if !(event.data.is_empty() && event.retry.is_some()) {
                    return Ok(Some(event));
                }
            }
            match self.response.chunk().await.context("the stream has broken")? {
                Some(chunk) => self.read.extend(self.parser.push(&chunk)),
                None => return Ok(None),
            }
        }
    }
}

/// The data of an event as JSON.
pub fn data(event: &SseEvent) -> Result<Value> {
    serde_json::from_str(&event.data)
        .with_context(|| format!("the data of {} is not JSON: {}", event.event, event.data))
}

/// A client for plain requests.
pub fn http_client() -> Result<Client> {
    Ok(client_builder().build()?)
}

fn client_builder() -> ClientBuilder {
    // The process may have one already; then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Each request has a connection of its own, so that closing the one closes the other.
    Client::builder().no_proxy().pool_max_idle_per_host(0).tcp_nodelay(true)
}
