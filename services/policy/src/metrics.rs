//! The policy service's metrics.

use std::time::Duration;

use reactor_model::filter::Truth;
use reactor_policy_engine::{AuthorizerError, Decision, Members};
use reactor_runtime::Registry;
use reactor_runtime::metrics::{HistogramVec, IntCounter, IntCounterVec, IntGauge};

use crate::channels::{Rights, Road};
use crate::check::Verdict;

/// From a lookup in the cache to the deadline.
const SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Counts questions and answers.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    decisions: IntCounterVec,
    comparisons: IntCounterVec,
    rows: IntCounterVec,
    sets: IntCounterVec,
    channels: IntCounterVec,
    roads: IntCounterVec,
    pub(crate) changes: IntCounter,
    seconds: HistogramVec,
    pub(crate) postgres_up: IntGauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            decisions: registry.counter_vec(
                "reactor_policy_decisions_total",
                "decisions on subscriptions, by result: allow, the code of the denial, or why there was no answer",
                &["result"],
            ),
            comparisons: registry.counter_vec(
                "reactor_policy_comparisons_total",
                "comparisons made in Postgres, by result",
                &["result"],
            ),
            rows: registry.counter_vec(
                "reactor_policy_rows_total",
                "rows judged by Postgres, by result: visible, hidden, raised (its policy fails for it, so it is hidden), or why there was no answer",
                &["result"],
            ),
            sets: registry.counter_vec(
                "reactor_policy_sets_total",
                "sets read that policies look rows up in, by result: rows, too_many (or not to be read as a whole), changed, or why there was no answer",
                &["result"],
            ),
            channels: registry.counter_vec(
                "reactor_policy_channels_total",
                "private channels asked about, by result: readable, hidden, or why there was no answer",
                &["result"],
            ),
            roads: registry.counter_vec(
                "reactor_policy_channel_roads_total",
                "private channels asked about, by how it was found what may be done there: compiled (by the policies, without Postgres), probed (tried in Postgres), full (not at all, since too many were waiting), lost (not at all, since the catalog could not be read)",
                &["road"],
            ),
            changes: registry.counter(
                "reactor_policy_changes_total",
                "changes noticed of policies, grants, roles or functions, with the first reading",
            ),
            seconds: registry.histogram_vec(
                "reactor_policy_seconds",
                "time from a question to its answer",
                &["question"],
                SECONDS,
            ),
            postgres_up: registry.gauge("reactor_policy_postgres_up", "1 while the tenant's database can be asked"),
        }
    }

    pub(crate) fn decided(&self, result: &Result<Decision, AuthorizerError>, took: Duration) {
        let label = match result {
            Ok(Decision::Allow(_)) => "allow",
            Ok(Decision::Deny(denial)) => denial.code.as_str(),
            Err(error) => no_answer(error),
        };
        self.decisions.with_label_values(&[label]).inc();
        self.seconds.with_label_values(&["authorize"]).observe(took.as_secs_f64());
    }

    pub(crate) fn compared(&self, asked: usize, result: &Result<Vec<Truth>, AuthorizerError>, took: Duration) {
        match result {
            Ok(truths) => truths.iter().for_each(|truth| {
                let label = match truth {
                    Truth::True => "true",
                    Truth::False => "false",
                    Truth::Unknown => "unknown",
                };
                self.comparisons.with_label_values(&[label]).inc();
            }),
            Err(error) => {
                self.comparisons.with_label_values(&[no_answer(error)]).inc_by(asked as u64);
            }
        }
        self.seconds.with_label_values(&["compare"]).observe(took.as_secs_f64());
    }

    pub(crate) fn judged(&self, asked: usize, result: &Result<Vec<Verdict>, AuthorizerError>, took: Duration) {
        match result {
            Ok(verdicts) => verdicts.iter().for_each(|verdict| {
                let label = match verdict {
                    Verdict::Visible => "visible",
                    Verdict::Hidden => "hidden",
                    Verdict::Raised => "raised",
                };
                self.rows.with_label_values(&[label]).inc();
            }),
            Err(error) => self.rows.with_label_values(&[no_answer(error)]).inc_by(asked as u64),
        }
        self.seconds.with_label_values(&["check_rows"]).observe(took.as_secs_f64());
    }

    pub(crate) fn read_set(&self, result: &Result<Members, AuthorizerError>, took: Duration) {
        let label = match result {
            Ok(Members::Rows(_)) => "rows",
            Ok(Members::TooMany) => "too_many",
            Ok(Members::Changed) => "changed",
            Err(error) => no_answer(error),
        };
        self.sets.with_label_values(&[label]).inc();
        self.seconds.with_label_values(&["members"]).observe(took.as_secs_f64());
    }

    pub(crate) fn told_rights(&self, road: Road, result: &Result<Rights, AuthorizerError>, took: Duration) {
        let label = match result {
            Ok((broadcast, presence)) if broadcast.read || presence.read => "readable",
            Ok(_) => "hidden",
            Err(error) => no_answer(error),
        };
        self.channels.with_label_values(&[label]).inc();
        let road = match road {
            Road::Compiled => "compiled",
            Road::Probed => "probed",
            Road::Full => "full",
            Road::Lost => "lost",
        };
        self.roads.with_label_values(&[road]).inc();
        self.seconds.with_label_values(&["channel_rights"]).observe(took.as_secs_f64());
    }
}

fn no_answer(error: &AuthorizerError) -> &'static str {
    match error {
        AuthorizerError::Unavailable(_) => "unavailable",
        AuthorizerError::Timeout => "timeout",
        AuthorizerError::UnknownTenant => "unknown_tenant",
    }
}
