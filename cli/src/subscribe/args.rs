//! What can be said on the command line.

use std::time::Duration;

use crate::gateway::GatewayArgs;

/// Three heartbeats in a row that did not come, but for half a one: neither a late heartbeat nor a slow network.
const IDLE_SECS: &str = "75";

/// Longest time that an option takes: far more than anybody waits, and far less than what overflows.
const MAX_SECS: f64 = 1e9;

/// Options and arguments of `reactor realtime subscribe`.
#[derive(clap::Args)]
pub(super) struct SubscribeArgs {
    /// The table
    #[arg(value_parser = non_empty)]
    pub(super) table: String,
    /// Its schema
    #[arg(long, value_name = "NAME", default_value = "public")]
    pub(super) schema: String,
    /// Kinds of changes, separated by commas [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = ["insert", "update", "delete", "truncate", "*"])]
    pub(super) events: Vec<String>,
    /// The organisation whose rows are meant, where the token has several
    #[arg(long, env = "REACTOR_ORG", value_name = "ORG")]
    pub(super) org: Option<String>,
    /// Only rows that match, such as 'room_id=eq.42' or 'or=(a.eq.1,b.gt.2)'; given twice, both must
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(super) filter: Vec<String>,
    /// Only these columns, separated by commas
    #[arg(long, value_name = "COLUMNS")]
    pub(super) select: Option<String>,
    /// Begin after this event rather than with the next commit
    #[arg(long, value_name = "ID", value_parser = header_value)]
    pub(super) last_event_id: Option<String>,
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
    /// The token [default: that of `reactor auth login`]
    #[arg(long, env = "REACTOR_TOKEN", hide_env_values = true, value_name = "TOKEN", value_parser = header_value)]
    pub(super) token: Option<String>,
    /// One JSON object a line: {"event","id","data"}
    #[arg(long)]
    pub(super) json: bool,
    /// Heartbeats too
    #[arg(long, short)]
    pub(super) verbose: bool,
    /// End when the connection ends
    #[arg(long)]
    pub(super) no_reconnect: bool,
    /// End after this many changes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// End after this time; with --count, the exit code is 124 when it was not reached
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(super) timeout: Option<Duration>,
    /// Open the connection anew when nothing, not even a heartbeat, came for this long
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = IDLE_SECS)]
    pub(super) idle_timeout: Duration,
}

fn non_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

/// The grammar is the server's to judge; this only finds what was meant for another option.
fn filter(text: &str) -> Result<String, &'static str> {
    if text.contains('=') { Ok(text.to_owned()) } else { Err("expected column=operator.value, such as id=eq.1") }
}

/// Visible ASCII, as ids and tokens are: what a header carries.
fn header_value(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("it holds a blank or a character that a header cannot carry")
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse::<f64>() {
        Ok(secs) if secs > 0.0 && secs <= MAX_SECS => Ok(Duration::from_secs_f64(secs)),
        _ => Err("expected a number of seconds above 0"),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn parse(args: &[&str]) -> Result<SubscribeArgs, clap::Error> {
        let command = SubscribeArgs::augment_args(Command::new("subscribe").no_binary_name(true));
        SubscribeArgs::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    #[test]
    fn lists_and_repeated_options_are_kept_apart() {
        let args = parse(&["todos", "--events", "insert,delete", "--filter", "a=eq.1,b=eq.2", "--filter", "c=is.null"]);
        let args = args.map_err(|error| error.to_string()).expect("good arguments");
        assert_eq!(args.events, ["insert", "delete"]);
        assert_eq!(args.filter, ["a=eq.1,b=eq.2", "c=is.null"]);
        assert_eq!((args.schema.as_str(), args.idle_timeout.as_secs()), ("public", 75));
    }

    #[test]
    fn wrong_values_are_named() {
        for (args, part) in [
            (&[][..], "<TABLE>"),
            (&[""], "it is empty"),
            (&["t", "--events", "upsert"], "upsert"),
            (&["t", "--filter", "id"], "column=operator.value"),
            (&["t", "--count", "0"], "--count"),
            (&["t", "--timeout=-1"], "seconds above 0"),
            (&["t", "--timeout", "NaN"], "seconds above 0"),
            (&["t", "--last-event-id", "a\nb"], "header"),
            (&["t", "--tabel", "x"], "--tabel"),
        ] {
            let Err(error) = parse(args) else { panic!("{args:?} is good") };
            assert!(error.to_string().contains(part), "{error} should name {part}");
        }
    }
}
