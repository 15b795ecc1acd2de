//! Tokens as an application's login would sign them.

use anyhow::Result;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

/// Signs `claims` with HS256. Nothing is added: a token without `exp` is one.
pub fn token(secret: &str, claims: &Value) -> Result<String> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)?)
}

/// The claims of a signed-in user: `role`, `sub`, and an `exp` in one hour.
pub fn user(role: &str, sub: &str) -> Map<String, Value> {
    let claims = json!({ "role": role, "sub": sub, "iat": now(), "exp": now() + 3600 });
    claims.as_object().cloned().unwrap_or_default()
}

/// The same user as a member of these orgs.
pub fn member(role: &str, sub: &str, orgs: &[&str]) -> Map<String, Value> {
    let mut claims = user(role, sub);
    claims.insert("orgs".to_owned(), json!(orgs));
    claims
}

/// The current time in seconds, for `exp`, `nbf` and `iat`.
pub fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}
