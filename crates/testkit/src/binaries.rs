//! Finds the programs that `deploy/install.sh test` installs, and those of this workspace.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nix::unistd::geteuid;

/// The folder with the programs of a Postgres version: `REACTOR_TEST_PG<version>_BIN`, the tools folder, or apt's.
pub(crate) fn postgres_bin(version: u32) -> Result<PathBuf> {
    let variable = format!("REACTOR_TEST_PG{version}_BIN");
    if let Some(dir) = std::env::var_os(&variable) {
        return Ok(PathBuf::from(dir));
    }
    let mut candidates = vec![PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))];
    candidates.extend(tools_dirs().into_iter().map(|dir| dir.join(format!("pg{version}/bin"))));
    if version == 15 {
        // Other releases of Debian and Ubuntu have another one; what is tested is "the one from apt".
        candidates.extend((16..=19).map(|other| PathBuf::from(format!("/usr/lib/postgresql/{other}/bin"))));
    }
    if let Some(found) = candidates.iter().find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists()) {
        return Ok(found.clone());
    }
    bail!("Postgres {version} is not installed: run deploy/install.sh test (or set {variable})")
}

/// nats-server: `REACTOR_TEST_NATS_SERVER`, the tools folder, or the search path.
pub(crate) fn nats_server() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("REACTOR_TEST_NATS_SERVER") {
        return Ok(PathBuf::from(program));
    }
    let found = tools_dirs().into_iter().map(|dir| dir.join("nats-server")).find(|program| program.exists());
    match found {
        Some(program) => Ok(program),
        None => bail!("nats-server is not installed: run deploy/install.sh test (or set REACTOR_TEST_NATS_SERVER)"),
    }
}

/// Node, of the release that the clients in `cli/tests/clients` are run with: `REACTOR_TEST_NODE`, or the tools folder.
pub fn node() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("REACTOR_TEST_NODE") {
        return Ok(PathBuf::from(program));
    }
    tool("node/bin/node")
}

/// The folder in which each folder is for `PYTHONPATH`: `newest`, and `older`, which needs `newest` after it.
pub fn python_clients() -> Result<PathBuf> {
    tool("python-clients")
}

fn tool(name: &str) -> Result<PathBuf> {
    match tools_dirs().into_iter().map(|dir| dir.join(name)).find(|path| path.exists()) {
        Some(found) => Ok(found),
        None => bail!("{name} is not installed: run deploy/install.sh test"),
    }
}

/// Where `deploy/install.sh` may have put things, for this user or for all.
fn tools_dirs() -> Vec<PathBuf> {
    if let Some(dir) = std::env::var_os("REACTOR_TOOLS_DIR") {
        return vec![PathBuf::from(dir)];
    }
    let shared = PathBuf::from("/opt/reactor-tools");
    match std::env::var_os("HOME") {
        Some(home) if !geteuid().is_root() => vec![Path::new(&home).join(".cache/reactor-tools"), shared],
        _ => vec![shared],
    }
}

/// A program of this workspace, from the build that the running test belongs to.
pub(crate) fn ours(name: &str) -> Result<PathBuf> {
    // …/target/<profile>/deps/<test>
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(|deps| if deps.ends_with("deps") { deps.parent() } else { Some(deps) });
    match profile.map(|dir| dir.join(name)) {
        Some(program) if program.exists() => Ok(program),
        _ => bail!("{name} is not built: run make test, or cargo build --workspace --bins"),
    }
}
