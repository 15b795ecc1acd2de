//! What a measure gives: one line of JSON for machines, lines of a table for people.

use std::io::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::measure::machine::Machine;

/// The result of one measure.
#[derive(Debug)]
pub(crate) struct Report {
    /// Its name.
    pub(crate) name: &'static str,
    /// What our programs did.
    pub(crate) figures: Value,
    /// What the machine, or the nearest other program, did in the same run.
    pub(crate) limits: Value,
    /// The first by the second.
    pub(crate) ratio: Value,
    /// The same for people.
    pub(crate) lines: Vec<Line>,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) figure: String,
    pub(crate) beside: String,
    pub(crate) aim: Option<Aim>,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// Nothing; the ratio is shown.
    Nothing { ratio: f64 },
    /// The ratio that was reached and the one that is aimed at.
    AtLeast { ratio: f64, aim: f64 },
    /// The ratio that was reached and the one that it should not pass.
    AtMost { ratio: f64, aim: f64 },
    /// p50 and p99 in ms, and those that are aimed at.
    Within { got: [f64; 2], aim: [f64; 2] },
    /// Bytes, and those that should not be passed.
    Bytes { got: f64, aim: f64 },
}

impl Aim {
    /// `None` where nothing is aimed at.
    fn is_met(self) -> Option<bool> {
        match self {
            Self::Nothing { .. } => None,
            Self::AtLeast { ratio, aim } => Some(ratio >= aim),
            Self::AtMost { ratio, aim } => Some(ratio <= aim),
            Self::Within { got, aim } => Some(got.iter().zip(aim).all(|(got, aim)| *got <= aim)),
            Self::Bytes { got, aim } => Some(got <= aim),
        }
    }

    fn text(self) -> String {
        let met = if self.is_met() == Some(false) { "NOT met" } else { "met" };
        match self {
            Self::Nothing { ratio } => format!("ratio {ratio:.2}"),
            Self::AtLeast { ratio, aim } => format!("ratio {ratio:.2}, aim ≥ {aim}: {met}"),
            Self::AtMost { ratio, aim } => format!("ratio {ratio:.2}, aim ≤ {aim}: {met}"),
            Self::Within { aim: [p50, p99], .. } => format!("p50 ≤ {p50} ms, p99 ≤ {p99} ms: {met}"),
            Self::Bytes { aim, .. } => format!("aim ≤ {:.0} KiB: {met}", aim / 1024.0),
        }
    }
}

impl Line {
    pub(crate) fn new(what: impl Into<String>, figure: impl Into<String>, beside: impl Into<String>) -> Self {
        Self { what: what.into(), figure: figure.into(), beside: beside.into(), aim: None }
    }

    #[must_use]
    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self
    }
}

impl Report {
    /// The one line of JSON, on standard output at once.
    pub(crate) fn print(&self, machine: &Machine, noise: f64) -> Result<()> {
        let aims: Vec<bool> = self.lines.iter().filter_map(|line| line.aim?.is_met()).collect();
        let line = json!({
            "name": self.name,
            "figures": self.figures,
            "limits": self.limits,
            "ratio": self.ratio,
            "aims_met": aims.iter().filter(|met| **met).count(),
            "aims": aims.len(),
            "others_share_of_cpu": rounded(noise),
            "machine": machine.json(),
        });
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }
}

/// Says what is being done, on standard error.
pub(crate) fn say(line: impl std::fmt::Display) {
    // Nobody has to read it.
    let _ = writeln!(std::io::stderr().lock(), "· {line}");
}

/// The table of all reports, on standard error.
pub(crate) fn print_table(reports: &[Report], machine: &Machine) {
    let mut out = std::io::stderr().lock();
    // Nobody has to read it.
    let _ = writeln!(out, "\n{}\n\n{}", machine.text(), table(reports));
}

fn table(reports: &[Report]) -> String {
    let head = ["measure", "what", "figure", "beside", "aim"].map(str::to_owned);
    let rows = reports.iter().flat_map(|report| report.lines.iter().map(|line| (report.name, line)));
    let rows = rows.map(|(name, line)| {
        let aim = line.aim.map_or_else(String::new, Aim::text);
        [name.to_owned(), line.what.clone(), line.figure.clone(), line.beside.clone(), aim]
    });
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Rounded for JSON: more decimals say nothing.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (value, expected) in [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(grouped(value), expected);
        }
    }

    #[test]
    fn aims_say_whether_they_are_met() {
        assert_eq!(Aim::AtLeast { ratio: 1.0, aim: 1.0 }.text(), "ratio 1.00, aim ≥ 1: met");
        assert_eq!(Aim::AtLeast { ratio: 0.7, aim: 0.8 }.text(), "ratio 0.70, aim ≥ 0.8: NOT met");
        assert_eq!(Aim::Nothing { ratio: 0.5 }.text(), "ratio 0.50");
        assert_eq!(Aim::Within { got: [3.0, 10.0], aim: [3.0, 10.0] }.is_met(), Some(true));
        assert_eq!(Aim::Within { got: [1.0, 10.1], aim: [3.0, 10.0] }.is_met(), Some(false));
        assert_eq!(Aim::Bytes { got: 8193.0, aim: 8192.0 }.text(), "aim ≤ 8 KiB: NOT met");
    }

    #[test]
    fn columns_line_up() {
        let report = |name, what: &str| Report {
            name,
            figures: Value::Null,
            limits: Value::Null,
            ratio: Value::Null,
            lines: vec![Line::new(what, "1", "2")],
        };
        let text = table(&[report("a", "short"), report("longer name", "é")]);
        let starts: Vec<Option<usize>> =
            text.lines().skip(1).map(|line| line.chars().position(|char| char == '1')).collect();
        assert_eq!(starts.first(), starts.get(1));
    }
}
