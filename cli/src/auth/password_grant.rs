//! Asking a server for a token with e-mail and password: as OAuth2 has it (RFC 6749, 4.3), or as Supabase's GoTrue does.

use std::time::Duration;

use reqwest::{Response, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::claims::Claims;
use super::store::Login;
use crate::exit::{Failure, Outcome};
use crate::gateway;
use crate::output::printable;

/// A login that hashes passwords with care takes a second or two.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What is read of an answer; tokens with many claims are a few kilobytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// What is asked for. Has no `Debug`, as it holds a password.
pub(super) struct Credentials<'a> {
    pub(super) email: &'a str,
    pub(super) password: &'a str,
}

/// Gets a token.
pub(super) async fn ask(url: &Url, credentials: Credentials<'_>, now: i64) -> Outcome<Login> {
    let client = gateway::client_without_redirects()?;
    let request = client.post(url.clone()).header("accept", "application/json").timeout(ANSWER_WITHIN);
    let Credentials { email, password } = credentials;
    let request = if names_the_grant(url) {
        request.json(&json!({"email": email, "password": password}))
    } else {
        request.form(&[("grant_type", "password"), ("username", email), ("password", password)])
    };
    let unreachable = |error: reqwest::Error| {
        Failure::failed(format!("cannot ask {} for a token: {}", gateway::origin(url), gateway::reason(&error)))
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let body = body(response).await.map_err(unreachable)?;
    if !status.is_success() {
        return Err(Failure::failed(format!("the login was refused with {}{}", status.as_u16(), why(&body))));
    }
    read(&body, now).ok_or_else(|| {
        Failure::failed(format!("{} answered without a token: is it the right address?", gateway::origin(url)))
    })
}

/// GoTrue has the grant in the address and the rest as JSON; OAuth2 has a form.
fn names_the_grant(url: &Url) -> bool {
    url.query_pairs().any(|(name, value)| name == "grant_type" && value == "password")
}

async fn body(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(body)
}

fn read(body: &[u8], now: i64) -> Option<Login> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
        #[serde(default)]
        refresh_token: Option<String>,
        #[serde(default)]
        expires_in: Option<f64>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    if answer.access_token.is_empty() || !answer.access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    // What the token itself says is what the gateway goes by.
    let claimed = Claims::read(&answer.access_token).and_then(|claims| claims.expires_at);
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates; fractions of a second do not matter")]
    let promised = answer.expires_in.map(|secs| now.saturating_add(secs as i64));
    Some(Login {
        access_token: answer.access_token,
        refresh_token: answer.refresh_token,
        expires_at: claimed.or(promised),
    })
}

/// `: code: description`, from the forms in which servers say it; nothing of any other body.
fn why(body: &[u8]) -> String {
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else { return String::new() };
    let first = |names: &[&str]| {
        let found = names.iter().find_map(|name| answer.get(*name)?.as_str().filter(|text| !text.is_empty()));
        found.map(printable)
    };
    let code = first(&["error", "error_code"]);
    let description = first(&["error_description", "msg", "message"]);
    [code, description].into_iter().flatten().map(|part| format!(": {part}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let login = read(br#"{"access_token":"abc","refresh_token":"r","expires_in":60,"token_type":"bearer"}"#, 1000);
        let login = login.expect("a login");
        assert_eq!(login.access_token, "abc");
        assert_eq!((login.refresh_token.as_deref(), login.expires_at), (Some("r"), Some(1060)));
        for wrong in [&b"{}"[..], b"", b"<html>", br#"{"access_token":""}"#, br#"{"access_token":"a b"}"#] {
            assert!(read(wrong, 0).is_none());
        }
    }

    #[test]
    fn refusals_are_told_in_every_form() {
        for (body, expected) in [
            (r#"{"error":"invalid_grant","error_description":"wrong password"}"#, ": invalid_grant: wrong password"),
            (
                r#"{"code":400,"error_code":"invalid_credentials","msg":"Invalid login"}"#,
                ": invalid_credentials: Invalid login",
            ),
            (r#"{"message":"no"}"#, ": no"),
            ("<html>", ""),
        ] {
            assert_eq!(why(body.as_bytes()), expected);
        }
    }

    #[test]
    fn the_form_follows_the_address() {
        let names = |url: &str| names_the_grant(&Url::parse(url).expect("a URL"));
        assert!(names("http://h/auth/v1/token?grant_type=password"));
        assert!(!names("http://h/oauth/token"));
        assert!(!names("http://h/token?grant_type=other"));
    }
}
