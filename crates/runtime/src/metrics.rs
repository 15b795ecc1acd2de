//! Prometheus metrics: one registry for the process, with an inventory that documents itself.
//!
//! Each service lists its metrics in its own `metrics.rs` and makes them through [`Registry`]; asking twice for one
//! name gives the same collector, so that several services can live in one process. Label values never come from
//! clients or tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector;
pub use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use prometheus::{HistogramOpts, Opts, TextEncoder};

/// Names start with one of these: ours, those that dashboards made for Supabase Realtime already query, and those that
/// Prometheus libraries give to what is true of any process.
const PREFIXES: [&str; 3] = ["reactor_", "realtime_", "process_"];

/// Upper bounds in seconds for latencies from a commit to a client and for questions between services: from half a
/// millisecond, which one process reaches, to what a person would call an outage.
pub const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What a metric is, in the words of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// One line of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// Full name, as scraped.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Names of its labels.
    pub labels: Vec<&'static str>,
    /// What it counts, with its unit.
    pub help: &'static str,
}

#[derive(Clone)]
enum Made {
    Counter(IntCounter),
    FloatCounter(Counter),
    CounterVec(IntCounterVec),
    Gauge(IntGauge),
    GaugeVec(IntGaugeVec),
    FloatGauge(Gauge),
    FloatGaugeVec(GaugeVec),
    Histogram(Histogram),
    HistogramVec(HistogramVec),
}

type ScrapeHook = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Inner {
    registry: prometheus::Registry,
    made: Mutex<BTreeMap<&'static str, (MetricInfo, Made)>>,
    hooks: Mutex<Vec<ScrapeHook>>,
}

/// Handle to the metrics of the process; clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<Inner>,
}

/// Makes one constructor per type: `$method(name, help, …) -> $Type`.
macro_rules! constructor {
    ($(#[$doc:meta])* $method:ident -> $type:ident as $variant:ident, $kind:ident) => {
        $(#[$doc])*
        pub fn $method(&self, name: &'static str, help: &'static str) -> $type {
            let info = MetricInfo { name, kind: MetricKind::$kind, labels: Vec::new(), help };
            match self.get_or_make(info, || $type::new(name, help).map(|made| Made::$variant(made))) {
                Made::$variant(made) => made,
                _ => conflict(name),
            }
        }
    };
    ($(#[$doc:meta])* $method:ident(labels) -> $type:ident as $variant:ident, $kind:ident) => {
        $(#[$doc])*
        pub fn $method(&self, name: &'static str, help: &'static str, labels: &[&'static str]) -> $type {
            let info = MetricInfo { name, kind: MetricKind::$kind, labels: labels.to_vec(), help };
            match self.get_or_make(info, || $type::new(Opts::new(name, help), labels).map(|made| Made::$variant(made))) {
                Made::$variant(made) => made,
                _ => conflict(name),
            }
        }
    };
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    constructor! {
        /// A count that only grows.
        counter -> IntCounter as Counter, Counter
    }
    constructor! {
        /// A sum of fractions that only grows: seconds.
        float_counter -> Counter as FloatCounter, Counter
    }
    constructor! {
        /// Counts that only grow, by label.
        counter_vec(labels) -> IntCounterVec as CounterVec, Counter
    }
    constructor! {
        /// A whole number that goes up and down.
        gauge -> IntGauge as Gauge, Gauge
    }
    constructor! {
        /// Whole numbers that go up and down, by label.
        gauge_vec(labels) -> IntGaugeVec as GaugeVec, Gauge
    }
    constructor! {
        /// A fraction that goes up and down: seconds, ratios.
        float_gauge -> Gauge as FloatGauge, Gauge
    }
    constructor! {
        /// Fractions that go up and down, by label.
        float_gauge_vec(labels) -> GaugeVec as FloatGaugeVec, Gauge
    }

    /// Observations counted in buckets, whose upper bounds are given in rising order.
    pub fn histogram(&self, name: &'static str, help: &'static str, buckets: &[f64]) -> Histogram {
        let info = MetricInfo { name, kind: MetricKind::Histogram, labels: Vec::new(), help };
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        match self.get_or_make(info, || Histogram::with_opts(options).map(Made::Histogram)) {
            Made::Histogram(made) => made,
            _ => conflict(name),
        }
    }

    /// Observations counted in buckets, by label.
    pub fn histogram_vec(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        buckets: &[f64],
    ) -> HistogramVec {
        let info = MetricInfo { name, kind: MetricKind::Histogram, labels: labels.to_vec(), help };
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        match self.get_or_make(info, || HistogramVec::new(options, labels).map(Made::HistogramVec)) {
            Made::HistogramVec(made) => made,
            _ => conflict(name),
        }
    }

    /// Runs `hook` before each scrape, to set gauges whose value is only looked up when asked for.
    pub fn on_scrape(&self, hook: impl Fn() + Send + Sync + 'static) {
        lock(&self.inner.hooks).push(Box::new(hook));
    }

    /// Everything in the text format that Prometheus scrapes.
    #[must_use]
    pub fn render(&self) -> String {
        for hook in lock(&self.inner.hooks).iter() {
            hook();
        }
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.inner.registry.gather(), &mut text) {
            tracing::error!(error = %error, "metrics could not be rendered");
        }
        text
    }

    /// Every metric made so far, by name.
    #[must_use]
    pub fn inventory(&self) -> Vec<MetricInfo> {
        lock(&self.inner.made).values().map(|(info, _)| info.clone()).collect()
    }

    #[allow(
        clippy::expect_used,
        reason = "names and labels are constants: a wrong one fails the first test that makes it"
    )]
    fn get_or_make(&self, info: MetricInfo, make: impl FnOnce() -> prometheus::Result<Made>) -> Made {
        let mut made = lock(&self.inner.made);
        if let Some((existing, collector)) = made.get(info.name) {
            if existing.labels != info.labels {
                conflict(info.name);
            }
            return collector.clone();
        }
        assert!(PREFIXES.iter().any(|prefix| info.name.starts_with(prefix)), "invariant: {} has our prefix", info.name);
        let collector = make().expect("invariant: metric names and labels are valid");
        self.inner.registry.register(collector.boxed()).expect("invariant: metric names are unique in the registry");
        made.insert(info.name, (info, collector.clone()));
        collector
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("metrics", &lock(&self.inner.made).len()).finish()
    }
}

impl Made {
    fn boxed(&self) -> Box<dyn Collector> {
        match self {
            Self::Counter(made) => Box::new(made.clone()),
            Self::FloatCounter(made) => Box::new(made.clone()),
            Self::CounterVec(made) => Box::new(made.clone()),
            Self::Gauge(made) => Box::new(made.clone()),
            Self::GaugeVec(made) => Box::new(made.clone()),
            Self::FloatGauge(made) => Box::new(made.clone()),
            Self::FloatGaugeVec(made) => Box::new(made.clone()),
            Self::Histogram(made) => Box::new(made.clone()),
            Self::HistogramVec(made) => Box::new(made.clone()),
        }
    }
}

/// A panic, as two definitions of one constant name are a mistake in the source, found by the first test that runs both.
#[allow(clippy::panic, reason = "invariant: one name has one kind and one set of labels")]
fn conflict(name: &str) -> ! {
    panic!("invariant: metric {name} has one kind and one set of labels")
}

/// What a poisoned lock protects here (maps of collectors) is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_collector() {
        let registry = Registry::new();
        registry.counter("reactor_things_total", "things seen").inc();
        let same = registry.clone();
        same.counter("reactor_things_total", "things seen").inc();
        assert_eq!(registry.counter("reactor_things_total", "things seen").get(), 2);
        assert!(registry.render().contains("reactor_things_total 2\n"));
    }

    #[test]
    fn every_kind_is_rendered_and_listed() {
        let registry = Registry::new();
        registry.counter_vec("reactor_a_total", "a", &["kind"]).with_label_values(&["x"]).inc_by(3);
        registry.gauge("reactor_b", "b").set(-4);
        registry.gauge_vec("reactor_c", "c", &["tenant"]).with_label_values(&["t"]).set(5);
        registry.float_gauge("reactor_d_seconds", "d").set(0.5);
        registry.float_gauge_vec("reactor_e_ratio", "e", &["tenant"]).with_label_values(&["t"]).set(0.25);
        registry.float_counter("reactor_h_seconds_total", "h").inc_by(1.5);
        registry.histogram("reactor_f_seconds", "f", &[0.1, 1.0]).observe(0.5);
        registry.histogram_vec("reactor_g_seconds", "g", &["how"], &[1.0]).with_label_values(&["y"]).observe(2.0);
        let text = registry.render();
        for line in [
            "reactor_a_total{kind=\"x\"} 3",
            "reactor_b -4",
            "reactor_c{tenant=\"t\"} 5",
            "reactor_d_seconds 0.5",
            "reactor_e_ratio{tenant=\"t\"} 0.25",
            "reactor_f_seconds_bucket{le=\"1\"} 1",
            "reactor_g_seconds_bucket{how=\"y\",le=\"+Inf\"} 1",
            "reactor_h_seconds_total 1.5",
            "# HELP reactor_b b",
            "# TYPE reactor_f_seconds histogram",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let names: Vec<&str> = registry.inventory().iter().map(|info| info.name).collect();
        assert_eq!(names.len(), 8);
        assert!(names.is_sorted());
    }

    #[test]
    fn hooks_run_at_each_scrape() {
        let registry = Registry::new();
        let gauge = registry.gauge("reactor_scrapes", "scrapes");
        registry.on_scrape(move || gauge.inc());
        let _ = registry.render();
        assert!(registry.render().contains("reactor_scrapes 2\n"));
    }

    #[test]
    #[should_panic(expected = "one kind and one set of labels")]
    fn one_name_cannot_have_two_kinds() {
        let registry = Registry::new();
        registry.counter("reactor_x", "x");
        registry.gauge("reactor_x", "x");
    }

    #[test]
    #[should_panic(expected = "one kind and one set of labels")]
    fn one_name_cannot_have_two_sets_of_labels() {
        let registry = Registry::new();
        registry.counter_vec("reactor_x", "x", &["a"]);
        registry.counter_vec("reactor_x", "x", &["b"]);
    }

    #[test]
    #[should_panic(expected = "prefix")]
    fn names_carry_the_prefix() {
        Registry::new().counter("things_total", "things");
    }
}
