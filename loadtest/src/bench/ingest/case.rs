//! The runs over one WAL, and what they come to.
//!
//! Of several runs the fastest counts, for both programs alike: what else the machine does can only add to a time.

use serde_json::{Value, json};

use super::wal::Wal;
use super::{recvlogical, replicator};
use crate::measure::samples::median;
use crate::report::{Aim, Line, grouped, rounded};

/// The runs over one WAL.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) wal: Wal,
    pub(super) aim: Option<f64>,
    pub(super) ours: Vec<replicator::Run>,
    pub(super) theirs: Vec<recvlogical::Run>,
    /// How long a start of theirs takes.
    pub(super) their_start: f64,
}

impl Case {
    fn our_seconds(&self) -> Vec<f64> {
        self.ours.iter().map(|run| run.seconds).collect()
    }

    fn their_seconds(&self) -> Vec<f64> {
        self.theirs.iter().map(|run| run.seconds - self.their_start).collect()
    }

    fn ratio(&self) -> f64 {
        least(self.their_seconds()) / least(self.our_seconds())
    }

    pub(super) fn ratios(&self) -> Value {
        let of_medians = median(&self.their_seconds()) / median(&self.our_seconds());
        json!({ "fastest": rounded(self.ratio()), "medians": rounded(of_medians) })
    }

    fn rows_per_second(&self, seconds: f64) -> f64 {
        f64::from(self.wal.rows()) / seconds
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn wal_mb_per_second(&self, seconds: f64) -> f64 {
        self.wal.bytes() as f64 / 1e6 / seconds
    }

    /// The least that a row cost, in µs.
    fn us_per_row(&self, seconds: impl IntoIterator<Item = f64>) -> f64 {
        rounded(least(seconds) * 1e6 / f64::from(self.wal.rows()))
    }

    fn cpu_us_per_row(&self) -> f64 {
        self.us_per_row(self.ours.iter().map(|run| run.cpu_seconds))
    }

    fn nats_cpu_us_per_row(&self) -> f64 {
        self.us_per_row(self.ours.iter().map(|run| run.nats_cpu_seconds))
    }

    fn peak_mb(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let peaks = self.ours.iter().map(|run| run.peak_bytes as f64 / 1e6);
        rounded(peaks.fold(0.0, f64::max))
    }

    fn rates(&self, seconds: &[f64]) -> Value {
        let best = least(seconds.iter().copied());
        json!({
            "rows_per_second": self.rows_per_second(best).round(),
            "row_mb_per_second": rounded(self.rows_per_second(best) * self.wal.row_bytes / 1e6),
            "wal_mb_per_second": rounded(self.wal_mb_per_second(best)),
            "seconds": seconds.iter().copied().map(rounded).collect::<Vec<_>>(),
        })
    }

    pub(super) fn figures(&self) -> Value {
        let mut figures = self.rates(&self.our_seconds());
        let walsender = self.us_per_row(self.ours.iter().map(|run| run.walsender_cpu_seconds));
        let rows_per_batch: Vec<f64> = self.ours.iter().map(|run| run.rows_per_batch.round()).collect();
        figures["rows"] = json!(self.wal.rows());
        figures["row_bytes"] = json!(rounded(self.wal.row_bytes));
        figures["wal_bytes"] = json!(self.wal.bytes());
        figures["cpu_us_per_row"] = json!(self.cpu_us_per_row());
        figures["nats_cpu_us_per_row"] = json!(self.nats_cpu_us_per_row());
        figures["walsender_cpu_us_per_row"] = json!(walsender);
        figures["peak_resident_mb"] = json!(self.peak_mb());
        figures["rows_per_batch"] = json!(rows_per_batch);
        figures
    }

    pub(super) fn limits(&self) -> Value {
        let mut limits = self.rates(&self.their_seconds());
        let walsender = self.us_per_row(self.theirs.iter().map(|run| run.walsender_cpu_seconds));
        limits["program"] = json!("pg_recvlogical to /dev/null");
        limits["start_seconds"] = json!(rounded(self.their_start));
        limits["walsender_cpu_us_per_row"] = json!(walsender);
        limits
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let size = match self.wal.rows_per_transaction {
            1 => "1 row a transaction".to_owned(),
            rows => format!("{} rows a transaction", grouped(rows.into())),
        };
        let rate = |seconds: Vec<f64>| {
            let best = least(seconds);
            format!("{} rows/s, {:.0} MB/s of WAL", grouped(self.rows_per_second(best)), self.wal_mb_per_second(best))
        };
        let (ours, theirs) = (rate(self.our_seconds()), format!("pg_recvlogical {}", rate(self.their_seconds())));
        let cost = format!("{:.2} µs CPU a row, {:.0} MB at most", self.cpu_us_per_row(), self.peak_mb());
        let nats = format!("nats-server {:.2} µs CPU a row", self.nats_cpu_us_per_row());
        let ratio = self.ratio();
        let aim = self.aim.map_or(Aim::Nothing { ratio }, |aim| Aim::AtLeast { ratio, aim });
        vec![Line::new(size.clone(), ours, theirs).aim(aim), Line::new(size, cost, nats)]
    }
}

fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Case {
        let (begin, end) = (0.into(), 2_000_000.into());
        let wal = Wal { rows_per_transaction: 10, transactions: 100, begin, end, row_bytes: 200.0 };
        let ours = |seconds| replicator::Run {
            seconds,
            cpu_seconds: seconds / 1e3,
            nats_cpu_seconds: seconds / 1e3,
            walsender_cpu_seconds: 0.0,
            peak_bytes: 5_000_000,
            rows_per_batch: 50.0,
        };
        let theirs = |seconds| recvlogical::Run { seconds, walsender_cpu_seconds: 0.0 };
        let (ours, theirs) = (vec![ours(2.0), ours(4.0)], vec![theirs(5.5), theirs(3.5)]);
        Case { wal, aim: Some(1.0), ours, theirs, their_start: 0.5 }
    }

    #[test]
    fn the_fastest_runs_are_compared_without_the_start() {
        assert_eq!(case().ratios(), json!({ "fastest": 1.5, "medians": 1.333 }));
        assert_eq!(case().limits()["seconds"], json!([5.0, 3.0]));
    }

    #[test]
    fn rates_and_costs_are_of_the_fastest_run() {
        let figures = case().figures();
        assert_eq!(figures["rows_per_second"], json!(500.0));
        assert_eq!(figures["wal_mb_per_second"], json!(1.0));
        assert_eq!(figures["cpu_us_per_row"], json!(2.0));
        assert_eq!(figures["peak_resident_mb"], json!(5.0));
    }
}
