//! Row policies: what a compiled predicate costs, what finding the subscribers of a change costs, and how many deliveries a
//! second are left of those without policies.

mod delivery;
mod matching;
mod predicate;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::report::{Aim, Line, Report, grouped, rounded};

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
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    turns: u32,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let predicates = predicate::run()?;
    let matching = matching::run()?;
    let delivery = delivery::run(options.members, options.turns).await?;
    let mut lines: Vec<Line> = predicates
        .iter()
        .map(|predicate| Line::new(predicate.name, format!("{:.0} ns an evaluation", predicate.nanos), ""))
        .collect();
    lines.extend(matching.lines());
    lines.push(
        Line::new("matching, 100,000 over 1,000 subscriptions", format!("{:.2}", matching.growth()), "")
            .aim(Aim::AtMost { ratio: matching.growth(), aim: MATCHING_AIM }),
    );
    lines.push(
        Line::new(
            format!("{} subscribers by membership, flat out", grouped(delivery.subscribers())),
            delivery.secured.text(),
            format!("without row-level security {}", delivery.open.text()),
        )
        .aim(Aim::AtLeast { ratio: delivery.ratio(), aim: DELIVERY_AIM }),
    );
    let nanos: BTreeMap<&str, f64> =
        predicates.iter().map(|predicate| (predicate.name, rounded(predicate.nanos))).collect();
    Ok(Report {
        name: "policies",
        figures: json!({ "predicate_ns": nanos, "matching": matching.json(), "secured": delivery.secured.json() }),
        limits: json!({ "open": delivery.open.json() }),
        ratio: json!({ "matching_growth": rounded(matching.growth()), "deliveries": rounded(delivery.ratio()) }),
        lines,
    })
}
