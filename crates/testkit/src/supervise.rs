//! A child process that ends with its owner, also when the owner is killed.
//!
//! The child is started through a few lines of shell that leave a watcher behind and then become the program, so that
//! the child's process id and exit status are the program's own. The watcher reads a pipe whose other end this process
//! holds: a line says that all is over, an end without a line says that this process is gone, and the watcher then
//! stops the program and removes its folder.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::folder::Identity;

/// `$1` the folder to remove, `$2` the signal that ends the program at once, then the program.
const SCRIPT: &str = r#"
folder=$1 signal=$2
shift 2
exec 3<&0 </dev/null
( (
  trap '' HUP INT QUIT TERM
  read -r _ <&3 && exit
  kill -CONT $$; kill -"$signal" $$
  n=0
  while kill -0 $$ && [ $n -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
  kill -KILL $$
  rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
) >/dev/null 2>&1 & )
exec 3<&-
exec "$@"
"#;

/// How often an ending process is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// All that the program sees beside `PATH`: the environment of the test is not its own.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) identity: Option<Identity>,
    /// Where the program runs; removed by the watcher.
    pub(crate) folder: PathBuf,
    pub(crate) stdout: PathBuf,
    /// May be the same file.
    pub(crate) stderr: PathBuf,
    /// Ends the program at once.
    pub(crate) end_signal: Signal,
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Supervised {
    child: Child,
    watcher: Option<ChildStdin>,
    end_signal: Signal,
    status: Option<ExitStatus>,
}

impl Supervised {
    pub(crate) fn spawn(launch: &Launch) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(SCRIPT).arg("supervise").arg(&launch.folder);
        command.arg(launch.end_signal.as_str().trim_start_matches("SIG"));
        command.arg(&launch.program).args(&launch.args);
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        command.envs(launch.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&launch.folder);
        command.stdin(Stdio::piped()).stdout(open_log(&launch.stdout)?).stderr(open_log(&launch.stderr)?);
        command.process_group(0);
        if let Some(Identity { uid, gid }) = launch.identity {
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", launch.program.display()))?;
        let watcher = child.stdin.take();
        Ok(Self { child, watcher, end_signal: launch.end_signal, status: None })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
            if self.status.is_some() {
                self.dismiss_watcher();
            }
        }
        Ok(self.status)
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_none() {
            send(self.child.id(), signal)?;
        }
        Ok(())
    }

    /// Waits for the end; `None` when the time is over first.
    pub(crate) async fn wait(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn dismiss_watcher(&mut self) {
        if let Some(mut pipe) = self.watcher.take() {
            // The watcher may have been killed with the group; then there is nobody to tell.
            let _ = pipe.write_all(b"over\n");
        }
    }

    /// Ends it now, waiting without a runtime.
    fn end(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        send(self.child.id(), Signal::SIGCONT)?;
        send(self.child.id(), self.end_signal)?;
        for _ in 0..600 {
            if self.ended()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        send(self.child.id(), Signal::SIGKILL)?;
        self.status = Some(self.child.wait()?);
        self.dismiss_watcher();
        Ok(())
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "cannot end a child process");
        }
    }
}

/// Sends a signal to a process; one that does not exist any more is no error.
pub(crate) fn send(process: u32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(i32::try_from(process)?), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot send {signal} to process {process}")),
    }
}

/// The processes whose parent is `parent`.
pub(crate) fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that has just ended has no such file any more.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        // "pid (name) state ppid …", where the name may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if fields.split_whitespace().nth(1).and_then(|field| field.parse().ok()) == Some(parent) {
            found.push(process);
        }
    }
    Ok(found)
}

/// Says how a process ended, for error messages.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// The last part of a log, for error messages.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
}

fn open_log(path: &Path) -> Result<File> {
    File::options().create(true).append(true).open(path).with_context(|| format!("cannot open {}", path.display()))
}
