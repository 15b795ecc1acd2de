//! From texts to [`Config`]: reads every value, then checks what belongs together. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::kind::{Kind, Value};
use super::settings::Setting;
use super::sources::{Layers, Origin};
use super::types::{
    AuthConfig, Config, CorsOrigins, DataConfig, DeleteEvents, LogConfig, LogFormat, NatsConfig, PolicyConfig,
    RealtimeConfig, ReplicationConfig, ShutdownConfig,
};
use super::{ConfigErrors, Role, Secret};

const MIB: u64 = 1 << 20;

/// Longest name of a slot; Postgres refuses more.
const MAX_SLOT_NAME_BYTES: usize = 63;

/// The checked configuration, or everything that is wrong with it.
pub(super) fn config(layers: Layers, role: Role) -> Result<Config, ConfigErrors> {
    let Layers { entries, refused, mut problems, warnings } = layers;
    let mut values = Values::default();
    for entry in &entries {
        let Some(text) = &entry.text else { continue };
        match entry.setting.kind.read(text) {
            Ok(value) => {
                values.0.insert(entry.setting.key, value);
            }
            Err(found) => {
                let problem = |line| format!("{}: {line}{}", entry.place(), quoted(entry.setting, text));
                problems.extend(found.lines().map(problem));
            }
        }
    }
    // What was set but could not be read has been reported above, and is not missing.
    let set = entries.iter().filter(|entry| entry.origin != Origin::Default).map(|entry| entry.setting.key);
    let set: BTreeSet<&str> = set.chain(refused).collect();
    problems.extend(missing(role, &set));
    problems.extend(conflicts(&values, role));
    match values.into_config() {
        Some(config) if problems.is_empty() => Ok(Config { warnings, entries, ..config }),
        _ => Err(ConfigErrors { problems, warnings }),
    }
}

/// The refused text, where it cannot be a secret and is not many things at once.
fn quoted(setting: &Setting, text: &str) -> String {
    if setting.secret || setting.kind.is_url() || setting.kind == Kind::Rules {
        String::new()
    } else {
        format!(", got {text:?}")
    }
}

/// What the role cannot do without and nobody set.
fn missing(role: Role, set: &BTreeSet<&str>) -> Vec<String> {
    let needs: &[&[&str]] = match role {
        Role::Serve => &[&["data.database_url"], &["auth.jwt_secret", "auth.jwks_url"]],
        Role::Gateway => &[&["nats.url"], &["policy.url"], &["auth.jwt_secret", "auth.jwks_url"]],
        Role::Replicator => &[&["data.database_url"], &["nats.url"]],
        Role::Policy => &[&["data.database_url"]],
        Role::Tool => &[],
    };
    let unmet = needs.iter().filter(|keys| !keys.iter().any(|key| set.contains(key)));
    let names = |keys: &[&str], name: fn(&Setting) -> String| {
        let names: Vec<String> = keys.iter().filter_map(|key| Setting::named(key)).map(name).collect();
        names.join(" or ")
    };
    unmet
        .map(|keys| {
            let variables = names(keys, |setting| setting.env.to_owned());
            let flags = names(keys, |setting| format!("--{}", setting.flag));
            format!("{} is required: set {variables}, or {flags}", keys.join(" or "))
        })
        .collect()
}

/// What is right alone and wrong together.
fn conflicts(values: &Values, role: Role) -> Vec<String> {
    let mut problems = Vec::new();
    let own = match role {
        Role::Serve | Role::Gateway => Some("listen"),
        Role::Policy => Some("policy.listen"),
        Role::Replicator | Role::Tool => None,
    };
    if let Some(own) = own {
        let (address, admin) = (values.address(own), values.address("admin_listen"));
        if address.is_some_and(|address| address.port() != 0) && address == admin {
            problems.push(format!("{own} and admin_listen are the same address: give them two ports"));
        }
    }
    if matches!(role, Role::Serve | Role::Replicator)
        && let (Some(prefix), Some(Value::Tenant(tenant))) =
            (values.text("replication.slot_prefix"), values.0.get("tenant"))
    {
        // Two underscores and the epoch's 8 digits.
        let bytes = prefix.len() + tenant.as_str().len() + 10;
        if bytes > MAX_SLOT_NAME_BYTES {
            problems.push(format!(
                "replication.slot_prefix and tenant give a slot name of {bytes} bytes, and Postgres takes {MAX_SLOT_NAME_BYTES}: shorten one of them"
            ));
        }
    }
    problems
}

/// Values by key. A key that is absent was not set, or is not of the asked kind, which a test excludes.
#[derive(Debug, Default)]
struct Values(BTreeMap<&'static str, Value>);

impl Values {
    fn into_config(self) -> Option<Config> {
        Some(Config {
            tenant: match self.0.get("tenant")? {
                Value::Tenant(tenant) => tenant.clone(),
                _ => return None,
            },
            database_url: self.secret("data.database_url"),
            data: self.data()?,
            listen: self.address("listen")?,
            admin_listen: self.address("admin_listen")?,
            nats: self.nats()?,
            policy: self.policy()?,
            auth: self.auth()?,
            realtime: self.realtime()?,
            replication: self.replication()?,
            shutdown: ShutdownConfig {
                drain: self.duration("shutdown.drain_secs")?,
                ready_delay: self.duration("shutdown.ready_delay_secs")?,
            },
            log: self.log()?,
            otlp_endpoint: self.text("telemetry.otlp_endpoint"),
            warnings: Vec::new(),
            entries: Vec::new(),
        })
    }

    fn data(&self) -> Option<DataConfig> {
        Some(DataConfig { user_schema: self.text("data.user_schema")?, ssl_root_cert: self.path("data.ssl_root_cert") })
    }

    fn nats(&self) -> Option<NatsConfig> {
        Some(NatsConfig {
            url: self.secret("nats.url"),
            replicas: u32::try_from(self.count("nats.replicas")?).ok()?,
            max_bytes: self.count("nats.max_bytes_mb")?.saturating_mul(MIB),
            creds_file: self.path("nats.creds_file"),
        })
    }

    fn policy(&self) -> Option<PolicyConfig> {
        Some(PolicyConfig {
            listen: self.address("policy.listen")?,
            url: self.text("policy.url"),
            timeout: self.duration("policy.timeout_ms")?,
            recheck: self.duration("policy.recheck_secs")?,
            delete_events: match self.text("policy.delete_events")?.as_str() {
                "strict" => DeleteEvents::Strict,
                _ => DeleteEvents::Key,
            },
            event_trigger: self.switch("policy.event_trigger")?,
            rules: match self.0.get("policy.rules")? {
                Value::Rules(rules) => rules.clone(),
                _ => return None,
            },
        })
    }

    fn auth(&self) -> Option<AuthConfig> {
        Some(AuthConfig {
            jwt_secret: self.secret("auth.jwt_secret"),
            jwks_url: self.text("auth.jwks_url"),
            jwt_claim_validators: match self.0.get("auth.jwt_claim_validators")? {
                Value::Object(claims) => claims.clone().into_iter().collect(),
                _ => return None,
            },
            org_claim: self.text("auth.org_claim")?,
            org_column: self.text("auth.org_column")?,
            login_url: self.text("auth.login_url"),
            api_jwt_secret: self.secret("auth.api_jwt_secret"),
            secret_key: match self.0.get("auth.secret_key") {
                Some(Value::Key(key)) => Some(Secret::new(*key)),
                _ => None,
            },
        })
    }

    fn realtime(&self) -> Option<RealtimeConfig> {
        Some(RealtimeConfig {
            enabled: self.switch("realtime.enabled")?,
            heartbeat: self.duration("realtime.heartbeat_interval_secs")?,
            max_subscriptions: self.size("realtime.max_subscriptions_per_connection")?,
            replay_buffer: self.duration("realtime.replay_buffer_secs")?,
            max_payload_bytes: self.size("realtime.max_payload_bytes")?,
            connection_queue_bytes: self.size("realtime.connection_queue_bytes")?,
            ring_bytes: self.size("realtime.ring_bytes")?,
            write_stall: self.duration("realtime.write_stall_secs")?,
            max_connections: Some(self.size("realtime.max_connections")?).filter(|count| *count > 0),
            websocket_compression: self.switch("realtime.websocket_compression")?,
            cors_origins: match self.0.get("realtime.cors_origins")? {
                Value::Origins(origins) => origins.clone(),
                _ => CorsOrigins::Listed(Vec::new()),
            },
        })
    }

    fn replication(&self) -> Option<ReplicationConfig> {
        Some(ReplicationConfig {
            publication: self.text("replication.publication")?,
            create_publication: self.switch("replication.create_publication")?,
            install_schema: self.switch("realtime.install_schema")?,
            slot_prefix: self.text("replication.slot_prefix")?,
            confirm_lag: self.duration("replication.confirm_lag_secs"),
            confirm_lag_max_bytes: self.count("replication.confirm_lag_max_mb")?.saturating_mul(MIB),
            max_lag_bytes: self.count("replication.max_lag_mb").map(|mb| mb.saturating_mul(MIB)),
        })
    }

    fn log(&self) -> Option<LogConfig> {
        let format = match self.text("log.format")?.as_str() {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            _ => LogFormat::Auto,
        };
        Some(LogConfig { filter: self.text("log.filter")?, format })
    }

    fn text(&self, key: &str) -> Option<String> {
        match self.0.get(key)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn secret(&self, key: &str) -> Option<Secret<String>> {
        self.text(key).map(Secret::new)
    }

    fn address(&self, key: &str) -> Option<SocketAddr> {
        match self.0.get(key)? {
            Value::Address(address) => Some(*address),
            _ => None,
        }
    }

    fn count(&self, key: &str) -> Option<u64> {
        match self.0.get(key)? {
            Value::Count(count) => Some(*count),
            _ => None,
        }
    }

    fn size(&self, key: &str) -> Option<usize> {
        usize::try_from(self.count(key)?).ok()
    }

    fn duration(&self, key: &str) -> Option<Duration> {
        match self.0.get(key)? {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    fn switch(&self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            Value::Switch(on) => Some(*on),
            _ => None,
        }
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        match self.0.get(key)? {
            Value::Path(path) => Some(path.clone()),
            _ => None,
        }
    }
}
