//! From what NATS answers to what the bus says.

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};

use crate::BusError;

type Source = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn unavailable(what: &'static str, source: impl Into<Source>) -> BusError {
    BusError::Unavailable(what, Some(source.into()))
}

/// A request that was answered with a refusal.
pub(super) fn refused(what: &'static str, error: jetstream::Error) -> BusError {
    match error.error_code() {
        ErrorCode::STREAM_NOT_FOUND => BusError::NoLog,
        _ => unavailable(what, error),
    }
}

/// An append that was not taken, or whose acknowledgement did not come.
pub(super) fn append_failed(error: PublishError, expected_last: u64) -> BusError {
    match error.kind() {
        PublishErrorKind::WrongLastSequence => wrong_last_sequence(error, expected_last),
        PublishErrorKind::WrongLastMessageId => wrong_last_id(error),
        // No stream listens on the subject.
        PublishErrorKind::StreamNotFound => BusError::NoLog,
        PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::MaxPayloadExceeded
        | PublishErrorKind::Other => unavailable("append failed", error),
    }
}

/// Behind what was expected, an append before this one was lost; ahead of it, somebody else has written.
fn wrong_last_sequence(error: PublishError, expected_last: u64) -> BusError {
    let actual = stated_last(&error).and_then(|last| last.parse::<u64>().ok());
    match actual {
        Some(actual) if actual < expected_last => unavailable("an append before this one was lost", error),
        _ => BusError::Fenced,
    }
}

/// A server that has just recovered may not know the last id: nobody else has written for that.
fn wrong_last_id(error: PublishError) -> BusError {
    match stated_last(&error).as_deref() {
        None | Some("") => unavailable("the server forgot the append before this one", error),
        Some(_) => BusError::Fenced,
    }
}

/// What the server says that the newest one is: a refusal reads `wrong last sequence: 17 (code 400, error code 10071)`.
fn stated_last(error: &PublishError) -> Option<String> {
    let refusal = std::error::Error::source(error)?.downcast_ref::<jetstream::Error>()?.to_string();
    let (_, stated) = refusal.split_once(": ")?;
    let (last, _) = stated.rsplit_once(" (code")?;
    Some(last.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: PublishErrorKind, description: &str) -> PublishError {
        let json = serde_json::json!({"code": 400, "err_code": 10071, "description": description});
        let source: jetstream::Error = serde_json::from_value(json).unwrap();
        PublishError::with_source(kind, source)
    }

    #[test]
    fn being_ahead_of_the_log_is_no_fence() {
        let error = |text| append_failed(refusal(PublishErrorKind::WrongLastSequence, text), 7);
        assert!(matches!(error("wrong last sequence: 8"), BusError::Fenced));
        assert!(matches!(error("wrong last sequence: 6"), BusError::Unavailable(..)));
        assert!(matches!(error("wrong last sequence"), BusError::Fenced));
    }

    #[test]
    fn a_forgotten_id_is_no_fence() {
        let error = |text| append_failed(refusal(PublishErrorKind::WrongLastMessageId, text), 7);
        assert!(matches!(error("wrong last msg ID: ab:8"), BusError::Fenced));
        assert!(matches!(error("wrong last msg ID: "), BusError::Unavailable(..)));
    }
}
