//! An event as one line of text. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reactor_model::EventId;
use reactor_protocol::sse::SseEvent;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::output::printable;

/// Of an id that is not of our form, what is shown.
const SHOWN_ID_CHARS: usize = 16;

const DAY_SECS: u64 = 24 * 60 * 60;

/// `{"event","id","data"}`. Data that is JSON keeps its text, so that no digit of a number is lost; other data becomes
/// a string.
pub(super) fn json(event: &SseEvent) -> String {
    #[derive(Serialize)]
    struct Line<'a, D: Serialize> {
        event: &'a str,
        id: Option<&'a str>,
        data: D,
    }
    let (name, id) = (event.event.as_str(), event.id.as_deref());
    // Line breaks stand only between the tokens of JSON.
    let data = serde_json::from_str::<Box<RawValue>>(&event.data.replace(['\n', '\r'], " "));
    let line = match data {
        Ok(data) => serde_json::to_string(&Line { event: name, id, data }),
        Err(_) => serde_json::to_string(&Line { event: name, id, data: &event.data }),
    };
    // Strings and JSON always become JSON.
    line.unwrap_or_default() + "\n"
}

/// Time, name, the id's place in the log, and the data.
pub(super) fn human(event: &SseEvent, now: SystemTime) -> String {
    let id = event.id.as_deref().map_or_else(|| "-".to_owned(), short_id);
    format!("{} {:<9} {:<12} {}\n", time_of_day(now), printable(&event.event), id, printable(&event.data))
}

/// `<commit LSN>/<ordinal>`: what differs between the events of one run.
fn short_id(id: &str) -> String {
    match id.parse::<EventId>() {
        Ok(EventId { position, .. }) => format!("{:x}/{}", position.lsn.0, position.ordinal),
        Err(_) => printable(id).chars().take(SHOWN_ID_CHARS).collect(),
    }
}

/// `hh:mm:ss.mmmZ`
fn time_of_day(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let secs = since.as_secs() % DAY_SECS;
    format!("{:02}:{:02}:{:02}.{:03}Z", secs / 3600, secs / 60 % 60, secs % 60, since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, id: Option<&str>, data: &str) -> SseEvent {
        SseEvent { id: id.map(str::to_owned), event: name.to_owned(), data: data.to_owned(), retry: None }
    }

    #[test]
    fn json_lines_keep_the_data() {
        for (given, expected) in [
            (
                event("insert", Some("i"), r#"{"n":12345678901234567890.10,"n":1}"#),
                r#"{"event":"insert","id":"i","data":{"n":12345678901234567890.10,"n":1}}"#,
            ),
            (event("x", None, "{\"a\":\n1}"), r#"{"event":"x","id":null,"data":{"a": 1}}"#),
            (event("x", None, "not \"json\"\nat all"), r#"{"event":"x","id":null,"data":"not \"json\"\nat all"}"#),
            (event("x", None, ""), r#"{"event":"x","id":null,"data":""}"#),
        ] {
            assert_eq!(json(&given), format!("{expected}\n"), "{given:?}");
        }
    }

    #[test]
    fn human_lines_are_short_and_safe() {
        let now = UNIX_EPOCH + Duration::from_millis(3 * DAY_SECS * 1000 + 45_296_789);
        for (given, expected) in [
            (
                event("insert", Some("000000ab-00000000016b3748-00000003"), r#"{"a":1}"#),
                r#"12:34:56.789Z insert    16b3748/3    {"a":1}"#,
            ),
            (event("ready", None, "{}"), "12:34:56.789Z ready     -            {}"),
            (
                event("x\u{1b}", Some("something of another server"), "a\nb"),
                r"12:34:56.789Z x\u{1b}   something of ano a\u{a}b",
            ),
        ] {
            assert_eq!(human(&given, now), format!("{expected}\n"));
        }
    }
}
