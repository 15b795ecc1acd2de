//! File, environment and flags laid over each other, as texts with their origin. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::kind::Kind;
use super::role::Role;
use super::settings::{SETTINGS, Setting};
use super::{supabase, url};

/// Variables of ours that are no settings, with what reads them.
pub(crate) const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("REACTOR_CONFIG", "path of the configuration file, when `--config` is not given"),
    ("REACTOR_GIT_COMMIT", "commit that a build puts into its binaries"),
    ("REACTOR_URL", "the gateway that the CLI talks to"),
    ("REACTOR_TOKEN", "the token that the CLI sends"),
    ("REACTOR_ORG", "the organisation that the CLI asks for"),
    ("REACTOR_TOOLS_DIR", "where the scripts in `deploy/` and the tests keep what they install"),
    ("REACTOR_CLUSTER_PORT_OFFSET", "added to every port of `make cluster`"),
];

/// What the layers are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub toml: Option<&'a str>,
    pub env: &'a BTreeMap<String, String>,
    pub flags: &'a BTreeMap<String, String>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    File,
    Variable(&'static str),
    Flag,
}

/// A setting with the text that was found for it.
#[derive(Clone)]
pub(super) struct Entry {
    pub setting: &'static Setting,
    pub text: Option<String>,
    pub origin: Origin,
}

impl Entry {
    /// The text as it may be printed.
    pub(super) fn shown(&self) -> Option<String> {
        let text = self.text.as_deref()?;
        Some(match self.setting {
            setting if setting.kind.is_url() => url::redact(text),
            setting if setting.secret => "***".to_owned(),
            _ => text.to_owned(),
        })
    }

    /// What to name in a message about the value.
    pub(super) fn place(&self) -> String {
        match &self.origin {
            Origin::Default | Origin::File => format!("{} in the configuration file", self.setting.key),
            Origin::Variable(name) => (*name).to_owned(),
            Origin::Flag => format!("--{}", self.setting.flag),
        }
    }
}

/// Shows no secrets: configurations are printed.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?} ({:?})", self.setting.key, self.shown(), self.origin)
    }
}

/// The winning text of every setting, and what was wrong or odd on the way.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub entries: Vec<Entry>,
    /// Keys that somebody set, but to something that could not be taken.
    pub refused: BTreeSet<&'static str>,
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
}

impl Layers {
    /// Flag over environment over file over default, for the settings that the role uses.
    pub(super) fn of(sources: Sources<'_>, role: Role) -> Self {
        let mut layers = Self::default();
        let file = layers.read_file(sources.toml.unwrap_or_default());
        let mut env = layers.read_env(sources.env, role);
        for setting in SETTINGS {
            let used = setting.roles.contains(&role);
            let found = if !used {
                None
            } else if let Some(text) = sources.flags.get(setting.key) {
                Some((text.clone(), Origin::Flag))
            } else if let Some((text, name)) = env.remove(setting.key) {
                Some((text, Origin::Variable(name)))
            } else {
                file.get(setting.key).map(|text| (text.clone(), Origin::File))
            };
            let entry = match found {
                Some((text, origin)) => Entry { setting, text: Some(text), origin },
                None => Entry { setting, text: setting.default.map(str::to_owned), origin: Origin::Default },
            };
            layers.entries.push(entry);
        }
        layers.warn_of_unknown_variables(sources.env);
        layers.warnings.extend(supabase::warnings(sources.env));
        layers
    }

    fn refuse(&mut self, key: &'static str, problem: String) {
        self.refused.insert(key);
        self.problems.push(problem);
    }

    fn read_env(
        &mut self,
        env: &BTreeMap<String, String>,
        role: Role,
    ) -> BTreeMap<&'static str, (String, &'static str)> {
        // An empty variable is one that a chart or a compose file left blank.
        let get = |name: &str| env.get(name).filter(|text| !text.is_empty());
        let mut found = BTreeMap::new();
        let mut take = |layers: &mut Self, key, name, value: Result<String, String>| match value {
            Ok(text) => {
                found.entry(key).or_insert((text, name));
            }
            Err(problem) => layers.refuse(key, format!("{name}: {problem}")),
        };
        for setting in SETTINGS.iter().filter(|setting| setting.roles.contains(&role)) {
            if let Some(text) = get(setting.env) {
                take(self, setting.key, setting.env, Ok(text.clone()));
            } else if let Some((alias, text)) =
                setting.aliases.iter().find_map(|alias| get(alias.name).map(|text| (alias, text)))
            {
                take(self, setting.key, alias.name, alias.form.convert(text));
            }
        }
        for derived in supabase::derived(env) {
            let used = Setting::named(derived.key).is_some_and(|setting| {
                setting.roles.contains(&role)
                    && get(setting.env).is_none()
                    && setting.aliases.iter().all(|alias| get(alias.name).is_none())
            });
            if used {
                take(self, derived.key, derived.from, derived.value);
            }
        }
        found
    }

    fn read_file(&mut self, text: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        match text.parse::<toml::Table>() {
            Ok(table) => self.flatten("", &table, &mut found),
            // The error's own text quotes the line, which may hold a secret.
            Err(error) => {
                let before = error.span().map_or(0, |span| span.start).min(text.len());
                let line = text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count() + 1;
                let reason = error.message();
                self.problems.push(format!("line {line} of the configuration file: {}", first_line(reason)));
            }
        }
        found
    }

    fn flatten(&mut self, path: &str, table: &toml::Table, found: &mut BTreeMap<String, String>) {
        for (name, value) in table {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let inside = format!("{key}.");
            match (Setting::named(&key), value) {
                (Some(setting), value) => match toml_text(setting.kind, value) {
                    Some(text) => {
                        found.insert(key, text);
                    }
                    None => {
                        self.refuse(setting.key, format!("{key} in the configuration file: expected {}", setting.kind));
                    }
                },
                (None, toml::Value::Table(table))
                    if SETTINGS.iter().any(|setting| setting.key.starts_with(&inside)) =>
                {
                    self.flatten(&key, table, found);
                }
                (None, _) => self.warnings.push(format!("unknown key in the configuration file: {key}")),
            }
        }
    }

    fn warn_of_unknown_variables(&mut self, env: &BTreeMap<String, String>) {
        let known: BTreeSet<&str> =
            SETTINGS.iter().map(|setting| setting.env).chain(OTHER_VARIABLES.iter().map(|(name, _)| *name)).collect();
        for name in env.keys().filter(|name| name.starts_with("REACTOR_")) {
            let secret_file = name.strip_suffix("_FILE").is_some_and(|stem| known.contains(stem));
            if !known.contains(name.as_str()) && !secret_file && !is_service_link(name) {
                self.warnings.push(format!("unknown variable: {name}"));
            }
        }
    }
}

/// Whether a variable is one that Kubernetes sets for a service whose name starts with "reactor", or a test's own.
fn is_service_link(name: &str) -> bool {
    let link = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];
    link.iter().any(|end| name.ends_with(end))
        || name.contains("_SERVICE_PORT_")
        || (name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP")))
        || name.starts_with("REACTOR_TEST_")
}

/// A value of the file as the text that the environment would have.
fn toml_text(kind: Kind, value: &toml::Value) -> Option<String> {
    match (kind, value) {
        (Kind::JsonObject, toml::Value::Table(table)) => serde_json::to_string(table).ok(),
        (Kind::Rules, toml::Value::Array(items)) => serde_json::to_string(items).ok(),
        (Kind::Origins | Kind::Urls(_), toml::Value::Array(items)) => {
            let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            items.map(|items| items.join(","))
        }
        (_, toml::Value::String(text)) => Some(text.clone()),
        (_, toml::Value::Integer(number)) => Some(number.to_string()),
        (_, toml::Value::Float(number)) => Some(number.to_string()),
        (_, toml::Value::Boolean(on)) => Some(on.to_string()),
        _ => None,
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
