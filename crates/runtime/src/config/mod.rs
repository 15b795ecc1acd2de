//! Configuration: a file, under the environment, under flags; everything checked before anything is bound.
//!
//! One table, [`SETTINGS`], says what can be set. All problems are reported at once. Unknown keys only warn, so that
//! a rollback to an older binary still starts; `--check-config` refuses them.

mod build;
mod flags;
mod kind;
mod load;
mod role;
mod rules;
mod secret;
mod settings;
mod sources;
pub(crate) mod supabase;
mod types;
mod url;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use flags::clap_args;
pub(crate) use flags::{CHECK_CONFIG, PRINT_CONFIG, is_set};
pub use kind::Kind;
pub use role::Role;
pub use rules::PolicyRule;
pub use secret::Secret;
pub use settings::{Alias, SETTINGS, Setting};
pub(crate) use sources::OTHER_VARIABLES;
use sources::{Layers, Sources};
pub use types::{
    AuthConfig, Config, CorsOrigins, DataConfig, DeleteEvents, LogConfig, LogFormat, NatsConfig, PolicyConfig,
    RealtimeConfig, ReplicationConfig, ShutdownConfig,
};

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigErrors {
    /// One sentence each.
    pub problems: Vec<String>,
    /// What looked odd, and may be the reason: a misspelt name is unknown here and missing there.
    pub warnings: Vec<String>,
}

impl Config {
    /// From the text of a file, variables and flags (by key, such as `data.database_url`). Reads nothing else.
    ///
    /// # Errors
    /// Every problem there is: values that cannot be read, and what the role needs and nobody set.
    pub fn from_sources(
        toml: Option<&str>,
        env: &BTreeMap<String, String>,
        flags: &BTreeMap<String, String>,
        role: Role,
    ) -> Result<Self, ConfigErrors> {
        build::config(Layers::of(Sources { toml, env, flags }, role), role)
    }

    /// The configuration in the form of a file, with the origin of each value and without secrets.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            let key = entry.setting.key;
            text.push_str(&match entry.shown() {
                Some(shown) if entry.setting.kind.is_bare() => format!("{key} = {shown}"),
                Some(shown) => format!("{key} = {}", serde_json::Value::String(shown)),
                None => format!("# {key} is not set"),
            });
            text.push_str(&match &entry.origin {
                sources::Origin::Default => "\n".to_owned(),
                sources::Origin::File => "  # file\n".to_owned(),
                sources::Origin::Variable(_) | sources::Origin::Flag => format!("  # {}\n", entry.place()),
            });
        }
        text
    }
}
