//! The `reactor` command: all services in one process, a subscriber for the terminal, tokens, and a doctor for databases.
//!
//! The only crate that sees every service.

mod auth;
mod docs;
mod doctor;
mod exit;
mod gateway;
mod output;
mod serve;
mod subscribe;

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use reactor_runtime::Role;
use reactor_runtime::build_info::version_line;
use reactor_runtime::config::clap_args;
use reactor_runtime::crypto::install_crypto_provider;
use reactor_runtime::main_support::run_with;

use crate::exit::{Failure, Outcome};

/// In messages before a command is known, and of the one process that serves.
const NAME: &str = "reactor";

fn main() -> ExitCode {
    match command().try_get_matches() {
        Ok(matches) => dispatch(&matches),
        Err(error) => {
            // To a closed pipe nothing can be said.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

fn command() -> Command {
    let serve = Command::new("serve")
        .about("Serve realtime subscriptions of one database, all in this process")
        .args(clap_args(Role::Serve));
    let realtime = group("realtime", "Serve, follow and check changes of tables").subcommands([
        serve,
        subscribe::command(),
        doctor::command(),
    ]);
    group(NAME, "Row changes of Postgres for many clients").version(version_line()).max_term_width(120).subcommands([
        realtime,
        auth::command(),
        docs::command(),
    ])
}

/// A command that only has commands.
fn group(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).subcommand_required(true).arg_required_else_help(true)
}

fn dispatch(matches: &ArgMatches) -> ExitCode {
    match path(matches) {
        (["realtime", "serve"], matches) => run_with(matches, Role::Serve, NAME, serve::serve),
        (["realtime", "subscribe"], matches) => exit::conclude(in_runtime(subscribe::run(matches))),
        (["realtime", "doctor"], matches) => exit::conclude(in_runtime(doctor::run(matches))),
        (["auth", "token"], matches) => exit::conclude(auth::token::run(matches)),
        (["auth", "login"], matches) => exit::conclude(in_runtime(auth::login::run(matches))),
        (["auth", "logout"], matches) => exit::conclude(auth::logout::run(matches)),
        (["auth", "status"], matches) => exit::conclude(auth::status::run(matches)),
        (["docs", _], matches) => exit::conclude(docs::run(matches)),
        // clap has refused every other path.
        _ => ExitCode::from(exit::USAGE),
    }
}

/// The names of the chosen command and the one above it, and its own arguments.
fn path(matches: &ArgMatches) -> ([&str; 2], &ArgMatches) {
    let Some((outer, matches)) = matches.subcommand() else { return (["", ""], matches) };
    match matches.subcommand() {
        Some((inner, matches)) => ([outer, inner], matches),
        None => ([outer, ""], matches),
    }
}

/// Runs a command that waits for others, on this thread alone.
fn in_runtime(work: impl Future<Output = Outcome>) -> Outcome {
    install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(work);
    // A look-up of a name that still runs is not waited for.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}
