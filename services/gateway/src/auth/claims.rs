//! What a verified token says, as far as delivery depends on it.

use std::collections::BTreeSet;
use std::fmt;

use reactor_policy_engine::Principal;
use serde_json::{Map, Value};

use super::AuthError;

/// A verified token.
#[derive(Clone)]
pub struct Identity {
    /// Role and permissions, as the policy question needs them.
    pub principal: Principal,
    /// Organisations that the token belongs to; `None` when it has no such claim and is not org-scoped.
    pub orgs: Option<Vec<String>>,
    /// Unix time in seconds at which the token ends.
    pub expires_at: u64,
}

impl fmt::Debug for Identity {
    /// Leaves the organisations out: claims never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let orgs = self.orgs.as_ref().map(Vec::len);
        let mut shown = f.debug_struct("Identity");
        shown.field("principal", &self.principal).field("orgs", &orgs).field("expires_at", &self.expires_at).finish()
    }
}

/// Seconds that `nbf` and `iat` may lie in the future: clocks of issuer and server differ by about this much.
const CLOCK_SKEW_SECS: f64 = 5.0;

impl Identity {
    /// Checks the claims of a token whose signature is verified. `now` is Unix time in seconds.
    ///
    /// # Errors
    /// [`AuthError`] naming the claim that is missing or refused.
    pub(super) fn from_claims(
        claims: &Map<String, Value>,
        org_claim: &str,
        validators: &std::collections::BTreeMap<String, Value>,
        now: u64,
    ) -> Result<Self, AuthError> {
        let number = |name: &'static str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(AuthError::Claim(name)),
        };
        let expires_at = number("exp")?.ok_or(AuthError::Claim("exp"))?;
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
        let now = now as f64;
        if expires_at.round() <= now {
            return Err(AuthError::Expired);
        }
        for early in ["nbf", "iat"] {
            if number(early)?.is_some_and(|at| at > now + CLOCK_SKEW_SECS) {
                return Err(AuthError::Claim(early));
            }
        }
        let role = claims.get("role").and_then(Value::as_str).filter(|role| !role.is_empty() && !role.contains('\0'));
        let role = role.ok_or(AuthError::Claim("role"))?.to_owned();
        for (name, expected) in validators {
            if claims.get(name) != Some(expected) {
                return Err(AuthError::Validator(name.clone()));
            }
        }
        let principal = Principal { role, permissions: permissions(claims), claims_json: canonical(claims) };
        let orgs = orgs(claims, org_claim)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive: it is past `now`; the cast saturates"
        )]
        let expires_at = expires_at.round() as u64;
        Ok(Self { principal, orgs, expires_at })
    }
}

/// All claims as JSON text, the same for equal claims: keys in order, no blanks.
fn canonical(claims: &Map<String, Value>) -> String {
    let mut sorted = Value::Object(claims.clone());
    sorted.sort_all_objects();
    sorted.to_string()
}

fn permissions(claims: &Map<String, Value>) -> BTreeSet<String> {
    match claims.get("permissions") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        _ => BTreeSet::new(),
    }
}

/// The organisations in the configured claim, or in `org_id`. A claim of another form is refused rather than
/// taken for "not org-scoped", which would show more.
fn orgs(claims: &Map<String, Value>, org_claim: &str) -> Result<Option<Vec<String>>, AuthError> {
    let as_text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(AuthError::Orgs),
    };
    match claims.get(org_claim).filter(|value| !value.is_null()) {
        Some(Value::Array(list)) => list.iter().map(as_text).collect::<Result<_, _>>().map(Some),
        Some(single) => Ok(Some(vec![as_text(single)?])),
        None => match claims.get("org_id").filter(|value| !value.is_null()) {
            Some(single) => Ok(Some(vec![as_text(single)?])),
            None => Ok(None),
        },
    }
}

/// Which organisation's rows a connection sees in tables that have the org column.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ActiveOrg {
    /// The token has no organisations: rows are not limited by one.
    Unscoped,
    /// Only rows of this organisation.
    Org(String),
    /// The token has several and none was chosen: only tables without the org column can be read.
    Unchosen,
}

impl fmt::Debug for ActiveOrg {
    /// Leaves the organisation out: claims never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unscoped => "Unscoped",
            Self::Org(_) => "Org",
            Self::Unchosen => "Unchosen",
        })
    }
}

/// Finds the active organisation from the token's and the one asked for.
///
/// # Errors
/// `Err(())` when the one asked for is not among the token's.
#[expect(clippy::result_unit_err, reason = "there is one way to fail, and the caller names it")]
pub fn active_org(orgs: Option<&[String]>, asked: Option<&str>) -> Result<ActiveOrg, ()> {
    match (orgs, asked) {
        (None, None) => Ok(ActiveOrg::Unscoped),
        (Some(orgs), Some(asked)) if orgs.iter().any(|org| org == asked) => Ok(ActiveOrg::Org(asked.to_owned())),
        (_, Some(_)) => Err(()),
        (Some([only]), None) => Ok(ActiveOrg::Org(only.clone())),
        (Some(_), None) => Ok(ActiveOrg::Unchosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn check(claims: &Value, expected: Result<(), &str>) {
        let validators = BTreeMap::from([("iss".to_owned(), json!("me"))]);
        let claims = claims.as_object().expect("object");
        let got = Identity::from_claims(claims, "orgs", &validators, 1000).map(|_| ()).map_err(|e| e.to_string());
        match (got, expected) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(part)) => assert!(got.contains(part), "{got:?} should name {part:?}"),
            (got, expected) => panic!("{claims:?}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn claims_are_checked() {
        check(&json!({"iss":"me","role":"r","exp":1001}), Ok(()));
        check(&json!({"iss":"me","role":"r","exp":1000.6,"iat":999.5,"nbf":1003}), Ok(()));
        check(&json!({"iss":"me","role":"r","exp":1000}), Err("expired"));
        check(&json!({"iss":"me","role":"r"}), Err("exp"));
        check(&json!({"iss":"me","role":"r","exp":"1001"}), Err("exp"));
        check(&json!({"iss":"me","exp":1001}), Err("role"));
        check(&json!({"iss":"me","role":7,"exp":1001}), Err("role"));
        check(&json!({"iss":"me","role":"r","exp":2000,"nbf":1010}), Err("nbf"));
        check(&json!({"iss":"me","role":"r","exp":2000,"iat":"x"}), Err("iat"));
        check(&json!({"iss":"you","role":"r","exp":2000}), Err("iss"));
        check(&json!({"iss":"me","role":"r","exp":2000,"orgs":{"a":1}}), Err("organisation"));
    }

    #[test]
    fn all_claims_are_kept_in_one_form() {
        let of = |text: &str| {
            let claims: Map<String, Value> = serde_json::from_str(text).expect("object");
            Identity::from_claims(&claims, "orgs", &BTreeMap::new(), 1000).expect("identity").principal
        };
        let principal = of(r#"{ "sub": "u", "role": "r", "exp": 2000, "app": {"b": [1, "x"], "a": null} }"#);
        assert_eq!(principal.claims_json, r#"{"app":{"a":null,"b":[1,"x"]},"exp":2000,"role":"r","sub":"u"}"#);
        assert_eq!(principal, of(r#"{"app":{"a":null,"b":[1,"x"]},"exp":2000,"sub":"u","role":"r"}"#));
        assert!(!format!("{principal:?}").contains("sub"));
    }

    #[test]
    fn orgs_are_found() {
        let of = |claims: Value| orgs(claims.as_object().expect("object"), "orgs").expect("orgs");
        assert_eq!(of(json!({})), None);
        assert_eq!(of(json!({"orgs":["a","b"]})), Some(vec!["a".into(), "b".into()]));
        assert_eq!(of(json!({"orgs":[]})), Some(vec![]));
        assert_eq!(of(json!({"org_id":"a"})), Some(vec!["a".into()]));
        assert_eq!(of(json!({"org_id":7})), Some(vec!["7".into()]));
    }

    #[test]
    fn the_active_org_is_one_of_the_tokens() {
        let two = ["a".to_owned(), "b".to_owned()];
        assert_eq!(active_org(None, None), Ok(ActiveOrg::Unscoped));
        assert_eq!(active_org(None, Some("a")), Err(()));
        assert_eq!(active_org(Some(&two), Some("b")), Ok(ActiveOrg::Org("b".into())));
        assert_eq!(active_org(Some(&two), Some("c")), Err(()));
        assert_eq!(active_org(Some(&two), None), Ok(ActiveOrg::Unchosen));
        assert_eq!(active_org(Some(&two[..1]), None), Ok(ActiveOrg::Org("a".into())));
    }
}
