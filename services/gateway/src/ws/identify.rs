//! Tokens of WebSocket clients, and what is said of those that are refused, in this protocol's words.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reactor_protocol::texts::{JoinRefusal, TokenRefusal};
use reactor_runtime::clock;
use serde_json::Value;

use crate::auth::{AuthError, Identity, TokenVerifier};

/// A token as clients write it in a URL or a header, without the blanks that editors put in.
#[must_use]
pub fn trimmed(token: &str) -> String {
    token.chars().filter(|character| !character.is_whitespace()).collect()
}

/// Verifies a token now.
///
/// # Errors
/// [`AuthError`].
pub async fn verify(verifier: &TokenVerifier, token: &str) -> Result<Identity, AuthError> {
    verifier.verify(token, u64::try_from(clock::unix_secs()).unwrap_or(0)).await
}

/// Why a join with this token is refused.
#[must_use]
pub fn refusal(error: &AuthError, token: &str) -> JoinRefusal {
    JoinRefusal::Token(match error {
        AuthError::Missing | AuthError::Malformed => TokenRefusal::Malformed,
        AuthError::Signature => TokenRefusal::BadSignature,
        AuthError::NoKey => TokenRefusal::NoSigner { kid: kid(token) },
        AuthError::KeysUnavailable => return JoinRefusal::Initializing,
        AuthError::Expired => TokenRefusal::Expired { seconds_ago: seconds_since_end(token) },
        AuthError::Claim("exp" | "role") => TokenRefusal::MissingClaims,
        AuthError::Claim(_) => TokenRefusal::BadExpiry,
        AuthError::Orgs | AuthError::Validator(_) => TokenRefusal::BadSignature,
    })
}

/// The status and text of a refused upgrade.
#[must_use]
pub fn upgrade_refusal(error: &AuthError, token: &str) -> (u16, String) {
    let text = match error {
        AuthError::Missing => "API key is missing".to_owned(),
        AuthError::Expired => "Token has expired".to_owned(),
        AuthError::KeysUnavailable => return (500, "Error connecting to Realtime".to_owned()),
        other => match refusal(other, token) {
            JoinRefusal::Token(token) => token.to_string(),
            refusal => refusal.to_string(),
        },
    };
    (401, text)
}

fn kid(token: &str) -> Option<String> {
    jsonwebtoken::decode_header(token).ok()?.kid
}

/// Of a token whose signature was verified.
fn seconds_since_end(token: &str) -> u64 {
    let end = || {
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
        Some(claims.get("exp")?.as_f64()?.round() as i64)
    };
    let ago = clock::unix_secs().saturating_sub(end().unwrap_or(i64::MAX));
    u64::try_from(ago).unwrap_or(0)
}
