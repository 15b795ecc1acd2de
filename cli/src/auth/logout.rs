//! `reactor auth logout`: forgets a login.

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::store::Store;
use crate::exit::{Failure, Outcome};
use crate::gateway::{self, GatewayArgs};
use crate::output::note;

#[derive(Args)]
struct LogoutArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
}

pub(super) fn command() -> Command {
    LogoutArgs::augment_args(Command::new("logout")).about("Forget the login of a gateway")
}

pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let args = LogoutArgs::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string()))?;
    let origin = gateway::origin(&args.gateway.url()?);
    let was_there = Store::open()?.remove(&origin)?;
    note(if was_there { format!("logged out of {origin}") } else { format!("not logged in to {origin}") });
    Ok(())
}
