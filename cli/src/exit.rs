//! How a command ends.

use std::fmt;
use std::process::ExitCode;

use crate::output;

/// `EX_USAGE`: the command line or the configuration is wrong.
pub(crate) const USAGE: u8 = 64;

/// As a shell reports a program that SIGINT ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// As timeout(1) reports a time that was over.
pub(crate) const TIMED_OUT: u8 = 124;

/// Why a command did not end well, or not in the usual way.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    /// The command line or the configuration is wrong.
    Usage(String),
    /// It did not work.
    Failed(String),
    /// There is nothing to say, but the code.
    Quiet(u8),
    /// All is said, with a code that is another's.
    Said(ExitCode),
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

/// Chains are told in one line.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Says why it failed, where it did, and gives the code.
pub(crate) fn conclude(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            say(&message);
            ExitCode::from(USAGE)
        }
        Err(Failure::Failed(message)) => {
            say(&message);
            ExitCode::FAILURE
        }
        Err(Failure::Quiet(code)) => ExitCode::from(code),
        Err(Failure::Said(code)) => code,
    }
}

fn say(message: &dyn fmt::Display) {
    output::note(format_args!("reactor: {message}"));
}
