//! `reactor-replicator`: stores the changes of a tenant's database in the log of a cluster.

use std::process::ExitCode;

use reactor_runtime::{Role, run_service};

fn main() -> ExitCode {
    run_service(
        Role::Replicator,
        "reactor-replicator",
        "Stores the changes of a tenant's Postgres database in the change log",
        reactor_replicator::service,
    )
}
