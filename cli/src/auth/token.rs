//! `reactor auth token`: signs a token for development, with the secret that the gateway verifies with.

use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reactor_runtime::config::AuthConfig;
use reactor_runtime::main_support::load_config;
use reactor_runtime::{Role, clock};
use serde_json::{Map, Value, json};

use crate::exit::{Failure, Outcome};
use crate::output::print;

/// What a development token may live: a hundred years, so that `exp` stays a date.
const MAX_LIFE: Duration = Duration::from_secs(100 * 365 * 86_400);

#[derive(Args)]
struct TokenArgs {
    /// The claim `role`: whose grants in the database count
    #[arg(long, value_name = "ROLE", default_value = "authenticated")]
    role: String,
    /// The claim `sub`: who the user is
    #[arg(long, value_name = "ID")]
    sub: Option<String>,
    /// An organisation of the user; may be repeated
    #[arg(long, value_name = "ORG")]
    org: Vec<String>,
    /// A permission such as data:todos:read; may be repeated
    #[arg(long, value_name = "PERMISSION")]
    permission: Vec<String>,
    /// Any other claim; a value that is not JSON is a text; may be repeated
    #[arg(long, value_name = "KEY=JSON", value_parser = claim)]
    claim: Vec<(String, Value)>,
    /// How long it is good: seconds, or a number with s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = life, default_value = "3600")]
    expires_in: Duration,
    /// How it is signed
    #[arg(long, value_enum, ignore_case = true, default_value_t = Alg::Hs256)]
    alg: Alg,
}

/// Algorithms of a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Alg {
    #[value(name = "HS256")]
    Hs256,
    #[value(name = "HS384")]
    Hs384,
    #[value(name = "HS512")]
    Hs512,
}

impl From<Alg> for Algorithm {
    fn from(alg: Alg) -> Self {
        match alg {
            Alg::Hs256 => Self::HS256,
            Alg::Hs384 => Self::HS384,
            Alg::Hs512 => Self::HS512,
        }
    }
}

pub(super) fn command() -> Command {
    let settings = super::setting_args(&["auth.jwt_secret", "auth.org_claim", "auth.jwt_claim_validators"]);
    // The short name is the obvious one here.
    let settings =
        settings.map(|arg| if arg.get_id() == "auth.jwt_secret" { arg.visible_alias("secret") } else { arg });
    TokenArgs::augment_args(Command::new("token")).about("Print a signed token for development").args(settings)
}

pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let args = TokenArgs::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string()))?;
    let config = load_config(matches, Role::Tool, "reactor").map_err(Failure::Said)?;
    let secret = config.auth.jwt_secret.as_ref().filter(|secret| !secret.expose().is_empty()).ok_or_else(|| {
        Failure::usage(
            "no secret to sign with: set REACTOR_JWT_SECRET, or auth.jwt_secret in reactor.toml, or give --secret; \
             it must be the one that the gateway verifies with",
        )
    })?;
    let claims = claims(&args, &config.auth, clock::unix_secs());
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(args.alg.into()), &claims, &key);
    let token = token.map_err(|error| Failure::failed(format!("the token cannot be signed: {error}")))?;
    print(format_args!("{token}\n"))
}

/// What the gateway wants to see comes first, then what was asked for; an explicit claim stands over all.
fn claims(args: &TokenArgs, config: &AuthConfig, now: i64) -> Map<String, Value> {
    let mut claims: Map<String, Value> = config.jwt_claim_validators.clone().into_iter().collect();
    let life = i64::try_from(args.expires_in.as_secs()).unwrap_or(i64::MAX);
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("role", json!(args.role));
    set("iat", json!(now));
    set("exp", json!(now.saturating_add(life)));
    if let Some(sub) = &args.sub {
        set("sub", json!(sub));
    }
    if !args.org.is_empty() {
        set(&config.org_claim, json!(args.org));
    }
    if !args.permission.is_empty() {
        set("permissions", json!(args.permission));
    }
    for (name, value) in &args.claim {
        set(name, value.clone());
    }
    claims
}

fn claim(text: &str) -> Result<(String, Value), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            Ok((name.to_owned(), value))
        }
        _ => Err("expected a name and a value, such as aud=\"app\" or level=3"),
    }
}

fn life(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "expected a number of seconds above 0, or a number with s, m, h or d, such as 12h";
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (text.get(..at), 1),
        Some((at, 'm')) => (text.get(..at), 60),
        Some((at, 'h')) => (text.get(..at), 3_600),
        Some((at, 'd')) => (text.get(..at), 86_400),
        _ => (Some(text), 1),
    };
    let secs = digits.and_then(|digits| digits.parse::<u64>().ok()).and_then(|number| number.checked_mul(unit));
    let life = Duration::from_secs(secs.filter(|secs| *secs > 0).ok_or(WRONG)?);
    if life > MAX_LIFE { Err("more than a hundred years") } else { Ok(life) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor_runtime::Config;
    use std::collections::BTreeMap;

    #[track_caller]
    fn check(args: &[&str], toml: &str, expected: &Value) {
        let command = command().no_binary_name(true);
        let matches = command.try_get_matches_from(args).expect("good arguments");
        let args = TokenArgs::from_arg_matches(&matches).expect("good arguments");
        let config = Config::from_sources(Some(toml), &BTreeMap::new(), &BTreeMap::new(), Role::Tool).expect("config");
        assert_eq!(Value::Object(claims(&args, &config.auth, 1000)), *expected);
    }

    #[test]
    fn claims_follow_the_arguments_and_the_configuration() {
        check(&[], "", &json!({"role":"authenticated","iat":1000,"exp":4600}));
        check(
            &[
                "--role",
                "r",
                "--sub",
                "s",
                "--org",
                "a",
                "--org",
                "b",
                "--permission",
                "data:*:read",
                "--expires-in",
                "2m",
            ],
            "[auth]\norg_claim = 'teams'\n[auth.jwt_claim_validators]\niss = 'me'",
            &json!({"iss":"me","role":"r","sub":"s","teams":["a","b"],"permissions":["data:*:read"],"iat":1000,"exp":1120}),
        );
        check(
            &["--claim", "exp=7", "--claim", "aud=app", "--claim", "x={\"y\":[1]}", "--claim", "e="],
            "",
            &json!({"role":"authenticated","iat":1000,"exp":7,"aud":"app","x":{"y":[1]},"e":""}),
        );
    }

    #[test]
    fn lives_are_read() {
        for (text, secs) in
            [("1", Some(1)), ("90s", Some(90)), ("5m", Some(300)), ("12h", Some(43_200)), ("7d", Some(604_800))]
        {
            assert_eq!(life(text).ok().map(|life| life.as_secs()), secs, "{text}");
        }
        for text in ["", "0", "h", "-1", "1.5h", "1w", "36501d", "99999999999999999999", "5ä"] {
            assert!(life(text).is_err(), "{text}");
        }
    }
}
