//! `reactor-policy`: answers gateways who may read what.

use std::process::ExitCode;

use reactor_runtime::{Role, run_service};

fn main() -> ExitCode {
    run_service(Role::Policy, "reactor-policy", "Answers gateways who may read what", reactor_policy::run)
}
