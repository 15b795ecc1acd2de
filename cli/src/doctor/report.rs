//! The checks as text. Pure.

use std::fmt::Write;

use reactor_pg::PgTarget;
use serde_json::json;

use super::check::{Check, Status, worst};
use crate::output::printable;

/// For people: a line for each check, and below it how to mend it.
pub(super) fn human(target: &PgTarget, checks: &[Check]) -> String {
    let mut text = format!("{target}\n\n");
    for check in checks {
        let line = format!("{:<4}  {}: {}", check.status.name(), check.name, printable(&check.message));
        text.push_str(&line);
        text.push('\n');
        for remedy in &check.remedy {
            text.push_str("      -> ");
            text.push_str(&printable(remedy));
            text.push('\n');
        }
    }
    let count = |status: Status| checks.iter().filter(|check| check.status == status).count();
    // Writing to a String cannot fail.
    let _ = match (count(Status::Fail), count(Status::Warn)) {
        (0, 0) => writeln!(text, "\nall is well"),
        (failures, warnings) => writeln!(text, "\nfailures: {failures}, warnings: {warnings}"),
    };
    text
}

/// For programs.
pub(super) fn json(target: &PgTarget, checks: &[Check]) -> String {
    let report = json!({"database": target.to_string(), "status": worst(checks), "checks": checks});
    format!("{report:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let target = PgTarget::parse("postgres://me:secret@h:5433/d").expect("a URL");
        let checks = [Check::ok("a", "fine"), Check::warn("b", "so\u{1b}so").mend("do;").mend("or do")];
        assert_eq!(
            human(&target, &checks),
            "h:5433/d\n\nok    a: fine\nwarn  b: so\\u{1b}so\n      -> do;\n      -> or do\n\nfailures: 0, warnings: 1\n"
        );
        let report: serde_json::Value = serde_json::from_str(&json(&target, &checks)).expect("JSON");
        assert_eq!(
            report,
            json!({"database":"h:5433/d","status":"warn","checks":[
                {"name":"a","status":"ok","message":"fine"},
                {"name":"b","status":"warn","message":"so\u{1b}so","remedy":["do;","or do"]},
            ]})
        );
        assert!(human(&target, &checks[..1]).ends_with("all is well\n"));
    }
}
