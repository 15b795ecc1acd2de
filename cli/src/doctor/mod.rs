//! `reactor realtime doctor`: looks at a database and says what is missing for changes to flow, and how to mend it.
//!
//! [`facts`] reads, the other modules judge. Nothing in the database is changed.

mod access;
mod check;
mod facts;
mod publication;
mod report;
mod server;
mod slots;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use reactor_pg::PgTarget;
use reactor_replicator::SlotNames;
use reactor_runtime::main_support::load_config;
use reactor_runtime::{Config, Role};

use self::check::{Check, Status};
use self::facts::Facts;
use crate::exit::{Failure, Outcome};
use crate::output::print;

/// In the server's list of sessions.
const APPLICATION_NAME: &str = "reactor-doctor";

#[derive(Args)]
struct DoctorArgs {
    /// A role whose rights are looked at; may be repeated
    #[arg(long, value_name = "ROLE", default_values = ["anon", "authenticated", "service_role"])]
    role: Vec<String>,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// What the database is held against.
#[derive(Debug)]
struct Wanted {
    publication: String,
    create_publication: bool,
    slots: SlotNames,
    org_column: String,
    confirm_lag_max_bytes: u64,
    roles: Vec<String>,
}

pub(crate) fn command() -> Command {
    DoctorArgs::augment_args(Command::new("doctor"))
        .about("Check a database: what is missing for changes to flow, and how to mend it")
        .after_help("The exit code is 0 when all is well or there are only warnings, and 1 when something fails.")
        .args(crate::auth::setting_args(&[
            "tenant",
            "data.database_url",
            "data.ssl_root_cert",
            "auth.org_column",
            "replication.publication",
            "replication.create_publication",
            "replication.slot_prefix",
        ]))
}

pub(crate) async fn run(matches: &ArgMatches) -> Outcome {
    let args = DoctorArgs::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string()))?;
    let config = load_config(matches, Role::Tool, "reactor").map_err(Failure::Said)?;
    let target = target(&config)?;
    let wanted = Wanted {
        publication: config.replication.publication.clone(),
        create_publication: config.replication.create_publication,
        slots: SlotNames::new(&config.replication.slot_prefix, &config.tenant),
        org_column: config.auth.org_column.clone(),
        confirm_lag_max_bytes: config.replication.confirm_lag_max_bytes,
        roles: args.role,
    };
    let checks = examine(&target, &wanted).await;
    let text = if args.json { report::json(&target, &checks) } else { report::human(&target, &checks) };
    print(text)?;
    if check::worst(&checks) == Status::Fail { Err(Failure::Quiet(1)) } else { Ok(()) }
}

fn target(config: &Config) -> Outcome<PgTarget> {
    let url = config.database_url.as_ref().ok_or_else(|| {
        Failure::usage("no database to look at: give --database-url, or set REACTOR_DATA_DATABASE_URL")
    })?;
    let target = PgTarget::parse(url.expose()).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(match &config.data.ssl_root_cert {
        Some(file) => target.with_root_certificates(file.clone()),
        None => target,
    })
}

async fn examine(target: &PgTarget, wanted: &Wanted) -> Vec<Check> {
    let client = match reactor_pg::connect(target, APPLICATION_NAME).await {
        Ok(client) => client,
        Err(error) => return vec![Check::fail("connection", error.to_string()).mend(error.remedy())],
    };
    let facts = match Facts::read(&client, wanted).await {
        Ok(facts) => facts,
        Err(error) => {
            let message = format!("the catalog cannot be read: {error}");
            return vec![Check::fail("connection", message).mend(error.remedy())];
        }
    };
    let mut checks = judge(&facts, wanted);
    if facts.server.may_replicate() {
        checks.insert(REPLICATION_PLACE.min(checks.len()), replication_connection(target).await);
    }
    checks
}

/// Behind version, `wal_level` and the right to replicate.
const REPLICATION_PLACE: usize = 3;

/// Everything that the facts say, from the server to the single table.
fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Check> {
    let mut checks = server::judge(&facts.server);
    checks.extend(slots::judge(&facts.server, &facts.slots, wanted));
    checks.extend(publication::judge(facts, wanted));
    checks.extend(access::judge(facts, wanted));
    checks
}

/// A pooler, or a line that is missing in `pg_hba.conf`, lets sessions through but not replication.
async fn replication_connection(target: &PgTarget) -> Check {
    const NAME: &str = "replication";
    let identified = async { reactor_replicator::source::connect(target, APPLICATION_NAME).await?.identify().await };
    match identified.await {
        Ok(identity) => Check::ok(NAME, format!("a replication connection is accepted, the log ends at {}", identity.wal_end)),
        Err(error) => Check::fail(NAME, format!("a replication connection is refused: {error}")).mend(
            "name the server itself rather than a pooler in the database URL, and let the role connect to this database \
             in pg_hba.conf",
        ),
    }
}
