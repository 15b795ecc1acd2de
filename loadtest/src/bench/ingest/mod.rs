//! From a replication slot to acknowledged JetStream with its file store, beside `pg_recvlogical` to `/dev/null`.
//!
//! Both read the same WAL: rows are written once for each transaction size, after a slot was made, and each run gets a
//! copy of that slot. Runs alternate, so that neither always comes first. Starting is not counted: the replicator's clock
//! begins when it reports that it streams; of `pg_recvlogical`, the time of a start that ends at its first change is taken
//! off. Rows a second are over the time until the last row is acknowledged by JetStream, or the program has ended.

mod case;
mod recvlogical;
mod replicator;
mod wal;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::measure::samples::median;
use crate::report::{Report, say};
use case::Case;
use wal::Slot;

/// Rows written for each size of transaction, and the ratio that is aimed at. Together they make runs of 2 to 4 seconds.
const CASES: [(u32, u32, Option<f64>); 3] =
    [(1, 120_000, Some(0.8)), (100, 400_000, Some(1.0)), (10_000, 400_000, None)];

/// Options of the measure.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Ingest: how many rows, relative to the usual number.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Ingest: how often each of the two programs reads.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    rounds: u32,
    /// Ingest: rows of a transaction; more than one, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,100,10000")]
    transactions: Vec<u32>,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut cases = Vec::new();
    for (rows_per_transaction, rows, aim) in CASES {
        if options.transactions.contains(&rows_per_transaction) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bounded count of rows")]
            let transactions = ((f64::from(rows) * options.scale) as u32 / rows_per_transaction).max(1);
            cases.push(measure(rows_per_transaction, transactions, aim, options.rounds).await?);
        }
    }
    let by_size = |value: fn(&Case) -> Value| -> Value {
        cases
            .iter()
            .map(|case| (case.wal.rows_per_transaction.to_string(), value(case)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    Ok(Report {
        name: "ingest",
        figures: by_size(Case::figures),
        limits: by_size(Case::limits),
        ratio: by_size(Case::ratios),
        lines: cases.iter().flat_map(Case::lines).collect(),
    })
}

async fn measure(rows_per_transaction: u32, transactions: u32, aim: Option<f64>, rounds: u32) -> Result<Case> {
    say(format_args!("ingest: writing {transactions} transactions of {rows_per_transaction} rows"));
    let (source, wal) = wal::write(rows_per_transaction, transactions).await?;
    let nats = reactor_testkit::Nats::start().await?;
    let mut case = Case { wal, aim, ours: Vec::new(), theirs: Vec::new(), their_start: 0.0 };
    let mut starts = Vec::new();
    for round in 0..rounds {
        say(format_args!("ingest: reading, round {} of {rounds}", round + 1));
        let ours_first = round % 2 == 1;
        for ours in [ours_first, !ours_first] {
            if ours {
                let slot = source.copy_slot(Slot::Replicator { round }).await?;
                case.ours.push(replicator::run(&source, &nats, &slot, &case.wal).await?);
                source.drop_slot(&slot).await?;
            } else {
                let slot = source.copy_slot(Slot::Receiver).await?;
                starts.push(recvlogical::run(&source, &slot, case.wal.begin).await?.seconds);
                case.theirs.push(recvlogical::run(&source, &slot, case.wal.end).await?);
                source.drop_slot(&slot).await?;
            }
        }
    }
    case.their_start = median(&starts);
    Ok(case)
}
