//! What a token says about itself. Nothing here is verified; that is the gateway's business.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The claims that are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) role: Option<String>,
    pub(super) sub: Option<String>,
    pub(super) expires_at: Option<i64>,
}

impl Claims {
    /// `None` when it is not a JWT.
    pub(super) fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
        let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: Map<String, Value> = serde_json::from_slice(&bytes).ok()?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        #[expect(clippy::cast_possible_truncation, reason = "the cast saturates; fractions of a second are not shown")]
        let expires_at = claims.get("exp").and_then(Value::as_f64).map(|secs| secs as i64);
        Some(Self { role: text("role"), sub: text("sub"), expires_at })
    }
}

/// `2026-11-30T12:00:00Z (in 59 min)`
pub(super) fn moment(at: i64, now: i64) -> String {
    let left = at.saturating_sub(now);
    let date = OffsetDateTime::from_unix_timestamp(at).ok().and_then(|at| at.format(&Rfc3339).ok());
    let date = date.unwrap_or_else(|| format!("{at} s after 1970"));
    if left > 0 { format!("{date} (in {})", span(left)) } else { format!("{date} ({} ago)", span(-left)) }
}

/// A number of seconds in the largest unit that gives at least two.
fn span(secs: i64) -> String {
    match secs {
        ..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs / 60),
        7_200..172_800 => format!("{} h", secs / 3_600),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_read_without_the_key() {
        let token = |claims: &Value| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let claims = Claims::read(&token(&json!({"role":"r","sub":"s","exp":1000.5}))).expect("claims");
        assert_eq!(claims, Claims { role: Some("r".into()), sub: Some("s".into()), expires_at: Some(1000) });
        assert_eq!(Claims::read(&token(&json!({"role":7}))), Some(Claims::default()));
        for wrong in ["", "a.b", "a.b.c", "e30.e30.e30.e30", &token(&json!([]))] {
            assert_eq!(Claims::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn moments_are_told_from_here() {
        for (at, expected) in [
            (1_700_000_090, "2023-11-14T22:14:50Z (in 90 s)"),
            (1_700_003_600, "2023-11-14T23:13:20Z (in 60 min)"),
            (1_700_000_000, "2023-11-14T22:13:20Z (0 s ago)"),
            (1_699_740_800, "2023-11-11T22:13:20Z (3 days ago)"),
            (i64::MAX, "9223372036854775807 s after 1970 (in 106751991147624 days)"),
        ] {
            assert_eq!(moment(at, 1_700_000_000), expected);
        }
    }
}
