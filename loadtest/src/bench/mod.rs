//! The measures of `make bench`. Each compares with something that was measured in the same run, since absolute times say
//! more of the machine than of the programs.

pub(crate) mod bare_writer;
mod broadcast;
mod fanout;
mod flow;
mod idle;
mod ingest;
mod latency;
mod policies;
mod round_trip;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::measure::machine::{Machine, Noise};
use crate::report::{Report, print_table, say};

/// What to measure, and how much of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    measure: Measure,
    #[command(flatten)]
    ingest: ingest::Options,
    #[command(flatten)]
    latency: latency::Options,
    #[command(flatten)]
    fanout: fanout::Options,
    #[command(flatten)]
    broadcast: broadcast::Options,
    #[command(flatten)]
    idle: idle::Options,
    #[command(flatten)]
    policies: policies::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// All of them, one after the other.
    All,
    /// From the replication slot to the stored log, beside pg_recvlogical.
    Ingest,
    /// From commit to one client.
    Latency,
    /// Row changes to many SSE clients, beside a bare socket writer.
    Fanout,
    /// Broadcasts to many WebSocket clients, beside a bare socket writer.
    Broadcast,
    /// Memory of WebSocket connections that do nothing.
    Idle,
    /// Row policies: evaluation, matching, and deliveries beside those of a table without.
    Policies,
}

/// Runs the measures that were asked for.
pub(crate) async fn run(options: Options) -> Result<()> {
    let machine = Machine::observe();
    let wants = |measure| matches!(options.measure, Measure::All) || options.measure == measure;
    let mut reports = Vec::new();
    if wants(Measure::Ingest) {
        say("ingest: from the replication slot to the stored log");
        reports.push(finish(&machine, Box::pin(ingest::run(&options.ingest))).await?);
    }
    if wants(Measure::Latency) {
        say("latency: from commit to one client");
        reports.push(finish(&machine, Box::pin(latency::run(&options.latency))).await?);
    }
    if wants(Measure::Fanout) {
        say("fanout: one table to many clients");
        reports.push(finish(&machine, Box::pin(fanout::run(&options.fanout))).await?);
    }
    if wants(Measure::Broadcast) {
        say("broadcast: one channel to many clients");
        reports.push(finish(&machine, Box::pin(broadcast::run(&options.broadcast))).await?);
    }
    if wants(Measure::Idle) {
        say("idle: what a connection costs that does nothing");
        reports.push(finish(&machine, Box::pin(idle::run(&options.idle))).await?);
    }
    if wants(Measure::Policies) {
        say("policies: exactly the rows that each may read");
        reports.push(finish(&machine, Box::pin(policies::run(&options.policies))).await?);
    }
    print_table(&reports, &machine);
    Ok(())
}

/// Runs a measure and prints its line, with what others did meanwhile.
async fn finish(machine: &Machine, measure: impl Future<Output = Result<Report>>) -> Result<Report> {
    let noise = Noise::begin()?;
    let report = measure.await?;
    let share = noise.share()?;
    say(format_args!("{}: other processes took {:.0} % of the machine meanwhile", report.name, share * 100.0));
    report.print(machine, share)?;
    Ok(report)
}
