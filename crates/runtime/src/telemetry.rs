//! Logs to standard error, and traces to a collector where one is configured.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Config, LogFormat};

/// Crates that take part in sending traces: spans of theirs would beget spans without end.
const EXPORT_PATH: [&str; 5] = ["h2", "hyper", "tonic", "tower", "opentelemetry"];

/// Where [`crate::Shutdown`] makes the spans of its tasks.
const TASK_TARGET: &str = "reactor_runtime::shutdown";

/// How long the last traces are waited for at the end.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter has directives that cannot be read.
    #[error("the log filter cannot be read")]
    Filter(#[source] ParseError),
    /// The collector's address cannot be used.
    #[error("traces cannot be exported")]
    Exporter(#[source] ExporterBuildError),
}

/// The telemetry of the process; to be flushed at its end.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging, and tracing where a collector is configured. Where another subscriber is installed already, as
    /// in tests, that one stays.
    ///
    /// Must be called in the context of a runtime, which carries the connection to the collector.
    ///
    /// # Errors
    /// When the filter or the collector's address cannot be used.
    pub fn start(config: &Config, service: &'static str) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(&config.log.filter).map_err(TelemetryError::Filter)?;
        let provider = config.otlp_endpoint.as_deref().map(|endpoint| provider(endpoint, service)).transpose()?;
        let traces = provider.as_ref().map(|provider| trace_layer(provider.tracer(service)));
        let installed =
            tracing_subscriber::registry().with(traces).with(log_layer(config.log.format)).with(filter).try_init();
        if installed.is_ok() {
            std::panic::set_hook(Box::new(log_panic));
        }
        Ok(Self { provider })
    }

    /// Sends what is left, within a few seconds. Blocks; the runtime must still run.
    pub fn flush(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_DEADLINE)
        {
            tracing::warn!(error = %error, "the last traces could not be sent");
        }
    }
}

fn provider(endpoint: &str, service: &'static str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter =
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().map_err(TelemetryError::Exporter)?;
    let mut resource = Resource::builder();
    // The variable is OpenTelemetry's own, and an operator who sets it means it.
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service);
    }
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build())
}

/// Without the spans of tasks, which end with the process: a trace that is rooted in one would hold everything.
fn trace_layer(tracer: SdkTracer) -> impl Layer<Registry> {
    let ours = filter_fn(|metadata| {
        let root = metadata.target().split("::").next().unwrap_or_default();
        metadata.target() != TASK_TARGET && !EXPORT_PATH.iter().any(|name| root.starts_with(name))
    });
    tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours)
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Auto if !terminal => lines.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Auto | LogFormat::Pretty => lines.with_ansi(terminal).with_target(false).boxed(),
    }
}

/// A composed panic message may quote what was being worked on, such as a row's value, so only literal ones are logged;
/// the place says enough.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&'static str>().copied();
    let place = panic.location().map(ToString::to_string);
    tracing::error!(place, message, "panic");
}

/// Lets a repeated warning through once in an interval, and counts the ones that it held back.
#[derive(Debug)]
pub struct RateLimited {
    interval: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl RateLimited {
    /// At most one in `interval`. Can be a `static`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::new((None, 0)) }
    }

    /// Whether to log now; if so, how many were held back since the last time.
    pub fn permit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, held_back) = &mut *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            *held_back += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_repeated_warning_comes_once_in_an_interval() {
        let limit = RateLimited::new(Duration::from_secs(10));
        let start = clock::now();
        let at = |secs| limit.permit(start + Duration::from_secs(secs));
        assert_eq!([at(0), at(1), at(9), at(10), at(11), at(25)], [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
