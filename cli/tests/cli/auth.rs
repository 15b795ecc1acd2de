//! Tokens and logins.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use reactor_testkit::token::now;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::command::{Folder, reactor, run, run_with_input};
use crate::script::{Answer, Script};

const SECRET: &str = "hush-this-is-the-secret-of-the-test-0123456789";

fn verified(token: &str, alg: Algorithm, secret: &str) -> Result<Value> {
    let mut validation = Validation::new(alg);
    validation.validate_aud = false;
    Ok(decode::<Value>(token.trim(), &DecodingKey::from_secret(secret.as_bytes()), &validation)?.claims)
}

#[tokio::test]
async fn a_token_verifies_and_says_what_was_asked() -> Result<()> {
    let mut token = reactor(&[
        "auth",
        "token",
        "--role",
        "authenticated",
        "--sub",
        "u-1",
        "--org",
        "acme",
        "--org",
        "other",
        "--permission",
        "data:todos:read",
        "--claim",
        "app={\"level\":3}",
        "--expires-in",
        "10m",
    ]);
    token.env("REACTOR_JWT_SECRET", SECRET);
    let ran = run(token).await?;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout.lines().count(), 1);

    let claims = verified(&ran.stdout, Algorithm::HS256, SECRET)?;
    for (name, expected) in [
        ("role", json!("authenticated")),
        ("sub", json!("u-1")),
        ("orgs", json!(["acme", "other"])),
        ("permissions", json!(["data:todos:read"])),
        ("app", json!({"level": 3})),
    ] {
        assert_eq!(claims[name], expected, "{claims}");
    }
    let left = claims["exp"].as_u64().context("exp")?.saturating_sub(now());
    assert!((500..=600).contains(&left), "{left}");
    Ok(())
}

#[tokio::test]
async fn the_secret_comes_from_flag_file_or_environment() -> Result<()> {
    let folder = Folder::new("secret")?;
    let file = folder.path().join("reactor.toml");
    std::fs::write(
        &file,
        format!("[auth]\njwt_secret = '{SECRET}'\norg_claim = 'teams'\njwt_claim_validators = {{ iss = 'me' }}\n"),
    )?;
    let file = file.display().to_string();

    let ran = run(reactor(&["auth", "token", "--config", &file, "--org", "acme", "--alg", "HS512"])).await?;
    assert_eq!(decode_header(ran.stdout.trim())?.alg, Algorithm::HS512);
    let claims = verified(&ran.stdout, Algorithm::HS512, SECRET)?;
    assert_eq!((&claims["teams"], &claims["iss"]), (&json!(["acme"]), &json!("me")), "{claims}");

    let ran = run(reactor(&["auth", "token", "--config", &file, "--secret", "another"])).await?;
    verified(&ran.stdout, Algorithm::HS256, "another")?;

    let ran = run(reactor(&["auth", "token"])).await?;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""));
    assert!(ran.stderr.contains("REACTOR_JWT_SECRET"), "{}", ran.stderr);
    Ok(())
}

/// With a home of its own.
fn at_home(home: &Folder, args: &[&str]) -> Command {
    let mut command = reactor(args);
    command.env("HOME", home.text());
    command
}

fn signed(claims: &Value) -> Result<String> {
    reactor_testkit::token(SECRET, claims)
}

#[tokio::test]
async fn a_login_by_password_is_kept_and_sent() -> Result<()> {
    let home = Folder::new("login")?;
    let token = signed(&json!({"role": "authenticated", "sub": "u-1", "exp": now() + 3600}))?;
    let grant =
        json!({"access_token": token, "token_type": "bearer", "expires_in": 3600, "refresh_token": "refresh-me"});
    let issuer = Script::start([Answer::refusal("200 OK", &grant.to_string())]).await?;
    let gateway = Script::start([Answer::refusal("404 Not Found", r#"{"code":"table_unknown"}"#)]).await?;
    let (login_url, url) = (format!("{}/oauth/token", issuer.url()), gateway.url());

    let mut login = at_home(&home, &["auth", "login", "me@example.com", "--password-stdin", "--url", &url]);
    login.env("REACTOR_LOGIN_URL", &login_url);
    let ran = run_with_input(login, "p&ss wörd\n").await?;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stderr.contains("as authenticated") && !ran.stderr.contains(&token), "{}", ran.stderr);
    let asked = issuer.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "POST /oauth/token HTTP/1.1");
    assert_eq!(asked[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked[0].body, "grant_type=password&username=me%40example.com&password=p%26ss+w%C3%B6rd");

    let file = home.path().join(".config/reactor/credentials.json");
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&file)?.contains("refresh-me"));

    let ran = run(at_home(&home, &["auth", "status"])).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in [url.as_str(), "role authenticated", "sub u-1", "expires 2"] {
        assert!(ran.stdout.contains(part), "{part} is not in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains(&token), "{}", ran.stdout);

    let ran = run(at_home(&home, &["realtime", "subscribe", "t", "--url", &url])).await?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(gateway.asked()[0].header("authorization"), Some(format!("Bearer {token}").as_str()));

    // To no other gateway.
    let ran = run(at_home(&home, &["realtime", "subscribe", "t", "--url", "http://127.0.0.1:9"])).await?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("no token for http://127.0.0.1:9") && ran.stderr.contains(&url), "{}", ran.stderr);

    let ran = run(at_home(&home, &["auth", "logout", "--url", &url])).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run(at_home(&home, &["auth", "status", "--url", &url])).await?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    Ok(())
}

#[tokio::test]
async fn gotrue_gets_json() -> Result<()> {
    let home = Folder::new("gotrue")?;
    let token = signed(&json!({"role": "authenticated", "exp": now() + 3600}))?;
    let grant = json!({"access_token": token, "refresh_token": "r", "user": {"id": "u"}});
    let issuer = Script::start([Answer::refusal("200 OK", &grant.to_string())]).await?;
    let login_url = format!("{}/auth/v1/token?grant_type=password", issuer.url());
    let ran = run(at_home(&home, &["auth", "login", "me@x", "--password", "p", "--login-url", &login_url])).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let asked = issuer.asked();
    assert_eq!(asked[0].line, "POST /auth/v1/token?grant_type=password HTTP/1.1");
    assert_eq!(serde_json::from_str::<Value>(&asked[0].body)?, json!({"email": "me@x", "password": "p"}));
    Ok(())
}

#[tokio::test]
async fn refused_logins_say_why_and_keep_nothing() -> Result<()> {
    let home = Folder::new("refused")?;
    let elsewhere = "location: http://127.0.0.1:9/\r\n";
    let refusal = r#"{"error":"invalid_grant","error_description":"wrong password"}"#;
    for (answer, part) in [
        (Answer::refusal("400 Bad Request", refusal), "invalid_grant: wrong password"),
        (Answer::status("500 Internal Server Error", "", "<html>secret</html>"), "refused with 500"),
        (Answer::status("200 OK", "content-type: text/html\r\n", "<html>"), "without a token"),
        (Answer::status("307 Temporary Redirect", elsewhere, ""), "refused with 307"),
        (Answer::raw(b"SSH-2.0-OpenSSH\r\n"), "cannot ask"),
    ] {
        let issuer = Script::start([answer]).await?;
        let args = ["auth", "login", "me@x", "--password", "hush", "--login-url", &issuer.url()];
        let ran = run(at_home(&home, &args)).await?;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains(part) && !ran.stderr.contains("hush"), "{part} is not in {}", ran.stderr);
        assert!(!home.path().join(".config/reactor").exists());
    }
    let ran = run(at_home(&home, &["auth", "login", "me@x", "--password", "hush"])).await?;
    assert_eq!(ran.code, Some(64), "{ran:?}");
    assert!(ran.stderr.contains("REACTOR_LOGIN_URL"), "{}", ran.stderr);
    let ran = run(at_home(&home, &["auth", "login", "me@x", "--login-url", "http://127.0.0.1:9"])).await?;
    assert_eq!(ran.code, Some(64), "{ran:?}");
    assert!(ran.stderr.contains("--password"), "{}", ran.stderr);
    Ok(())
}

#[tokio::test]
async fn a_token_can_be_kept_as_it_is() -> Result<()> {
    let home = Folder::new("token")?;
    let token = signed(&json!({"role": "authenticated", "exp": now() - 5}))?;
    let mut login = at_home(&home, &["auth", "login", "--token", "-"]);
    login.env("XDG_CONFIG_HOME", home.path().join("config"));
    let ran = run_with_input(login, &format!("{token}\n")).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(home.path().join("config/reactor/credentials.json").exists());

    let mut status = at_home(&home, &["auth", "status"]);
    status.env("XDG_CONFIG_HOME", home.path().join("config"));
    let ran = run(status).await?;
    assert_eq!(ran.code, Some(1), "an expired token is no login: {ran:?}");
    assert!(ran.stdout.contains("http://127.0.0.1:4000") && ran.stdout.contains("expired"), "{}", ran.stdout);

    let ran = run(at_home(&home, &["auth", "login", "--token", "no token"])).await?;
    assert_eq!(ran.code, Some(64), "{ran:?}");
    Ok(())
}
