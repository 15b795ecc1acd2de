//! Connection after connection, each beginning where the one before ended.

use std::time::Duration;

use reactor_protocol::sse::{SseEvent, SseParser};
use reactor_runtime::clock;
use reqwest::{Client, Response};

use super::args::SubscribeArgs;
use super::ended::{Ended, Problem};
use super::line;
use super::request::Request;
use super::retry::Retry;
use crate::auth::TokenSource;
use crate::exit::{Failure, Outcome};
use crate::gateway;
use crate::output::{note, print, printable};

/// How events are shown.
#[derive(Clone, Copy, Debug)]
struct Form {
    json: bool,
    heartbeats: bool,
}

/// Follows one subscription over any number of connections.
pub(super) struct Session {
    client: Client,
    request: Request,
    token: TokenSource,
    form: Form,
    reconnect: bool,
    idle: Duration,
    /// Changes that are still to come; `None` for no end.
    left: Option<u64>,
    last_id: Option<String>,
    retry: Retry,
}

/// Why a connection is no longer read.
enum Stop {
    Ended(Ended),
    /// As many changes came as were wanted.
    Counted,
}

impl Session {
    pub(super) fn new(args: SubscribeArgs) -> Outcome<Self> {
        let request = Request::new(&args)?;
        let given = args.token.filter(|token| !token.is_empty());
        Ok(Self {
            client: gateway::client()?,
            token: TokenSource::new(given, request.url()),
            request,
            form: Form { json: args.json, heartbeats: args.verbose },
            reconnect: !args.no_reconnect,
            idle: args.idle_timeout,
            left: args.count,
            last_id: args.last_event_id.filter(|id| !id.is_empty()),
            retry: Retry::new(),
        })
    }

    /// Reads until as many changes came as were wanted, or until trying again has no sense.
    pub(super) async fn follow(&mut self) -> Outcome {
        loop {
            let ended = match self.one_connection().await? {
                Stop::Counted => return Ok(()),
                Stop::Ended(ended) => ended,
            };
            if !self.reconnect || !ended.may_retry() {
                return Err(Failure::failed(self.last_words(&ended)));
            }
            let pause = self.retry.pause(ended.retry_after());
            let from = self.last_id.as_ref().map(|_| ", after the last event").unwrap_or_default();
            note(format_args!("reactor: {ended}; connecting again in {:.1} s{from}", pause.as_secs_f64()));
            tokio::time::sleep(pause).await;
        }
    }

    fn last_words(&self, ended: &Ended) -> String {
        match &self.last_id {
            Some(id) => format!("{ended}\n  to go on from here: --last-event-id {}", printable(id)),
            None => ended.to_string(),
        }
    }

    async fn one_connection(&mut self) -> Outcome<Stop> {
        // Looked up for each connection: a login meanwhile gives a new one.
        let token = self.token.token()?;
        match self.request.open(&self.client, &token, self.last_id.as_deref()).await {
            Ok(response) => self.read(response).await,
            Err(ended) => Ok(Stop::Ended(ended)),
        }
    }

    async fn read(&mut self, mut response: Response) -> Outcome<Stop> {
        let mut parser = SseParser::default();
        loop {
            let chunk = match tokio::time::timeout(self.idle, response.chunk()).await {
                Err(_) => return Ok(Stop::Ended(Ended::Idle(self.idle))),
                Ok(Err(error)) => return Ok(Stop::Ended(Ended::Broken(gateway::reason(&error)))),
                Ok(Ok(None)) => return Ok(Stop::Ended(Ended::Closed)),
                Ok(Ok(Some(chunk))) => chunk,
            };
            if let Some(stop) = self.take(parser.push(&chunk))? {
                return Ok(stop);
            }
        }
    }

    /// Shows events that came together in one write, and notes what they say.
    fn take(&mut self, events: Vec<SseEvent>) -> Outcome<Option<Stop>> {
        let mut text = String::new();
        let mut stop = None;
        for event in events {
            if let Some(millis) = event.retry {
                self.retry.note_asked(millis);
            }
            if is_only_retry(&event) {
                continue;
            }
            if let Some(line) = self.form.line(&event) {
                text.push_str(&line);
            }
            if let Some(id) = &event.id {
                self.last_id = Some(id.clone()).filter(|id| !id.is_empty());
            }
            stop = self.note_event(&event);
            if stop.is_some() {
                break;
            }
        }
        if !text.is_empty() {
            print(text)?;
        }
        Ok(stop)
    }

    fn note_event(&mut self, event: &SseEvent) -> Option<Stop> {
        match event.event.as_str() {
            "insert" | "update" | "delete" | "truncate" => {
                self.retry.note_success();
                let left = self.left.as_mut()?;
                *left = left.saturating_sub(1);
                (*left == 0).then_some(Stop::Counted)
            }
            "error" => Some(Stop::Ended(Ended::Told(Problem::read(event.data.as_bytes())))),
            // The first event of a connection says little; a server that ends each connection after it is not hurried.
            "ready" => None,
            _ => {
                self.retry.note_success();
                None
            }
        }
    }
}

impl Form {
    fn line(self, event: &SseEvent) -> Option<String> {
        if event.event == "heartbeat" && !self.heartbeats {
            return None;
        }
        Some(if self.json { line::json(event) } else { line::human(event, clock::system_now()) })
    }
}

/// A block with nothing but `retry:` is no event.
fn is_only_retry(event: &SseEvent) -> bool {
    event.retry.is_some() && event.data.is_empty() && event.event == "message"
}
