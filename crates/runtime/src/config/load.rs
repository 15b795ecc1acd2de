//! The only part of the configuration that touches the world: the file, the environment, files with secrets.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use clap::ArgMatches;

use super::settings::SETTINGS;
use super::sources::{Layers, Sources};
use super::{Config, ConfigErrors, Role, build, flags};

/// Read when no path is given and it is there.
const DEFAULT_FILE: &str = "reactor.toml";

impl Config {
    /// From the file that is named or found, the environment and the command line.
    ///
    /// # Errors
    /// Every problem there is; see [`Config::from_sources`].
    pub fn load(matches: &ArgMatches, role: Role) -> Result<Self, ConfigErrors> {
        let mut problems = Vec::new();
        let mut env: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let path = flags::text(matches, flags::CONFIG).or_else(|| env.get("REACTOR_CONFIG").cloned());
        let toml = read_config_file(path.filter(|path| !path.is_empty()), &mut problems);
        read_secret_files(&mut env, &mut problems);
        let flags = flags::given(matches);
        let mut layers = Layers::of(Sources { toml: toml.as_deref(), env: &env, flags: &flags }, role);
        layers.problems.splice(0..0, problems);
        build::config(layers, role)
    }
}

fn read_config_file(path: Option<String>, problems: &mut Vec<String>) -> Option<String> {
    let named = path.is_some();
    let path = path.unwrap_or_else(|| DEFAULT_FILE.to_owned());
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if !named && error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            problems.push(format!("the configuration file {path} cannot be read: {error}"));
            None
        }
    }
}

/// Puts the content of `<VARIABLE>_FILE` in the place of `<VARIABLE>`, for secrets that are mounted as files.
fn read_secret_files(env: &mut BTreeMap<String, String>, problems: &mut Vec<String>) {
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        let name = format!("{}_FILE", setting.env);
        let Some(path) = env.get(&name).filter(|path| !path.is_empty()) else { continue };
        if env.get(setting.env).is_some_and(|text| !text.is_empty()) {
            problems.push(format!("{} and {name} are both set: keep one", setting.env));
            continue;
        }
        match std::fs::read_to_string(path) {
            Ok(text) => {
                env.insert(setting.env.to_owned(), text.trim().to_owned());
            }
            Err(error) => problems.push(format!("{name}: {path} cannot be read: {error}")),
        }
    }
}
