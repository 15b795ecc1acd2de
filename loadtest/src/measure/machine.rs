//! The machine that the figures are of.

use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::Result;
use reactor_runtime::clock;
use serde_json::{Value, json};

use super::process;

/// Processor and memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_gib: u64,
}

/// How much of the machine others took while something was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    begun: Instant,
    ours: f64,
    all: f64,
}

impl Noise {
    pub(crate) fn begin() -> Result<Self> {
        let (ours, all) = (process::family_cpu_seconds()?, process::machine_cpu_seconds()?);
        Ok(Self { begun: clock::now(), ours, all })
    }

    /// The share of all cores' time since the beginning that went to processes that are none of ours.
    #[expect(clippy::cast_precision_loss, reason = "a count of cores")]
    pub(crate) fn share(self) -> Result<f64> {
        let now = Self::begin()?;
        let cores = available_parallelism().map_or(1, usize::from) as f64;
        let others = (now.all - self.all) - (now.ours - self.ours);
        Ok((others / cores / (now.begun - self.begun).as_secs_f64()).clamp(0.0, 1.0))
    }
}

impl Machine {
    pub(crate) fn observe() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cores: available_parallelism().map_or(1, usize::from),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
            memory_gib: memory_gib(&read("/proc/meminfo")).unwrap_or(0),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "cores": self.cores, "processor": self.processor, "memory_gib": self.memory_gib })
    }

    pub(crate) fn text(&self) -> String {
        let Self { cores, processor, memory_gib } = self;
        format!("{cores} cores of {processor}, {memory_gib} GiB")
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn memory_gib(meminfo: &str) -> Option<u64> {
    let kib: u64 = field(meminfo, "MemTotal")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib + (1 << 19)) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_have_a_share() {
        let noise = Noise::begin().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!((0.0..=1.0).contains(&noise.share().unwrap()));
    }

    #[test]
    fn proc_files_are_read() {
        assert_eq!(field("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n", "model name"), Some("A CPU @ 2 GHz"));
        assert_eq!(memory_gib("MemTotal:       24653212 kB\nMemFree: 1 kB\n"), Some(24));
        assert_eq!(memory_gib(""), None);
    }
}
