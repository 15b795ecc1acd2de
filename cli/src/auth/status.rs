//! `reactor auth status`: which token other commands would send, without showing it.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use reactor_runtime::clock;

use super::claims::{self, Claims};
use super::store::Store;
use crate::exit::{Failure, Outcome};
use crate::gateway::{self, GatewayArgs};
use crate::output::{print, printable};

#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
}

pub(super) fn command() -> Command {
    StatusArgs::augment_args(Command::new("status"))
        .about("Say which logins there are; with --url, whether there is one for that gateway")
        .after_help("The exit code is 1 when there is no login, or none that has not expired.")
}

pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let args = StatusArgs::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string()))?;
    let now = clock::unix_secs();
    let mut lines = Vec::new();
    if let Some(token) = std::env::var("REACTOR_TOKEN").ok().filter(|token| !token.is_empty()) {
        lines.push(line("REACTOR_TOKEN", &token, None, now));
    }
    let wanted = if args.gateway.is_given() { Some(gateway::origin(&args.gateway.url()?)) } else { None };
    let store = Store::open()?;
    for origin in store.origins().filter(|origin| wanted.as_deref().is_none_or(|wanted| wanted == *origin)) {
        if let Some(login) = store.login(origin) {
            lines.push(line(origin, &login.access_token, login.expires_at, now));
        }
    }
    if lines.is_empty() {
        let place = wanted.map(|origin| format!(" to {origin}")).unwrap_or_default();
        return Err(Failure::failed(format!("not logged in{place}: see reactor auth login")));
    }
    let is_good = lines.iter().any(|line| line.is_good);
    print(lines.into_iter().map(|line| line.text).collect::<String>())?;
    if is_good { Ok(()) } else { Err(Failure::Quiet(1)) }
}

struct Line {
    text: String,
    is_good: bool,
}

/// `<place>: role <role>, sub <sub>, expires …`
fn line(place: &str, token: &str, expires_at: Option<i64>, now: i64) -> Line {
    let known = Claims::read(token);
    let claims = known.clone().unwrap_or_default();
    let mut parts = Vec::new();
    if known.is_none() {
        parts.push("not a JWT".to_owned());
    }
    parts.extend(claims.role.map(|role| format!("role {}", printable(&role))));
    parts.extend(claims.sub.map(|sub| format!("sub {}", printable(&sub))));
    let expires_at = claims.expires_at.or(expires_at);
    let is_good = expires_at.is_none_or(|at| at > now);
    parts.extend(
        expires_at.map(|at| format!("{} {}", if is_good { "expires" } else { "expired" }, claims::moment(at, now))),
    );
    Line { text: format!("{place}: {}\n", parts.join(", ")), is_good }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn a_login_is_told_without_its_token() {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"role":"r","sub":"s\u001b","exp":1700000060}"#));
        let told = line("http://h", &token, None, 1_700_000_000);
        assert_eq!(told.text, "http://h: role r, sub s\\u{1b}, expires 2023-11-14T22:14:20Z (in 60 s)\n");
        assert!(told.is_good);
        let told = line("http://h", &token, None, 1_700_000_100);
        assert_eq!(told.text, "http://h: role r, sub s\\u{1b}, expired 2023-11-14T22:14:20Z (40 s ago)\n");
        assert!(!told.is_good);
        assert_eq!(line("x", "opaque", None, 0).text, "x: not a JWT\n");
    }
}
