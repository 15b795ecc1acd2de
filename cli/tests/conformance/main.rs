//! Whether the gateway speaks WebSocket as RFC 6455 and RFC 7692 say: raw bytes against a running one, each case named by its
//! section.
//!
//! `make conformance` runs it and prints the table. It starts a deployment of its own, or takes the address of any server
//! that speaks the protocol of Phoenix channels: `REACTOR_CONFORMANCE_URL=ws://host:port/path?apikey=…`. The cases of
//! RFC 7692 are left out where such a server does not agree on compression.

mod closing;
mod control;
mod deflate;
#[expect(dead_code, reason = "the other tests use what this does not")]
#[path = "../system/deployment.rs"]
mod deployment;
mod fragments;
mod framing;
mod handshake;
mod limits;
mod text;
mod wire;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use reactor_testkit::PostgresOptions;
use tokio::time::Instant;

use crate::deployment::{Deployment, Mode, user_token};
use crate::wire::Target;

/// One requirement and how it is looked at.
pub(crate) struct Case {
    section: &'static str,
    name: &'static str,
    run: fn(&Target) -> Result<()>,
}

impl Case {
    pub(crate) const fn new(section: &'static str, name: &'static str, run: fn(&Target) -> Result<()>) -> Self {
        Self { section, name, run }
    }
}

const PARTS: [&[Case]; 7] =
    [handshake::CASES, framing::CASES, fragments::CASES, control::CASES, closing::CASES, text::CASES, limits::CASES];

/// Runs every case; the report, and how many do not hold.
fn run(target: &Target, compresses: bool) -> Result<(String, usize)> {
    let (mut report, mut failures, mut broken, mut count) = (String::new(), String::new(), 0, 0);
    writeln!(report, "{:<10} {:<88} {:>6}  holds", "RFC 6455", "case", "ms")?;
    for case in PARTS.into_iter().chain(compresses.then_some(deflate::CASES)).flatten() {
        let start = Instant::now();
        let result = (case.run)(target);
        let holds = if result.is_ok() { "yes" } else { "NO" };
        writeln!(report, "{:<10} {:<88} {:>6}  {holds}", case.section, case.name, start.elapsed().as_millis())?;
        count += 1;
        if let Err(error) = result {
            broken += 1;
            writeln!(failures, "{} {}: {error:#}", case.section, case.name)?;
        }
    }
    write!(report, "\n{failures}{} of {count} cases hold\n", count - broken)?;
    Ok((report, broken))
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    // What lists tests without running them finds none.
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(ExitCode::SUCCESS);
    }
    let given = std::env::var("REACTOR_CONFORMANCE_URL").ok();
    let deployment = match given {
        Some(_) => None,
        None => {
            let settings = [("REACTOR_REALTIME_WEBSOCKET_COMPRESSION", "true")];
            Some(Deployment::start_with(Mode::Single, PostgresOptions::default(), &settings).await?)
        }
    };
    let url = match (&given, &deployment) {
        (Some(url), _) => url.clone(),
        (None, Some(deployment)) => format!("{}/realtime/v1/websocket?apikey={}", deployment.url(), user_token()),
        (None, None) => String::new(),
    };
    let target = Target::new(&url)?;
    let is_ours = given.is_none();
    let running = tokio::task::spawn_blocking(move || {
        let compresses = is_ours || target.compresses()?;
        run(&target, compresses)
    });
    let (report, broken) = running.await.context("the cases ran")??;
    std::io::stdout().write_all(report.as_bytes())?;
    if broken > 0
        && let Some(deployment) = deployment
    {
        std::io::stderr().write_all(deployment.logs().as_bytes())?;
    }
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
