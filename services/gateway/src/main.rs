//! The gateway of a cluster.

use std::process::ExitCode;

use reactor_runtime::Role;
use reactor_runtime::main_support::run_service;

fn main() -> ExitCode {
    run_service(
        Role::Gateway,
        "reactor-gateway",
        "delivers changes to client connections",
        reactor_gateway::run::service,
    )
}
