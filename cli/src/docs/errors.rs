//! `docs/errors.md`.

use std::fmt::Write;

use reactor_model::Code;
use reactor_model::code::Reconnect;

const HEAD: &str = "\
# Errors

<!-- Generated from crates/model/src/code.rs by `make docs`. -->

A refused request is answered with JSON: `{\"code\",\"message\",\"hint\"}`. An open connection that the server closes on
purpose gets the same in an `error` event first (SSE; [websocket.md](websocket.md) says what WebSocket clients are told). The code is what programs go by; message and hint are for people, and
name the part that is wrong.

What a program should do next:

- **no**: the same request gives the same answer. Change what is named.
- **backoff**: try again after a pause that grows and varies (or after `Retry-After`), with the last event id.
- **resume**: connect again at once, or after the `retry` that was sent, with the last event id.

| code | HTTP | again | what happened | what to do |
|---|---|---|---|---|
";

/// A row for each code.
pub(super) fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for code in Code::ALL {
        let status = match code.http_status() {
            0 => "closes a connection".to_owned(),
            status => status.to_string(),
        };
        let again = match code.reconnect() {
            Reconnect::No => "no",
            Reconnect::Backoff => "backoff",
            Reconnect::Resume => "resume",
        };
        let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
        // Writing to a String cannot fail.
        let _ =
            writeln!(page, "| `{code}` | {status} | {again} | {} | {} |", cell(code.meaning()), cell(code.remedy()));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_row() {
        let page = markdown();
        for code in Code::ALL {
            let rows = page.lines().filter(|line| line.starts_with(&format!("| `{code}` |"))).count();
            assert_eq!(rows, 1, "{code}");
        }
    }
}
