//! Metrics of the process and of its runtime, looked up when they are scraped.

use std::fs;

use tokio::runtime::Handle;

use crate::build_info::{GIT_COMMIT, VERSION};
use crate::clock;
use crate::metrics::{Counter, Registry};

/// In which the kernel counts processor time for programs; fixed at 100 on every architecture that we build for.
const TICKS_PER_SEC: f64 = 100.0;

/// Adds the metrics of this process, under the names that every Prometheus client library uses.
pub fn register(metrics: &Registry, runtime: &Handle) {
    let build = metrics.gauge_vec("reactor_build_info", "always 1; the labels say what runs", &["version", "commit"]);
    build.with_label_values(&[VERSION, GIT_COMMIT.unwrap_or("unknown")]).set(1);
    metrics
        .gauge("process_start_time_seconds", "when the process started, in seconds since 1970")
        .set(clock::unix_secs());
    let memory = metrics.gauge("process_resident_memory_bytes", "memory that the process holds");
    let open_fds = metrics.gauge("process_open_fds", "file descriptors in use, sockets included");
    let max_fds = metrics.gauge("process_max_fds", "file descriptors that the process may use");
    let cpu = metrics.float_counter("process_cpu_seconds_total", "processor time used");
    let tasks = metrics.gauge("reactor_runtime_tasks", "tasks that are alive in the main runtime");
    let queue = metrics.gauge("reactor_runtime_queue_depth", "tasks that wait in the main runtime's shared queue");
    let busy =
        metrics.float_counter("reactor_runtime_busy_seconds_total", "time that the main runtime's workers were busy");
    metrics
        .gauge("reactor_runtime_workers", "threads of the main runtime")
        .set(saturate(runtime.metrics().num_workers()));

    let runtime = runtime.metrics();
    metrics.on_scrape(move || {
        set(&memory, resident_memory_bytes());
        set(&open_fds, fs::read_dir("/proc/self/fd").ok().map(Iterator::count));
        set(&max_fds, max_open_files());
        raise(&cpu, cpu_seconds().unwrap_or_default());
        tasks.set(saturate(runtime.num_alive_tasks()));
        queue.set(saturate(runtime.global_queue_depth()));
        let workers = 0..runtime.num_workers();
        raise(&busy, workers.map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64()).sum());
    });
}

fn set(gauge: &crate::metrics::IntGauge, value: Option<usize>) {
    if let Some(value) = value {
        gauge.set(saturate(value));
    }
}

/// Brings a counter up to a total that is kept elsewhere.
fn raise(counter: &Counter, total: f64) {
    counter.inc_by((total - counter.get()).max(0.0));
}

fn saturate(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn resident_memory_bytes() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

fn max_open_files() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold blanks; user and system time are the 12th and 13th fields after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: Option<Vec<f64>> = fields.split_whitespace().skip(11).take(2).map(|field| field.parse().ok()).collect();
    Some(ticks?.iter().sum::<f64>() / TICKS_PER_SEC)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_is_measured() {
        let metrics = Registry::new();
        register(&metrics, &Handle::current());
        let first = metrics.render();
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "reactor_runtime_workers"]
        {
            let line = first.lines().find(|line| line.starts_with(name)).unwrap();
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(value >= 1.0, "{line}");
        }
        assert!(first.contains("process_cpu_seconds_total"));
        assert!(first.contains(&format!("version=\"{VERSION}\"}} 1")));
    }
}
