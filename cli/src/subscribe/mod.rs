//! `reactor realtime subscribe`: prints the changes of a table, and resumes by itself.

mod args;
mod ended;
mod line;
mod request;
mod retry;
mod session;

use std::pin::pin;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use self::args::SubscribeArgs;
use self::session::Session;
use crate::exit::{self, Failure, Outcome};

pub(crate) fn command() -> Command {
    SubscribeArgs::augment_args(Command::new("subscribe")).about("Print the changes of a table as they are committed").after_help(
        "Changes, and what the server says about the connection, go to standard output, one event a line; everything else \
         goes to standard error. A connection that breaks is opened again and goes on after the last event.",
    )
}

/// Follows the table until something ends it: Ctrl-C, the time, the count, a reader who went away, or an error that
/// trying again cannot mend.
pub(crate) async fn run(matches: &ArgMatches) -> Outcome {
    let args = SubscribeArgs::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string()))?;
    let timeout = args.timeout;
    let counted = args.count.is_some();
    let mut session = Session::new(args)?;
    let following = pin!(session.follow());
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => Err(Failure::Quiet(exit::INTERRUPTED)),
            Err(error) => Err(Failure::failed(format!("Ctrl-C cannot be taken over: {error}"))),
        },
        () = sleep(timeout) => if counted { Err(Failure::Quiet(exit::TIMED_OUT)) } else { Ok(()) },
        outcome = following => outcome,
    }
}

/// For ever, when there is no time.
async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
