//! The payload of `phx_join`, read as leniently as the reference server does: a member of a wrong type is as good as none.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::action::{Replay, Token};
use super::bindings::Bindings;
use super::settings::SessionSettings;
use crate::audience::{Style, channel_name};
use crate::json::flexible_bool;
use crate::replay::MAX_REPLAYED;
use crate::wire::Frame;

/// Bytes of a presence key; it is kept, and sent to every member.
const MAX_KEY_BYTES: usize = 1024;

/// How long a join may wait for its row changes, and when it does not say.
const MAX_WAIT: Duration = Duration::from_secs(20);
const DEFAULT_WAIT_MS: u64 = 15_000;

/// What a join asks for.
#[derive(Debug)]
pub(super) struct JoinPayload {
    pub(super) style: Style,
    pub(super) token: Option<Token>,
    pub(super) private: bool,
    pub(super) ack: bool,
    pub(super) own: bool,
    pub(super) replication_ready: bool,
    pub(super) replay: Option<Result<Replay, BadReplay>>,
    pub(super) presence_enabled: bool,
    pub(super) presence_key: Option<Arc<str>>,
    pub(super) bindings: Bindings,
    pub(super) since: Option<String>,
    pub(super) wait: Option<Duration>,
}

/// `replay` without a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadReplay;

impl JoinPayload {
    pub(super) fn read(frame: &Frame, payload: &Value, settings: &SessionSettings) -> Self {
        let empty = Map::new();
        let object = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
        let payload = payload.as_object().unwrap_or(&empty);
        let Some(config) = payload.get("config") else { return Self::legacy(frame, payload, settings) };
        let config = config.as_object().unwrap_or(&empty);
        let is_bare = frame.join_ref.is_none() && !config.contains_key("broadcast");
        let style = if is_bare { Style::Bare } else { Style::Standard };
        let (broadcast, presence) = (object(config.get("broadcast")), object(config.get("presence")));
        let options = object(config.get("postgres_changes_options"));
        let flag = |value| flexible_bool(value).unwrap_or(false);
        // Bare clients, and libraries older than the member `enabled`, say no more than this.
        let names_presence = config.get("presence").is_some_and(Value::is_object);
        let wait_ms = options.get("timeout").and_then(Value::as_u64).unwrap_or(DEFAULT_WAIT_MS);
        Self {
            style,
            token: token(payload),
            private: flag(config.get("private")),
            ack: flag(broadcast.get("ack")),
            own: flag(broadcast.get("self")),
            replication_ready: flag(broadcast.get("replication_ready")),
            replay: broadcast.get("replay").filter(|replay| !replay.is_null()).map(replay),
            presence_enabled: flexible_bool(presence.get("enabled"))
                .unwrap_or(names_presence || settings.presence_enabled),
            presence_key: key(presence.get("key")),
            bindings: Bindings::read(config.get("postgres_changes"), settings.max_bindings),
            since: options.get("since").and_then(Value::as_str).map(str::to_owned),
            wait: flag(options.get("wait")).then(|| Duration::from_millis(wait_ms).min(MAX_WAIT)),
        }
    }

    /// A join without `config`: the topic names what is asked for, `schema`, `schema:table` or `schema:table:filter`.
    fn legacy(frame: &Frame, payload: &Map<String, Value>, settings: &SessionSettings) -> Self {
        let mut entry = Map::new();
        let parts = channel_name(&frame.topic).splitn(3, ':');
        for (name, part) in ["schema", "table", "filter"].into_iter().zip(parts) {
            entry.insert(name.to_owned(), Value::from(part));
        }
        Self {
            style: Style::Legacy,
            token: token(payload),
            private: false,
            ack: false,
            own: false,
            replication_ready: false,
            replay: None,
            presence_enabled: false,
            presence_key: None,
            bindings: Bindings::read(Some(&json!([entry])), settings.max_bindings.max(1)),
            since: None,
            wait: None,
        }
    }
}

/// `user_token` comes first; keys of the newer kind (`sb_…`) stand for the connection's own token.
fn token(payload: &Map<String, Value>) -> Option<Token> {
    let text = |name| payload.get(name).and_then(Value::as_str);
    let token = text("user_token").or_else(|| text("access_token"))?;
    (!token.starts_with("sb_")).then(|| Token::new(token))
}

fn replay(value: &Value) -> Result<Replay, BadReplay> {
    let since_ms = value.get("since").and_then(Value::as_i64).ok_or(BadReplay)?;
    let limit = match value.get("limit") {
        None | Some(Value::Null) => MAX_REPLAYED,
        Some(limit) => {
            let limit = limit.as_i64().ok_or(BadReplay)?;
            u32::try_from(limit.clamp(1, i64::from(MAX_REPLAYED))).unwrap_or(MAX_REPLAYED)
        }
    };
    Ok(Replay { since_ms, limit })
}

/// A key that is no text is taken as its JSON; without one the session makes one up.
fn key(value: Option<&Value>) -> Option<Arc<str>> {
    let key = match value? {
        Value::String(key) => key.clone(),
        other @ (Value::Number(_) | Value::Bool(_)) => other.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (!key.is_empty() && key.len() <= MAX_KEY_BYTES).then(|| key.into())
}
