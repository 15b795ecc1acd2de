//! Row policies: what a compiled predicate costs, what finding the subscribers of a change costs, and how many deliveries
//! a second are left of those without policies, over SSE and over WebSocket.

mod delivery;
mod matching;
mod predicate;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::report::{Aim, Line, Report, grouped, rounded};
use crate::subscribers::Transport;
use delivery::Delivery;

/// Matching among 100,000 subscriptions may cost this much more than among 1,000.
const MATCHING_AIM: f64 = 1.3;
/// Deliveries with row-level security, as a share of those without.
const DELIVERY_AIM: f64 = 0.9;

/// Options of the measure.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Policies: subscribers who all match by membership.
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// Policies: how often the table with policies and the one without are measured, in turns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=9))]
    turns: u32,
    /// Policies: changes of each turn.
    #[arg(long, default_value_t = 10_000)]
    changes_per_turn: u32,
    /// Policies: subscriptions among which the one is found that a change matches, fewest first, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,10000,100000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    subscriptions: Vec<u32>,
    /// Policies: rounds of that; the fastest counts.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    matching_rounds: u32,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let predicates = predicate::run()?;
    let matching = matching::run(&options.subscriptions, options.matching_rounds)?;
    let deliver = |transport| delivery::run(transport, options.members, options.turns, options.changes_per_turn);
    let events = deliver(Transport::Sse).await?;
    let sockets = deliver(Transport::WebSocket).await?;
    let mut lines: Vec<Line> = predicates
        .iter()
        .map(|predicate| Line::new(predicate.name, format!("{:.0} ns an evaluation", predicate.nanos), ""))
        .collect();
    lines.extend(matching.lines());
    for (name, ratio) in [("hot", matching.hot_growth()), ("cold", matching.cold_growth())] {
        let line = Line::new(format!("{}, {name}", matching.ends()), format!("{ratio:.2}"), "");
        lines.push(line.aim(Aim::AtMost { ratio, aim: MATCHING_AIM }));
    }
    lines.extend([("SSE", &events), ("WebSocket", &sockets)].map(|(name, delivery)| delivered(name, delivery)));
    let nanos: BTreeMap<&str, f64> =
        predicates.iter().map(|predicate| (predicate.name, rounded(predicate.nanos))).collect();
    Ok(Report {
        name: "policies",
        figures: json!({
            "predicate_ns": nanos,
            "matching": matching.json(),
            "secured": events.secured.json(),
            "secured_websocket": sockets.secured.json(),
        }),
        limits: json!({ "open": events.open.json(), "open_websocket": sockets.open.json() }),
        ratio: json!({
            "matching_growth_hot": rounded(matching.hot_growth()),
            "matching_growth_cold": rounded(matching.cold_growth()),
            "deliveries": rounded(events.ratio),
            "deliveries_cpu": rounded(events.cpu_ratio),
            "deliveries_websocket": rounded(sockets.ratio),
            "deliveries_websocket_cpu": rounded(sockets.cpu_ratio),
        }),
        lines,
    })
}

fn delivered(transport: &str, delivery: &Delivery) -> Line {
    Line::new(
        format!("{} {transport} subscribers by membership, flat out", grouped(delivery.subscribers())),
        delivery.secured.text(),
        format!("without row-level security {}", delivery.open.text()),
    )
    .aim(Aim::AtLeast { ratio: delivery.ratio, aim: DELIVERY_AIM })
}
