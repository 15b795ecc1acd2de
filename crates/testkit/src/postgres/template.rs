//! A data folder made once per version and locale, and copied for each server: `initdb` takes seconds, a copy does not.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::folder::{self, Identity};

/// Makes `data` a fresh data folder. Blocks.
pub(super) fn copy_to(data: &Path, bin: &Path, locale: &str, identity: Option<Identity>) -> Result<()> {
    let template = ensure(bin, locale, identity)?;
    let mut copy = command("/bin/cp".as_ref(), identity);
    copy.arg("-r").arg("--reflink=auto").arg(&template).arg(data);
    run(copy, "copying the template")
}

fn ensure(bin: &Path, locale: &str, identity: Option<Identity>) -> Result<PathBuf> {
    let home = folder::base()?.join("templates");
    if let Err(error) = std::fs::DirBuilder::new().mode(0o755).create(&home) {
        ensure!(error.kind() == std::io::ErrorKind::AlreadyExists, "cannot make {}: {error}", home.display());
    }
    let name = sanitize(&format!("{}-{locale}", version(bin)?));
    // Test processes that start together make it once; the others wait here.
    let lock = File::options().create(true).append(true).open(home.join(format!("{name}.lock")))?;
    lock.lock()?;
    // The user of Postgres can write only into a folder of its own.
    let place = home.join(&name);
    let (made, making) = (place.join("data"), place.join("making"));
    if made.exists() {
        return Ok(made);
    }
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(&place)?;
    folder::give(&place, identity)?;
    let mut initdb = command(&bin.join("initdb"), identity);
    initdb.args(["--no-sync", "--no-instructions", "-A", "trust", "-U", "postgres", "-E", "UTF8"]);
    initdb.arg(format!("--locale={locale}")).arg("-D").arg(&making);
    run(initdb, "initdb")?;
    std::fs::rename(&making, &made)?;
    Ok(made)
}

/// What `postgres --version` says: files of one build are not for another.
fn version(bin: &Path) -> Result<String> {
    let program = bin.join("postgres");
    let output = Command::new(&program).arg("--version").output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(output.status.success(), "{} --version fails", program.display());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn sanitize(text: &str) -> String {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

fn command(program: &Path, identity: Option<Identity>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    if let Some(Identity { uid, gid }) = identity {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(mut command: Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("{what}: cannot start"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what} fails: {}", errors.trim());
    Ok(())
}
