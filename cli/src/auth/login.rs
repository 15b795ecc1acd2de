//! `reactor auth login`: gets a token, or takes one, and keeps it for the commands that need it.

use std::io::Read;

use clap::{ArgGroup, ArgMatches, Args, Command, FromArgMatches};
use reactor_runtime::main_support::load_config;
use reactor_runtime::{Role, clock};
use reqwest::Url;

use super::claims::{self, Claims};
use super::password_grant::{self, Credentials};
use super::store::{Login, Store};
use crate::exit::{Failure, Outcome};
use crate::gateway::{self, GatewayArgs};
use crate::output::{note, printable};

/// Longest token or password that standard input is read for.
const MAX_INPUT_BYTES: u64 = 64 * 1024;

#[derive(Args)]
struct LoginArgs {
    /// Who you are
    #[arg(value_name = "EMAIL", conflicts_with = "token")]
    email: Option<String>,
    /// The password; --password-stdin keeps it out of the list of processes
    #[arg(long, value_name = "PASSWORD", requires = "email")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "email")]
    password_stdin: bool,
    /// Keep this token instead of asking for one; - reads it from standard input
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<String>,
    #[command(flatten)]
    gateway: GatewayArgs,
}

pub(super) fn command() -> Command {
    LoginArgs::augment_args(Command::new("login"))
        .about("Log in to a gateway: keep a token for the commands that need it")
        .group(ArgGroup::new("who").args(["email", "token"]).required(true))
        .group(ArgGroup::new("how").args(["password", "password_stdin"]))
        .args(super::setting_args(&["auth.login_url"]))
}

pub(crate) async fn run(matches: &ArgMatches) -> Outcome {
    let args = LoginArgs::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string()))?;
    let origin = gateway::origin(&args.gateway.url()?);
    let login = match (&args.token, &args.email) {
        (Some(token), _) => given(token)?,
        (None, Some(email)) => {
            let config = load_config(matches, Role::Tool, "reactor").map_err(Failure::Said)?;
            ask(&args, email, config.auth.login_url.as_deref()).await?
        }
        (None, None) => return Err(Failure::usage("give an e-mail address, or --token")),
    };
    let expires = login.expires_at.map(|at| format!(", expires {}", claims::moment(at, clock::unix_secs())));
    let role = Claims::read(&login.access_token).and_then(|claims| claims.role);
    let role = role.map(|role| format!(" as {}", printable(&role)));
    Store::open()?.put(origin.clone(), login)?;
    note(format_args!("logged in to {origin}{}{}", role.unwrap_or_default(), expires.unwrap_or_default()));
    Ok(())
}

fn given(token: &str) -> Outcome<Login> {
    let token = if token == "-" { from_stdin("token")? } else { token.trim().to_owned() };
    let claims = Claims::read(&token).ok_or_else(|| Failure::usage("--token: it is not a JWT"))?;
    Ok(Login { access_token: token, refresh_token: None, expires_at: claims.expires_at })
}

async fn ask(args: &LoginArgs, email: &str, login_url: Option<&str>) -> Outcome<Login> {
    let Some(login_url) = login_url else {
        return Err(Failure::usage(
            "nobody to ask for a token: set REACTOR_LOGIN_URL, or auth.login_url in reactor.toml, or give --login-url; \
             or give a token with --token",
        ));
    };
    let url = Url::parse(login_url).map_err(|error| Failure::usage(format!("auth.login_url: {error}")))?;
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => from_stdin("password")?,
        None => return Err(Failure::usage("give --password, or --password-stdin and the password on standard input")),
    };
    if url.scheme() == "http" && !is_this_machine(&url) {
        note("warning: the password is sent without encryption, as the address of the login is http");
    }
    password_grant::ask(&url, Credentials { email, password: &password }, clock::unix_secs()).await
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// All of standard input without the line break at its end.
fn from_stdin(what: &str) -> Outcome<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_INPUT_BYTES).read_to_string(&mut text);
    read.map_err(|error| Failure::failed(format!("the {what} cannot be read from standard input: {error}")))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(Failure::usage(format!("there is no {what} on standard input")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        for (url, expected) in [
            ("http://localhost:1/x", true),
            ("http://127.0.0.2/", true),
            ("http://[::1]/", true),
            ("http://example.com/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_this_machine(&Url::parse(url).expect("a URL")), expected, "{url}");
        }
    }

    #[test]
    fn what_belongs_together_is_checked() {
        let parse = |args: &[&str]| command().no_binary_name(true).try_get_matches_from(args).is_ok();
        assert!(parse(&["me@x", "--password", "p"]));
        assert!(parse(&["me@x", "--password-stdin"]));
        assert!(parse(&["--token", "t"]));
        assert!(!parse(&[]));
        assert!(!parse(&["--password", "p"]));
        assert!(!parse(&["me@x", "--password", "p", "--password-stdin"]));
        assert!(!parse(&["me@x", "--token", "t"]));
    }
}
