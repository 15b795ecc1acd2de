//! What the `main` of every service does: flags, configuration, telemetry, admin server, work, orderly stop.
//!
//! The order is part of the contract: nothing is bound and no runtime is made before the configuration is known to be
//! good.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Command};
use futures::FutureExt;
use tokio::runtime::Runtime;

use crate::admin::{Admin, AdminListener};
use crate::build_info::{BuildInfo, version_line};
use crate::config::{CHECK_CONFIG, Config, ConfigErrors, PRINT_CONFIG, Role, clap_args, is_set};
use crate::crypto::install_crypto_provider;
use crate::health::{Liveness, Readiness};
use crate::metrics::Registry;
use crate::shutdown::{Shutdown, error_chain};
use crate::signals::StopSignals;
use crate::telemetry::Telemetry;
use crate::{clock, process};

/// `EX_USAGE`: the command line or the configuration is wrong.
const EXIT_USAGE: u8 = 64;

/// What the last steps of a stop may take after the drain window, in which connections may close up to its very end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How often the main runtime shows that it runs its timers.
const PULSE: Duration = Duration::from_secs(1);

/// What a service works with.
#[derive(Clone, Debug)]
pub struct ServiceContext {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// Where metrics are made.
    pub metrics: Registry,
    /// How the process stops, and where tasks are started.
    pub shutdown: Shutdown,
    /// Where the service says what it needs to be ready. Not ready until it has added a check.
    pub readiness: Readiness,
}

/// The whole of a service's `main`.
///
/// `service` is its whole life: it works until `context.shutdown.draining()` is cancelled, stops in its own order and
/// returns. When it returns, the process ends.
pub fn run_service<F, Fut, E>(role: Role, name: &'static str, about: &'static str, service: F) -> ExitCode
where
    F: FnOnce(ServiceContext) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    match command(role, name, about).try_get_matches() {
        Ok(matches) => run_with(&matches, role, name, service),
        Err(error) => {
            // To a closed pipe nothing can be said.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

/// The command line of a service.
#[must_use]
pub fn command(role: Role, name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).version(version_line()).args(clap_args(role)).max_term_width(120)
}

/// [`run_service`] for a command line that was read already, such as a subcommand's.
pub fn run_with<F, Fut, E>(matches: &ArgMatches, role: Role, name: &'static str, service: F) -> ExitCode
where
    F: FnOnce(ServiceContext) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let config = match load_config(matches, role, name) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match run(config, name, service) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say(std::io::stderr(), format_args!("{name}: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// The configuration, or the code to exit with: after `--check-config` and `--print-config`, and when it is wrong, which
/// is said on standard error.
///
/// # Errors
/// The exit code, when there is nothing more to do.
pub fn load_config(matches: &ArgMatches, role: Role, name: &str) -> Result<Config, ExitCode> {
    let config = match Config::load(matches, role) {
        Ok(config) => config,
        Err(errors) => {
            say_problems(name, &errors);
            return Err(ExitCode::from(EXIT_USAGE));
        }
    };
    if is_set(matches, PRINT_CONFIG) {
        say(std::io::stdout(), format_args!("{}", config.print().trim_end()));
    }
    if is_set(matches, CHECK_CONFIG) && !config.warnings.is_empty() {
        say_problems(name, &ConfigErrors { problems: config.warnings, warnings: Vec::new() });
        return Err(ExitCode::from(EXIT_USAGE));
    }
    if is_set(matches, CHECK_CONFIG) {
        say(std::io::stderr(), format_args!("{name}: the configuration is good"));
    }
    if is_set(matches, CHECK_CONFIG) || is_set(matches, PRINT_CONFIG) {
        return Err(ExitCode::SUCCESS);
    }
    Ok(config)
}

fn say_problems(name: &str, errors: &ConfigErrors) {
    let count = errors.problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    let lines = |texts: &[String]| texts.iter().map(|text| format!("\n  - {text}")).collect::<String>();
    let hints = if errors.warnings.is_empty() { String::new() } else { format!("\nalso:{}", lines(&errors.warnings)) };
    say(
        std::io::stderr(),
        format_args!("{name}: the configuration has {count} {noun}:{}{hints}", lines(&errors.problems)),
    );
}

/// Writes a line; a closed pipe is nobody's concern.
fn say(mut out: impl Write, line: fmt::Arguments<'_>) {
    let _ = writeln!(out, "{line}");
}

/// From a good configuration to the end of the process's work; the error is the one-line reason of a failure.
fn run<F, Fut, E>(config: Config, name: &'static str, service: F) -> Result<(), String>
where
    F: FnOnce(ServiceContext) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    install_crypto_provider();
    let runtime = runtime().map_err(|error| format!("no runtime: {error}"))?;
    let inside = runtime.enter();
    let telemetry = Telemetry::start(&config, name).map_err(|error| error_chain(&error))?;
    let build = BuildInfo::of(name);
    tracing::info!(name, version = build.version, commit = build.git_commit, tenant = %config.tenant, "starting");
    for warning in &config.warnings {
        tracing::warn!(warning, "configuration");
    }
    let metrics = Registry::new();
    process::register(&metrics, runtime.handle());
    let shutdown = Shutdown::new(&metrics);
    let context = ServiceContext { readiness: Readiness::new(&shutdown), config: Arc::new(config), metrics, shutdown };
    drop(inside);

    let shutdown = context.shutdown.clone();
    serve(&runtime, context, build, service);
    tracing::info!("stopped");
    telemetry.flush();
    // What still blocks a thread of the pool now has had its time.
    runtime.shutdown_background();
    shutdown.failure().map_or(Ok(()), Err)
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("worker").build()
}

/// Runs the service with the admin server beside it. A failure is left in the context's shutdown.
fn serve<F, Fut, E>(runtime: &Runtime, context: ServiceContext, build: BuildInfo, service: F)
where
    F: FnOnce(ServiceContext) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let (shutdown, liveness) = (context.shutdown.clone(), Liveness::new());
    let admin = Admin {
        build,
        metrics: context.metrics.clone(),
        readiness: context.readiness.clone(),
        liveness: liveness.clone(),
    };
    let admin = match AdminListener::bind(context.config.admin_listen).and_then(|listener| listener.serve(admin)) {
        Ok(admin) => admin,
        Err(error) => return shutdown.fail(error_chain(&error)),
    };
    tracing::info!(address = %admin.address(), "admin server listens");
    runtime.block_on(async {
        match StopSignals::listen() {
            Ok(signals) => supervise(context, signals, liveness, service).await,
            Err(error) => shutdown.fail(format!("signals cannot be taken over: {error}")),
        }
    });
}

/// The life of the process: work, until the service ends or a stop begins; then the stop, until its deadline.
async fn supervise<F, Fut, E>(context: ServiceContext, signals: StopSignals, liveness: Liveness, service: F)
where
    F: FnOnce(ServiceContext) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let shutdown = context.shutdown.clone();
    let stop = context.config.shutdown.clone();
    // Not a tracked task: a second signal must be heard until the very end.
    let signals = tokio::spawn(signals.watch(shutdown.clone(), stop.ready_delay));
    shutdown.spawn("pulse", beat(liveness, shutdown.clone()));

    let mut service = Box::pin(run_to_end(service(context), &shutdown));
    let draining = shutdown.draining();
    let ended = tokio::select! {
        () = &mut service => true,
        () = draining.cancelled() => false,
    };
    shutdown.begin_drain();
    let deadline = clock::now() + stop.drain + STOP_GRACE;
    if !ended && tokio::time::timeout_at(deadline.into(), &mut service).await.is_err() {
        tracing::warn!("cut: the service did not stop in time");
    }
    shutdown.wait(deadline.saturating_duration_since(clock::now())).await;
    signals.abort();
}

/// The service's own end; an error or a panic fails the process.
async fn run_to_end<E>(service: impl Future<Output = Result<(), E>>, shutdown: &Shutdown)
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    match AssertUnwindSafe(service).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => shutdown.fail(error_chain(error.into().as_ref())),
        Err(_) => shutdown.fail("the service panicked"),
    }
}

/// Beats until the stop begins.
async fn beat(liveness: Liveness, shutdown: Shutdown) {
    let draining = shutdown.draining();
    loop {
        liveness.beat();
        tokio::select! {
            () = draining.cancelled() => break,
            () = tokio::time::sleep(PULSE) => {}
        }
    }
    liveness.retire();
}
