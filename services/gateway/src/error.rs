//! Refusals as clients see them: JSON with the catalogue's code, or an SSE `error` event.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use reactor_model::Code;
use reactor_policy_engine::{AuthorizerError, Denial};

use crate::auth::AuthError;

/// Seconds in `Retry-After` of answers that may change soon.
const RETRY_AFTER_SECS: &str = "2";

/// A refused request, or the reason for closing a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Catalogue code.
    pub code: Code,
    /// What is wrong, naming the part.
    pub message: String,
    /// How to mend it.
    pub hint: String,
}

impl ApiError {
    /// An error with the code's own remedy as hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: code.remedy().to_owned() }
    }

    /// The code's own meaning and remedy.
    #[must_use]
    pub fn of(code: Code) -> Self {
        Self::new(code, code.meaning())
    }

    /// `{"code","message","hint"}` as JSON text.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::json!({"code": self.code.as_str(), "message": self.message, "hint": self.hint}).to_string()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
            }
            _ => {}
        }
        response
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Missing => Code::TokenMissing,
            AuthError::Expired => Code::TokenExpired,
            AuthError::KeysUnavailable => Code::KeysUnavailable,
            AuthError::Malformed
            | AuthError::Signature
            | AuthError::NoKey
            | AuthError::Claim(_)
            | AuthError::Orgs
            | AuthError::Validator(_) => Code::TokenInvalid,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Denial> for ApiError {
    fn from(denial: Denial) -> Self {
        Self { code: denial.code, message: denial.message, hint: denial.hint }
    }
}

impl From<AuthorizerError> for ApiError {
    fn from(error: AuthorizerError) -> Self {
        match error {
            AuthorizerError::UnknownTenant => Self::of(Code::TenantUnknown),
            AuthorizerError::Unavailable(_) | AuthorizerError::Timeout => Self::of(Code::PolicyUnavailable),
        }
    }
}
