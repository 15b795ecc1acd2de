//! How one connection ended, and whether another may do better. Pure.

use std::fmt;
use std::time::Duration;

use reactor_model::Code;
use reactor_model::code::Reconnect;
use serde_json::{Map, Value};

use crate::output::printable;

/// Of an answer that is not ours, what is shown.
const SHOWN_CHARS: usize = 200;

/// `{"code","message","hint"}`, of a refusal or an `error` event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) hint: Option<String>,
}

impl Problem {
    /// From a JSON object; of anything else the first line becomes the message.
    pub(super) fn read(body: &[u8]) -> Self {
        if let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(body) {
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
            return Self { code: text("code"), message: text("message"), hint: text("hint") };
        }
        let text = String::from_utf8_lossy(body);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty());
        Self { message: line.map(|line| line.chars().take(SHOWN_CHARS).collect()), ..Self::default() }
    }
}

/// `code: message (hint)`, as far as there is something to say.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.code.as_deref().and_then(Code::from_wire);
        let message = self.message.as_deref().or(known.map(Code::meaning)).unwrap_or("no reason was given");
        if let Some(code) = &self.code {
            write!(f, "{}: ", printable(code))?;
        }
        f.write_str(&printable(message))?;
        match self.hint.as_deref().or(known.map(Code::remedy)) {
            Some(hint) if !hint.is_empty() => write!(f, "\n  hint: {}", printable(hint)),
            _ => Ok(()),
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The request cannot be sent as it is.
    Impossible(String),
    /// Nobody answered.
    Unreachable(String),
    /// The server refused.
    Refused { status: u16, code: Option<Code>, problem: Problem, retry_after: Option<Duration> },
    /// Something else than events was answered.
    NotEvents { status: u16, kind: String },
    /// An `error` event told why.
    Told(Problem),
    /// The server ended the stream without a word.
    Closed,
    /// The stream broke.
    Broken(String),
    /// Nothing came for this long.
    Idle(Duration),
}

impl Ended {
    /// Whether another connection may do better.
    pub(super) fn may_retry(&self) -> bool {
        match self {
            Self::Impossible(_) | Self::NotEvents { .. } => false,
            Self::Unreachable(_) | Self::Closed | Self::Broken(_) | Self::Idle(_) => true,
            Self::Refused { code: Some(code), .. } => code.reconnect() != Reconnect::No,
            // Not our server's words, such as a proxy's: too early, too many and the server's own troubles pass.
            Self::Refused { status, code: None, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Told(problem) => {
                // A newer server may know reasons that this program does not.
                let code = problem.code.as_deref().and_then(Code::from_wire);
                code.is_none_or(|code| code.reconnect() != Reconnect::No)
            }
        }
    }

    /// The time that the server asked for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(why) => write!(f, "the request cannot be sent: {}", printable(why)),
            Self::Unreachable(why) => write!(f, "cannot connect: {}", printable(why)),
            Self::Refused { status, problem, .. } => write!(f, "refused with {status}: {problem}"),
            Self::NotEvents { status, kind } if kind.is_empty() => {
                write!(f, "the answer is not an event stream ({status} without a type): is this a Reactor gateway?")
            }
            Self::NotEvents { status, kind } => {
                let kind = printable(kind);
                write!(f, "the answer is not an event stream ({status}, {kind}): is this a Reactor gateway?")
            }
            Self::Told(problem) => write!(f, "closed by the server: {problem}"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Broken(why) => write!(f, "the connection broke: {}", printable(why)),
            Self::Idle(time) => write!(f, "nothing came for {} s", time.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Ended {
        let problem = Problem::read(body.as_bytes());
        let code = problem.code.as_deref().and_then(Code::from_wire);
        Ended::Refused { status, code, problem, retry_after: None }
    }

    fn told(code: &str) -> Ended {
        Ended::Told(Problem { code: Some(code.to_owned()), ..Problem::default() })
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for (ended, expected) in [
            (refused(401, r#"{"code":"token_missing","message":"m","hint":"h"}"#), false),
            (refused(403, r#"{"code":"permission_denied"}"#), false),
            (refused(404, "not found"), false),
            (refused(400, r#"{"code":"bad_filter"}"#), false),
            (refused(503, r#"{"code":"realtime_disabled"}"#), false),
            (refused(503, r#"{"code":"not_ready"}"#), true),
            (refused(503, r#"{"code":"draining"}"#), true),
            (refused(429, r#"{"code":"too_many_connections"}"#), true),
            (refused(429, ""), true),
            (refused(502, "<html>"), true),
            (refused(500, r#"{"code":"never heard of"}"#), true),
            (refused(302, ""), false),
            (told("token_expired"), false),
            (told("permission_denied"), false),
            (told("slow_consumer"), true),
            (told("draining"), true),
            (told("schema_changed"), true),
            (told("never_heard_of"), true),
            (Ended::Closed, true),
            (Ended::Idle(Duration::from_secs(75)), true),
            (Ended::Broken("reset".to_owned()), true),
            (Ended::Unreachable("refused".to_owned()), true),
            (Ended::NotEvents { status: 200, kind: "text/html".to_owned() }, false),
            (Ended::Impossible("x".to_owned()), false),
        ] {
            assert_eq!(ended.may_retry(), expected, "{ended:?}");
        }
    }

    #[test]
    fn refusals_are_told_with_code_message_and_hint() {
        let check = |ended: Ended, expected: &str| assert_eq!(ended.to_string(), expected);
        check(
            refused(403, r#"{"code":"permission_denied","message":"no SELECT on \"t\"","hint":"grant it"}"#),
            "refused with 403: permission_denied: no SELECT on \"t\"\n  hint: grant it",
        );
        check(
            refused(502, "\n <h1>Bad\u{1b}[1m Gateway</h1>\nmore"),
            "refused with 502: <h1>Bad\\u{1b}[1m Gateway</h1>",
        );
        check(refused(404, ""), "refused with 404: no reason was given");
        check(refused(500, r#"["a"]"#), r#"refused with 500: ["a"]"#);
        check(refused(500, r#"{"code":7,"message":"m"}"#), "refused with 500: m");
        check(
            told("token_expired"),
            "closed by the server: token_expired: The token's exp has passed.\n  hint: refresh the token and reconnect with the last event id",
        );
    }
}
