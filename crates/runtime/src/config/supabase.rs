//! The variables of the supabase/realtime container, so that ours can take its place with its environment. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use sha2::{Digest, Sha256};

/// How the value of an alias differs from that of our own variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Not at all.
    Same,
    /// A port without an address.
    Port,
    /// One of Elixir's log levels.
    LogLevel,
    /// A JSON array with one name in it.
    ArrayOfOne,
    /// Any text, from which a key is made.
    KeyFromText,
}

impl Form {
    /// The value as our own variable would have it.
    pub(super) fn convert(self, text: &str) -> Result<String, String> {
        match self {
            Self::Same => Ok(text.to_owned()),
            Self::Port => match text.parse::<u16>() {
                Ok(port) => Ok(format!("0.0.0.0:{port}")),
                Err(_) => Err("expected a port up to 65535".to_owned()),
            },
            Self::LogLevel => match text {
                "emergency" | "alert" | "critical" => Ok("error".to_owned()),
                "warning" => Ok("warn".to_owned()),
                "notice" => Ok("info".to_owned()),
                "error" | "info" | "debug" => Ok(text.to_owned()),
                _ => Err("expected debug, info, notice, warning, error, critical, alert or emergency".to_owned()),
            },
            Self::ArrayOfOne => match serde_json::from_str::<Vec<String>>(text).as_deref() {
                Ok([name]) => Ok(name.clone()),
                _ => Err("expected a JSON array with one name, such as [\"supabase_realtime\"]".to_owned()),
            },
            Self::KeyFromText => Ok(base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text))),
        }
    }
}

/// A value that several variables together give.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Derived {
    pub key: &'static str,
    pub from: &'static str,
    pub value: Result<String, String>,
}

/// What several variables together say. Used only where no single variable says it.
pub(super) fn derived(env: &BTreeMap<String, String>) -> Vec<Derived> {
    let get = |name: &str| env.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let mut all = Vec::new();
    if let Some(host) = get("DB_HOST") {
        all.push(Derived { key: "data.database_url", from: "DB_HOST", value: database_url(host, get) });
    }
    if let (Some("true" | "1"), Some(secret)) = (get("SEED_SELF_HOST"), get("API_JWT_SECRET")) {
        all.push(Derived { key: "auth.jwt_secret", from: "API_JWT_SECRET", value: Ok(secret.to_owned()) });
    }
    all
}

fn database_url<'a>(host: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<String, String> {
    let port = get("DB_PORT").unwrap_or("5432");
    if port.parse::<u16>().is_err() {
        return Err("DB_PORT: expected a port up to 65535".to_owned());
    }
    let ssl = match get("DB_SSL") {
        None => "",
        Some("true") => "?sslmode=require",
        Some("false") => "?sslmode=disable",
        Some(_) => return Err("DB_SSL: expected true or false".to_owned()),
    };
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let user = percent_encode(get("DB_USER").unwrap_or("postgres"));
    let password = get("DB_PASSWORD").map(|password| format!(":{}", percent_encode(password))).unwrap_or_default();
    let name = percent_encode(get("DB_NAME").unwrap_or("postgres"));
    Ok(format!("postgres://{user}{password}@{host}:{port}/{name}{ssl}"))
}

fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Variables that together give the database's address, with what each is.
pub(crate) const DATABASE_PARTS: &[(&str, &str)] = &[
    ("DB_HOST", "host; without it the others are not looked at"),
    ("DB_PORT", "port, 5432"),
    ("DB_USER", "user, postgres"),
    ("DB_PASSWORD", "password"),
    ("DB_NAME", "database, postgres"),
    ("DB_SSL", "`true` is `sslmode=require`, `false` is `sslmode=disable`"),
];

/// Variables of the container that are accepted and change nothing, with the reason.
pub(crate) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("APP_NAME, DNS_NODES, CLUSTER_STRATEGIES, ERL_AFLAGS, RPC_TIMEOUT, GEN_RPC_*", "there is no Erlang cluster"),
    (
        "CHANNEL_ERROR_BACKOFF_MS, CONNECT_ERROR_BACKOFF_MS, DB_RECONNECT_BACKOFF_MIN, DB_RECONNECT_BACKOFF_MAX",
        "retries have their own backoff",
    ),
    (
        "DB_AFTER_CONNECT_QUERY, DB_POOL_SIZE, DB_QUEUE_TARGET, DB_QUEUE_INTERVAL, DB_REPLICA_HOST, DB_MASTER_REGION, REGION",
        "there is no control database",
    ),
    ("DB_ENC_WRITE_GCM", "secrets are always encrypted with AES-256-GCM"),
    ("DB_IP_VERSION", "the host's addresses are tried in turn"),
    (
        "EXPOSE_METRICS, METRICS_JWT_SECRET, METRICS_TOKEN_BLOCKLIST, METRICS_PUSHER_*, PROM_POLL_RATE",
        "metrics are on the admin port, which is not for the public",
    ),
    (
        "JANITOR_*, RUN_JANITOR, MIGRATION_PARTITION_SLOTS, METRICS_CLEANER_SCHEDULE_TIMER_IN_MS",
        "the partitions of realtime.messages are looked after every hour; REACTOR_REALTIME_INSTALL_SCHEMA=false switches that off",
    ),
    ("MAX_CHANGES, REPLICATION_POLL_INTERVAL, SUBSCRIPTION_SYNC_INTERVAL", "changes are streamed, not polled"),
    ("MAX_RECORD_BYTES", "`realtime.max_payload_bytes` bounds events of SSE; a WebSocket record is bounded at 1 MiB"),
    ("MAX_HEADER_LENGTH, NUM_ACCEPTORS, WEBSOCKET_MAX_HEAP_SIZE", "these are fixed"),
    ("REPLICATION_MODE", "both modes are always served"),
    ("SECRET_KEY_BASE", "no cookies are signed"),
    ("SECURE_CHANNELS", "every subscription needs a token"),
    ("SLOT_NAME_SUFFIX, TEMPORARY_SLOT", "the slot is permanent, and its name ends with its epoch"),
];

/// What a value asks for that is not done, and would be missed.
pub(super) fn warnings(env: &BTreeMap<String, String>) -> Vec<String> {
    let is = |name: &str, value: &str| env.get(name).is_some_and(|text| text == value);
    let mut warnings = Vec::new();
    if is("SECURE_CHANNELS", "false") {
        warnings.push("SECURE_CHANNELS=false has no effect: every subscription needs a token".to_owned());
    }
    if is("TEMPORARY_SLOT", "true") {
        warnings.push(
            "TEMPORARY_SLOT=true has no effect: the slot stays, so that nothing is lost over a restart".to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn parts_make_an_address() {
        let all = env(&[
            ("DB_HOST", "db.example"),
            ("DB_PORT", "6543"),
            ("DB_USER", "supabase_admin"),
            ("DB_PASSWORD", "p@ss/word?"),
            ("DB_NAME", "app db"),
            ("DB_SSL", "true"),
        ]);
        let url = "postgres://supabase_admin:p%40ss%2Fword%3F@db.example:6543/app%20db?sslmode=require";
        assert_eq!(derived(&all)[0].value.as_deref(), Ok(url));
        let few = derived(&env(&[("DB_HOST", "::1")]));
        assert_eq!(few[0].value.as_deref(), Ok("postgres://postgres@[::1]:5432/postgres"));
        assert_eq!(derived(&env(&[("DB_PORT", "5432")])), []);
        assert!(derived(&env(&[("DB_HOST", "h"), ("DB_PORT", "x")]))[0].value.is_err());
        assert!(derived(&env(&[("DB_HOST", "h"), ("DB_SSL", "maybe")]))[0].value.is_err());
    }

    #[test]
    fn the_api_secret_verifies_clients_when_the_container_seeds_its_own_tenant() {
        assert_eq!(derived(&env(&[("API_JWT_SECRET", "s")])), []);
        let seeded = derived(&env(&[("API_JWT_SECRET", "s"), ("SEED_SELF_HOST", "true")]));
        assert_eq!((seeded[0].key, seeded[0].value.as_deref()), ("auth.jwt_secret", Ok("s")));
    }

    #[test]
    fn forms_are_converted() {
        assert_eq!(Form::Port.convert("4000").as_deref(), Ok("0.0.0.0:4000"));
        assert!(Form::Port.convert("99999").is_err());
        assert_eq!(Form::LogLevel.convert("critical").as_deref(), Ok("error"));
        assert!(Form::LogLevel.convert("loud").is_err());
        assert_eq!(Form::ArrayOfOne.convert(r#"["a"]"#).as_deref(), Ok("a"));
        assert!(Form::ArrayOfOne.convert(r#"["a","b"]"#).is_err());
        assert_eq!(Form::KeyFromText.convert("supabaserealtime").map(|key| key.len()), Ok(44));
    }
}
