//! What a process has used, as the kernel counts it.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit};

/// In which the kernel counts processor time for programs; fixed at 100 on every architecture that we build for.
const TICKS_PER_SEC: f64 = 100.0;

/// Processor time of all threads so far, in seconds, to 10 ms.
pub(crate) fn cpu_seconds(process: u32) -> Result<f64> {
    ticks(&read(process, "stat")?).map(|ticks| ticks / TICKS_PER_SEC).context("no processor time in /proc")
}

/// Resident memory now.
pub(crate) fn resident_bytes(process: u32) -> Result<u64> {
    status_bytes(&read(process, "status")?, "VmRSS:").context("no resident memory in /proc")
}

/// The most resident memory that it ever had.
pub(crate) fn peak_resident_bytes(process: u32) -> Result<u64> {
    status_bytes(&read(process, "status")?, "VmHWM:").context("no peak memory in /proc")
}

/// Files that this process and those that it starts may have open, of which a socket is one.
pub(crate) fn most_open_files() -> Result<usize> {
    let (most, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

/// The child of this process that runs the program of this name.
pub(crate) fn child(name: &str) -> Result<u32> {
    let own = std::process::id();
    for entry in std::fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that has just ended has no such file any more.
        let Ok(stat) = read(process, "stat") else { continue };
        if name_and_parent(&stat) == Some((name, own)) {
            return Ok(process);
        }
    }
    anyhow::bail!("no child process runs {name}")
}

/// Processor time of this process and all that it has started, ended ones included, in seconds.
pub(crate) fn family_cpu_seconds() -> Result<f64> {
    let mut stats = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that has just ended is counted with its parent.
        if let Ok(stat) = read(process, "stat") {
            stats.push((process, stat));
        }
    }
    let processes =
        stats.iter().filter_map(|(process, stat)| Some((*process, name_and_parent(stat)?.1, family_ticks(stat)?)));
    Ok(family(std::process::id(), &processes.collect::<Vec<_>>()) / TICKS_PER_SEC)
}

/// Processor time of all processes since the machine started, in seconds.
pub(crate) fn machine_cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_ticks(&stat).map(|ticks| ticks / TICKS_PER_SEC).context("no processor time in /proc/stat")
}

fn read(process: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{process}/{file}");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

/// `pid (name) state ppid …`, where the name may hold anything.
fn split(stat: &str) -> Option<(&str, Vec<&str>)> {
    let (before, fields) = stat.rsplit_once(')')?;
    Some((before.split_once('(')?.1, fields.split_whitespace().collect()))
}

fn name_and_parent(stat: &str) -> Option<(&str, u32)> {
    let (name, fields) = split(stat)?;
    Some((name, fields.get(1)?.parse().ok()?))
}

/// User and system time.
fn ticks(stat: &str) -> Option<f64> {
    let (_, fields) = split(stat)?;
    Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
}

/// Own time, and that of children that have ended and been waited for.
fn family_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = split(stat)?;
    fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok()).sum()
}

/// The sum over a process and its descendants, of (process, parent, ticks).
fn family(head: u32, processes: &[(u32, u32, f64)]) -> f64 {
    let own: f64 = processes.iter().filter(|(process, ..)| *process == head).map(|(.., ticks)| ticks).sum();
    let children = processes.iter().filter(|(process, parent, _)| *parent == head && *process != head);
    own + children.map(|(process, ..)| family(*process, processes)).sum::<f64>()
}

/// All but idle and waiting for disks; what a hypervisor took away counts, since somebody else had it.
fn busy_ticks(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Option<Vec<f64>> = fields.split_whitespace().take(8).map(|field| field.parse().ok()).collect();
    let ticks = ticks?;
    Some(ticks.iter().sum::<f64>() - ticks.get(3)? - ticks.get(4)?)
}

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a) b) S 7 42 42 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 4 0 100 1000 200";

    #[test]
    fn stat_is_read_whatever_the_name() {
        assert_eq!(name_and_parent(STAT), Some(("a) b", 7)));
        assert_eq!(ticks(STAT), Some(175.0));
        assert_eq!(ticks("42 (a"), None);
    }

    #[test]
    fn a_family_is_all_that_descends() {
        assert_eq!(family_ticks(STAT), Some(175.0));
        let processes = [(1, 0, 1.0), (2, 1, 10.0), (3, 2, 100.0), (4, 1, 1000.0), (5, 9, 10_000.0)];
        assert!((family(1, &processes) - 1111.0).abs() < 1e-9);
        assert!((family(2, &processes) - 110.0).abs() < 1e-9);
    }

    #[test]
    fn a_busy_machine_is_neither_idle_nor_waiting() {
        assert_eq!(busy_ticks("cpu  10 20 30 4000 500 6 7 8 0 0\ncpu0 1 1 1\n"), Some(81.0));
        assert_eq!(busy_ticks(""), None);
    }

    #[test]
    fn status_is_read() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(status_bytes(status, "VmRSS:"), Some(1024 * 1024));
        assert_eq!(status_bytes(status, "VmHWM:"), Some(2048 * 1024));
        assert_eq!(status_bytes(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_can_be_measured() {
        let own = std::process::id();
        assert!(resident_bytes(own).unwrap() > 0);
        assert!(peak_resident_bytes(own).unwrap() >= resident_bytes(own).unwrap() / 2);
        assert!(cpu_seconds(own).unwrap() >= 0.0);
    }
}
