//! Running the program.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// No command of a test takes longer, even on a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// What a command wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program with these arguments, and an environment in which nothing is set.
pub(crate) fn reactor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactor"));
    command.args(args).env_clear().current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) async fn run(mut command: Command) -> Result<Ran> {
    finish(command.spawn().context("reactor starts")?).await
}

/// Runs it to its end with something on standard input.
pub(crate) async fn run_with_input(mut command: Command, input: &str) -> Result<Ran> {
    let mut child = command.stdin(Stdio::piped()).spawn().context("reactor starts")?;
    let mut stdin = child.stdin.take().context("standard input is a pipe")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    finish(child).await
}

/// Waits for the end of a started one.
pub(crate) async fn finish(child: Child) -> Result<Ran> {
    let waiting = tokio::time::timeout(WITHIN, child.wait_with_output());
    let Output { status, stdout, stderr } = waiting.await.context("reactor does not end")??;
    Ok(Ran { code: status.code(), stdout: String::from_utf8(stdout)?, stderr: String::from_utf8(stderr)? })
}

/// A folder for one test, removed with this value.
pub(crate) struct Folder(std::path::PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("reactor-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// As a variable has it.
    pub(crate) fn text(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
