//! `reactor auth`: tokens for development, and the login that other commands use.

mod claims;
pub(crate) mod login;
pub(crate) mod logout;
mod password_grant;
pub(crate) mod status;
mod store;
pub(crate) mod token;

use clap::{Arg, Command};
use reactor_runtime::Role;
use reactor_runtime::config::clap_args;
use reqwest::Url;

use self::store::Store;
use crate::exit::{Failure, Outcome};
use crate::{gateway, group};

pub(crate) fn command() -> Command {
    group("auth", "Tokens, and the login that other commands use").subcommands([
        token::command(),
        login::command(),
        logout::command(),
        status::command(),
    ])
}

/// `--config` and the flags of these settings, as the services have them.
pub(crate) fn setting_args(keys: &'static [&'static str]) -> impl Iterator<Item = Arg> {
    let wanted = move |arg: &Arg| arg.get_id() == "config" || keys.iter().any(|key| arg.get_id() == key);
    clap_args(Role::Tool).into_iter().filter(wanted)
}

/// Where a command finds the token that it sends.
pub(crate) enum TokenSource {
    /// On the command line or in the environment.
    Given(String),
    /// In the login for this gateway, read anew each time.
    Login(String),
}

impl TokenSource {
    /// The given token, else that of the login for this address.
    pub(crate) fn new(given: Option<String>, url: &Url) -> Self {
        given.map_or_else(|| Self::Login(gateway::origin(url)), Self::Given)
    }

    /// The token.
    pub(crate) fn token(&self) -> Outcome<String> {
        let origin = match self {
            Self::Given(token) => return Ok(token.clone()),
            Self::Login(origin) => origin,
        };
        let store = Store::open()?;
        match store.login(origin) {
            Some(login) => Ok(login.access_token.clone()),
            // A login is sent nowhere but to the gateway that it is for.
            None => Err(Failure::failed(match store.origins().collect::<Vec<_>>().as_slice() {
                [] => "no token: give --token or REACTOR_TOKEN, or log in with reactor auth login".to_owned(),
                others => format!(
                    "no token for {origin}: give --token or REACTOR_TOKEN, or log in with reactor auth login --url {origin} \
                     (there is a login for {})",
                    others.join(", ")
                ),
            })),
        }
    }
}
