//! The kinds of values that settings have, and how their text is read. Pure.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use reactor_model::TenantId;
use tracing_subscriber::EnvFilter;

use super::rules::{self, PolicyRule};
use super::types::CorsOrigins;
use super::url;

/// Longest name that Postgres takes without cutting it.
const MAX_PG_NAME_BYTES: usize = 63;

/// What a setting's text must look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text but an empty one.
    Text,
    /// A tenant's identifier.
    Tenant,
    /// A name in Postgres.
    PgName,
    /// Part of a slot's name, where only these characters may stand.
    SlotPrefix,
    /// An address to listen on.
    Address,
    /// One address with one of these schemes.
    Url(&'static [&'static str]),
    /// One or more such addresses, separated by commas.
    Urls(&'static [&'static str]),
    /// A Postgres address, or its keyword form.
    DatabaseUrl,
    /// A whole number.
    Count {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// Seconds, with or without a fraction.
    Seconds {
        /// Least.
        min: f64,
        /// Most.
        max: f64,
    },
    /// Whole milliseconds.
    Millis {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// True or false.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A JSON object.
    JsonObject,
    /// A JSON array of rules.
    Rules,
    /// `*`, or origins separated by commas.
    Origins,
    /// Base64 of 32 bytes.
    Key,
    /// A file or folder.
    Path,
    /// Directives of the log filter.
    LogFilter,
}

/// A setting's value after reading.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Tenant(TenantId),
    Address(SocketAddr),
    Count(u64),
    Duration(Duration),
    Switch(bool),
    Object(serde_json::Map<String, serde_json::Value>),
    Rules(Vec<PolicyRule>),
    Origins(CorsOrigins),
    Key([u8; 32]),
    Path(PathBuf),
}

impl Kind {
    /// Reads a text. The error says what was expected, one problem a line, and never quotes the text, which may be a
    /// secret.
    pub(super) fn read(self, text: &str) -> Result<Value, String> {
        let expected = || format!("expected {self}");
        match self {
            Self::Text if !text.is_empty() => Ok(Value::Text(text.to_owned())),
            Self::Tenant => text.parse().map(Value::Tenant).map_err(|_| expected()),
            Self::PgName if is_pg_name(text) => Ok(Value::Text(text.to_owned())),
            Self::SlotPrefix if is_slot_prefix(text) => Ok(Value::Text(text.to_owned())),
            Self::Address => text.parse().map(Value::Address).map_err(|_| expected()),
            Self::Url(schemes) => checked(text, url::check(text, schemes)),
            Self::Urls(schemes) => checked(text, text.split(',').try_for_each(|part| url::check(part.trim(), schemes))),
            Self::DatabaseUrl => checked(text, url::check_database(text)),
            Self::Count { min, max } => {
                text.parse().ok().filter(|n| (min..=max).contains(n)).map(Value::Count).ok_or_else(expected)
            }
            Self::Seconds { min, max } => {
                let seconds = text.parse::<f64>().ok().filter(|n| (min..=max).contains(n));
                seconds.map(|n| Value::Duration(Duration::from_secs_f64(n))).ok_or_else(expected)
            }
            Self::Millis { min, max } => {
                let millis = text.parse::<u64>().ok().filter(|n| (min..=max).contains(n));
                millis.map(|n| Value::Duration(Duration::from_millis(n))).ok_or_else(expected)
            }
            Self::Switch => read_switch(text).map(Value::Switch).ok_or_else(expected),
            Self::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::JsonObject => serde_json::from_str(text).map(Value::Object).map_err(|_| expected()),
            Self::Rules => rules::read(text).map(Value::Rules),
            Self::Origins => read_origins(text).map(Value::Origins),
            Self::Key => read_key(text).map(Value::Key).ok_or_else(expected),
            Self::Path if !text.is_empty() => Ok(Value::Path(text.into())),
            Self::LogFilter => EnvFilter::try_new(text).map(|_| Value::Text(text.to_owned())).map_err(|_| expected()),
            Self::Text | Self::PgName | Self::SlotPrefix | Self::Choice(_) | Self::Path => Err(expected()),
        }
    }

    /// Placeholder of the value in `--help`.
    pub(super) fn value_name(self) -> &'static str {
        match self {
            Self::Text | Self::Tenant | Self::PgName | Self::SlotPrefix => "NAME",
            Self::Address => "IP:PORT",
            Self::Url(_) | Self::Urls(_) | Self::DatabaseUrl => "URL",
            Self::Count { .. } => "N",
            Self::Seconds { .. } => "SECONDS",
            Self::Millis { .. } => "MILLISECONDS",
            Self::Switch => "BOOL",
            Self::Choice(_) => "WORD",
            Self::JsonObject | Self::Rules => "JSON",
            Self::Origins => "ORIGINS",
            Self::Key => "BASE64",
            Self::Path => "PATH",
            Self::LogFilter => "FILTER",
        }
    }

    /// Whether the value is written without quotes in TOML.
    pub(super) fn is_bare(self) -> bool {
        matches!(self, Self::Count { .. } | Self::Seconds { .. } | Self::Millis { .. } | Self::Switch)
    }

    /// Whether the value is an address, which may hold a password.
    pub(super) fn is_url(self) -> bool {
        matches!(self, Self::Url(_) | Self::Urls(_) | Self::DatabaseUrl)
    }
}

/// Completes "expected …".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text that is not empty"),
            Self::Tenant => f.write_str("1 to 63 characters of a-z, A-Z, 0-9, '-' and '_'"),
            Self::PgName => write!(f, "a name of 1 to {MAX_PG_NAME_BYTES} bytes"),
            Self::SlotPrefix => f.write_str("1 to 40 characters of a-z, 0-9 and '_'"),
            Self::Address => f.write_str("an address and a port such as 0.0.0.0:4000 or [::]:4000"),
            Self::Url(schemes) => write!(f, "an address that starts with {}", or_list(schemes, "://")),
            Self::Urls(schemes) => {
                write!(f, "addresses that start with {}, separated by commas", or_list(schemes, "://"))
            }
            Self::DatabaseUrl => f.write_str("an address such as postgres://user:password@host:5432/database"),
            Self::Count { min, max: u64::MAX } => write!(f, "a whole number of at least {min}"),
            Self::Count { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Seconds { min, max } => write!(f, "seconds from {min} to {max}"),
            Self::Millis { min, max } => write!(f, "whole milliseconds from {min} to {max}"),
            Self::Switch => f.write_str("true or false"),
            Self::Choice(words) => f.write_str(&or_list(words, "")),
            Self::JsonObject => f.write_str("a JSON object such as {\"iss\": \"issuer\"}"),
            Self::Rules => f.write_str("rules: tables `[[policy.rules]]` in the file, or a JSON array of objects"),
            Self::Origins => f.write_str("'*', or origins such as https://app.example.com, separated by commas"),
            Self::Key => f.write_str("the base64 of 32 bytes (openssl rand -base64 32)"),
            Self::Path => f.write_str("the path of a file or folder"),
            Self::LogFilter => f.write_str("a level, or directives such as info,reactor_gateway=debug"),
        }
    }
}

fn checked(text: &str, check: Result<(), String>) -> Result<Value, String> {
    check.map(|()| Value::Text(text.to_owned()))
}

fn or_list(words: &[&str], suffix: &str) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word}{suffix}")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn is_pg_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_PG_NAME_BYTES && !text.contains('\0')
}

fn is_slot_prefix(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=40).contains(&text.len()) && text.bytes().all(allowed)
}

fn read_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn read_origins(text: &str) -> Result<CorsOrigins, String> {
    if text == "*" {
        return Ok(CorsOrigins::Any);
    }
    let origins: Vec<String> = text.split(',').map(|part| part.trim().trim_end_matches('/').to_owned()).collect();
    for origin in &origins {
        url::check(origin, &["http", "https"]).map_err(|_| format!("expected {}", Kind::Origins))?;
    }
    Ok(CorsOrigins::Listed(origins))
}

fn read_key(text: &str) -> Option<[u8; 32]> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(kind.read(text).is_ok(), "{kind:?} takes {text:?}: {:?}", kind.read(text));
        }
        for text in bad {
            assert!(kind.read(text).is_err(), "{kind:?} refuses {text:?}");
        }
    }

    #[test]
    fn each_kind_takes_and_refuses() {
        check(Kind::Text, &["x"], &[""]);
        check(Kind::Tenant, &["acme", "realtime-dev"], &["", "a.b", "*"]);
        check(Kind::PgName, &["supabase_realtime", "Ünïcode"], &["", &"x".repeat(64)]);
        check(Kind::SlotPrefix, &["reactor", "supabase_realtime_replication_slot"], &["", "Reactor", "a-b"]);
        check(Kind::Address, &["0.0.0.0:4000", "[::1]:0"], &["4000", "localhost:4000", "0.0.0.0:70000"]);
        check(Kind::Count { min: 1, max: 9 }, &["1", "9"], &["0", "10", "-1", "1.5", ""]);
        check(Kind::Seconds { min: 0.1, max: 9.0 }, &["0.1", "5", "9"], &["0", "9.1", "NaN", "inf", "5s"]);
        check(Kind::Millis { min: 1, max: 9 }, &["5"], &["0", "5.5", "10"]);
        check(Kind::Switch, &["true", "FALSE", "1", "off"], &["", "maybe"]);
        check(Kind::Choice(&["key", "strict"]), &["key"], &["KEY", ""]);
        check(Kind::JsonObject, &["{}", r#"{"iss":"x","nbf":1}"#], &["[]", "1", "{'iss':1}", ""]);
        check(Kind::Origins, &["*", "https://a.example, http://localhost:3000/"], &["", "a.example", "https://a,*"]);
        check(Kind::Key, &["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="], &["AAAA", "not base64 at all"]);
        check(Kind::Path, &["./x"], &[""]);
        check(Kind::LogFilter, &["info", "info,reactor_gateway=debug"], &["reactor=loud"]);
        check(Kind::Urls(&["nats", "tls"]), &["nats://a:4222,tls://b:4222"], &["nats://a,", "http://a"]);
    }

    #[test]
    fn a_refusal_says_what_is_expected() {
        let refusal = |kind: Kind| kind.read("\u{0}no").unwrap_err();
        assert_eq!(refusal(Kind::Choice(&["key", "strict"])), "expected key or strict");
        assert_eq!(refusal(Kind::Count { min: 1, max: u64::MAX }), "expected a whole number of at least 1");
        assert_eq!(refusal(Kind::Url(&["http", "https"])), "expected an address that starts with http:// or https://");
    }
}
