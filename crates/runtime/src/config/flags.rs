//! The command line, made from the table.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches};

use super::kind::Kind;
use super::role::Role;
use super::settings::{SETTINGS, Setting};

pub(crate) const CONFIG: &str = "config";
pub(crate) const CHECK_CONFIG: &str = "check-config";
pub(crate) const PRINT_CONFIG: &str = "print-config";

/// The flags of a role: one for each setting that it uses, `--config`, `--check-config` and `--print-config`.
#[must_use]
pub fn clap_args(role: Role) -> Vec<Arg> {
    let mut args = vec![
        Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("PATH")
            .help("Configuration file; ./reactor.toml if there is one [env: REACTOR_CONFIG]"),
    ];
    // The commands of the CLI read settings for their own purpose; checking a whole file is the services' business.
    if role != Role::Tool {
        args.push(
            Arg::new(CHECK_CONFIG)
                .long(CHECK_CONFIG)
                .action(ArgAction::SetTrue)
                .help("Check the configuration, unknown names included, and exit"),
        );
        args.push(
            Arg::new(PRINT_CONFIG)
                .long(PRINT_CONFIG)
                .action(ArgAction::SetTrue)
                .help("Print the configuration without its secrets, and exit"),
        );
    }
    args.extend(SETTINGS.iter().filter(|setting| setting.roles.contains(&role)).map(arg));
    args
}

fn arg(setting: &'static Setting) -> Arg {
    let default = setting.default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
    let arg = Arg::new(setting.key)
        .long(setting.flag)
        .value_name(if setting.secret && !setting.kind.is_url() { "SECRET" } else { setting.kind.value_name() })
        .help(format!("{} [env: {}]{default}", setting.help.replace('`', "'"), setting.env))
        .help_heading(heading(setting.key));
    if setting.kind == Kind::Switch {
        return arg.num_args(0..=1).default_missing_value("true");
    }
    // Values such as `-1` are refused by the setting's own check, which says what is expected.
    arg.allow_hyphen_values(true)
}

fn heading(key: &str) -> &'static str {
    match key.split_once('.').map(|(section, _)| section) {
        Some("data") => "Database",
        Some("nats") => "NATS",
        Some("policy") => "Policy",
        Some("auth") => "Tokens",
        Some("realtime") => "Realtime",
        Some("replication") => "Replication",
        Some("shutdown") => "Stop",
        Some("log" | "telemetry") => "Logs and traces",
        _ => "Process",
    }
}

/// What was given on the command line, by key.
pub(super) fn given(matches: &ArgMatches) -> BTreeMap<String, String> {
    SETTINGS.iter().filter_map(|setting| Some((setting.key.to_owned(), text(matches, setting.key)?))).collect()
}

/// The text of a flag; `None` also where the command does not know the flag.
pub(super) fn text(matches: &ArgMatches, id: &str) -> Option<String> {
    matches.try_get_one::<String>(id).ok().flatten().cloned()
}

/// Whether a flag without value was given.
pub(crate) fn is_set(matches: &ArgMatches, id: &str) -> bool {
    matches.try_get_one::<bool>(id).ok().flatten().copied().unwrap_or(false)
}
