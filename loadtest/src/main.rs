//! `reactor-loadtest`: what Reactor Realtime does beside what this machine can do.
//!
//! Everything that is measured is real: the programs of this workspace by name and environment, Postgres, nats-server,
//! clients over sockets. Nothing here is a test: a figure below its aim is shown, not failed.

mod bench;
mod deployment;
mod measure;
mod report;
mod source;
mod subscribers;
mod websocket;
mod writer;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Measures and load for Reactor Realtime.
#[derive(Debug, Parser)]
#[command(name = "reactor-loadtest", max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures ingest, latency, fan-out, broadcasts, idle connections and row policies: a line of JSON each on standard
    /// output, then a table on standard error.
    Bench(bench::Options),
    /// Writes the same bytes to many sockets and does nothing else; the measures of fan-out start it.
    #[command(hide = true)]
    BareWriter(bench::bare_writer::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    reactor_runtime::crypto::install_crypto_provider();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // To a closed pipe nothing can be said.
            let _ = writeln!(std::io::stderr().lock(), "reactor-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Bench(options) => Box::pin(bench::run(options)).await,
            Command::BareWriter(options) => bench::bare_writer::run(options).await,
        }
    })
}

/// Thousands of sockets are opened here and in the programs that are started, which inherit the limit.
fn raise_open_files() -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        for line in [
            "bench",
            "bench fanout --idle 10",
            "bench ingest --transactions 1,100 --scale 0.1",
            "bench broadcast --listeners 10 --broadcasts 100 --paced-secs 1",
            "bench idle --joined 50",
            "bench policies --members 10 --turns 1 --changes-per-turn 100 --subscriptions 100,1000 --matching-rounds 1",
        ] {
            let words = ["reactor-loadtest"].into_iter().chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
