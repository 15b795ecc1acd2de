//! Signature verification by shared secret or JWKS.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::claims::Identity;
use super::jwks::JwksCache;

/// Why a token was refused. Texts never hold the token or its claims' values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token was sent.
    #[error("no token was sent")]
    Missing,
    /// Not a JWT.
    #[error("the token is not a valid JWT")]
    Malformed,
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    Signature,
    /// No key for the token's algorithm and key id.
    #[error("no key is configured for the token's algorithm and key id")]
    NoKey,
    /// The key endpoint has not answered yet.
    #[error("the keys that tokens are verified with cannot be had at the moment")]
    KeysUnavailable,
    /// A needed claim is missing, has another type, or lies in the future.
    #[error("the claim `{0}` is missing, of a wrong type, or not valid yet")]
    Claim(&'static str),
    /// The organisations are not a text or a list of texts.
    #[error("the organisation claim is neither a text nor a list of texts")]
    Orgs,
    /// A configured claim validator does not hold.
    #[error("the claim `{0}` does not have the configured value")]
    Validator(String),
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
}

/// What tokens are verified with.
#[derive(Clone, Default)]
pub struct VerifierSettings {
    /// Shared secret of HS256, HS384 and HS512.
    pub secret: Option<Vec<u8>>,
    /// Keys of the other algorithms.
    pub jwks: Option<Arc<JwksCache>>,
    /// Claims that must have exactly these values.
    pub validators: BTreeMap<String, Value>,
    /// Claim with the token's organisations.
    pub org_claim: String,
}

impl std::fmt::Debug for VerifierSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifierSettings").field("has_secret", &self.secret.is_some()).finish_non_exhaustive()
    }
}

/// Verifies tokens.
#[derive(Debug)]
pub struct TokenVerifier {
    settings: VerifierSettings,
}

impl TokenVerifier {
    /// A verifier with these settings.
    #[must_use]
    pub fn new(settings: VerifierSettings) -> Self {
        Self { settings }
    }

    /// Verifies a token; `now` is Unix time in seconds.
    ///
    /// Waits for the JWKS endpoint only when the key id is unknown, and then no longer than its deadline.
    ///
    /// # Errors
    /// [`AuthError`] with the first reason for which it is refused.
    pub async fn verify(&self, token: &str, now: u64) -> Result<Identity, AuthError> {
        let token = token.trim();
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: what is critical and not understood must be refused, and nothing of it is understood.
            return Err(AuthError::Malformed);
        }
        let keys = self.keys(header.alg, header.kid.as_deref()).await;
        let has_keys = self.settings.jwks.as_ref().is_none_or(|jwks| jwks.is_fetched());
        let mut last = if has_keys { AuthError::NoKey } else { AuthError::KeysUnavailable };
        for key in keys {
            match claims(token, &key, header.alg) {
                Ok(claims) => {
                    let settings = &self.settings;
                    return Identity::from_claims(&claims, &settings.org_claim, &settings.validators, now);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The keys to try: for a key id its key; without one all that fit; the secret for HMAC.
    async fn keys(&self, algorithm: Algorithm, kid: Option<&str>) -> Vec<DecodingKey> {
        let secret = self.settings.secret.as_ref().filter(|_| algorithm.family() == AlgorithmFamily::Hmac);
        let jwks = match &self.settings.jwks {
            None => Vec::new(),
            // With a secret at hand a symmetric token does not wait for the endpoint.
            Some(jwks) if secret.is_some() => jwks.cached(kid),
            Some(jwks) => jwks.keys(kid).await,
        };
        let from_jwks = jwks.iter().filter(|jwk| fits(jwk, algorithm)).filter_map(decoding_key);
        from_jwks.chain(secret.map(|secret| DecodingKey::from_secret(secret))).collect()
    }
}

fn decoding_key(jwk: &Jwk) -> Option<DecodingKey> {
    DecodingKey::from_jwk(jwk).ok()
}

/// Whether a key may verify this algorithm. The key's type decides, never the token alone, so that a public key
/// cannot be used as an HMAC secret.
fn fits(jwk: &Jwk, algorithm: Algorithm) -> bool {
    let is_for_signatures = !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
    let named = jwk.common.key_algorithm.map(|named| named.to_string());
    is_for_signatures && named.is_none_or(|named| named == format!("{algorithm:?}")) && is_of_family(jwk, algorithm)
}

fn is_of_family(jwk: &Jwk, algorithm: Algorithm) -> bool {
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
        AlgorithmParameters::EllipticCurve(_) => algorithm.family() == AlgorithmFamily::Ec,
        AlgorithmParameters::OctetKeyPair(_) => algorithm.family() == AlgorithmFamily::Ed,
        AlgorithmParameters::OctetKey(_) => algorithm.family() == AlgorithmFamily::Hmac,
        #[allow(unreachable_patterns, reason = "the enum may grow")]
        _ => false,
    }
}

fn claims(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Map<String, Value>, AuthError> {
    // Only the signature is left to the library: claims are checked in `Identity::from_claims`, with one clock.
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    match jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation) {
        Ok(data) => Ok(data.claims),
        Err(error) => Err(match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => AuthError::Signature,
            jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => AuthError::NoKey,
            _ => AuthError::Malformed,
        }),
    }
}
