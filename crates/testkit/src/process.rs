//! A program of ours as an operator runs it: by name, environment and signals.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::folder::Folder;
use crate::supervise::{self, Launch, Supervised};
use crate::{binaries, wait};

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct ProcessOptions {
    name: String,
    program: Option<PathBuf>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl ProcessOptions {
    /// A program of this workspace, such as `reactor-gateway`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Any other program, such as curl.
    pub fn other(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        Self { name, program: Some(program), ..Self::default() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets one variable. The environment of the test itself is not passed on, but for `PATH`.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Process> {
        let folder = Folder::new(&self.name, None)?;
        let program = match self.program {
            Some(program) => program,
            None => binaries::ours(&self.name)?,
        };
        let launch = Launch {
            program,
            args: self.args,
            env: self.env,
            identity: None,
            stdout: folder.path().join("stdout"),
            stderr: folder.path().join("stderr"),
            folder: folder.path().to_owned(),
            end_signal: Signal::SIGKILL,
        };
        let running = Mutex::new(Supervised::spawn(&launch)?);
        Ok(Process { running, folder, launch, name: self.name })
    }
}

/// A started program, killed with this value. When a test fails, the end of its log is printed.
#[derive(Debug)]
pub struct Process {
    // Before the folder, so that it has ended before its folder goes.
    running: Mutex<Supervised>,
    folder: Folder,
    launch: Launch,
    name: String,
}

impl Process {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.running().id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.running().ended()?.is_none())
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.running().signal(Signal::SIGTERM)
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) -> Result<()> {
        self.running().signal(Signal::SIGINT)
    }

    /// Stops it where it is: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.running().signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.running().signal(Signal::SIGCONT)
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub async fn kill(&self) -> Result<()> {
        self.running().signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(10)).await.map(|_| ())
    }

    /// Sends SIGTERM and waits for exit status 0.
    pub async fn stop(&self, within: Duration) -> Result<()> {
        self.terminate()?;
        let status = self.wait(within).await?;
        ensure!(status.success(), "{} ended with {}", self.name, supervise::describe(status));
        Ok(())
    }

    /// Waits for its end; fails when the time is over first.
    pub async fn wait(&self, within: Duration) -> Result<ExitStatus> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some(status) = self.running().ended()? {
                return Ok(status);
            }
            if tokio::time::Instant::now() >= deadline {
                bail!("{} does not end within {within:?}", self.name);
            }
            tokio::time::sleep(supervise::POLL).await;
        }
    }

    /// Starts it again with the same arguments and environment; its output is appended to.
    pub fn start_again(&self) -> Result<()> {
        let mut running = self.running();
        ensure!(running.ended()?.is_some(), "{} is running already", self.name);
        *running = Supervised::spawn(&self.launch)?;
        Ok(())
    }

    /// What it has written to standard output.
    pub fn stdout(&self) -> Result<String> {
        read(&self.launch.stdout)
    }

    /// What it has written to standard error.
    pub fn stderr(&self) -> Result<String> {
        read(&self.launch.stderr)
    }

    /// Waits until `text` is in its standard output or error.
    pub async fn wait_for_output(&self, text: &str, within: Duration) -> Result<()> {
        let what = format!("{} writes {text:?}", self.name);
        let written = || std::future::ready(self.has_written(text));
        wait::until(within, &what, written).await
    }

    /// Waits until an address answers with success, such as `http://127.0.0.1:4001/ready`. Fails early when it ends.
    pub async fn wait_for_url(&self, url: &str, within: Duration) -> Result<()> {
        let client = crate::sse::http_client()?;
        let what = format!("{url} of {} answers", self.name);
        let answers = wait::until(within, &what, || {
            let request = client.get(url).timeout(Duration::from_secs(2)).send();
            async move { Ok(request.await?.status().is_success()) }
        });
        tokio::select! {
            answer = answers => answer,
            status = self.wait(within * 2) => {
                bail!("{} ended with {}:\n{}", self.name, supervise::describe(status?), supervise::tail(&self.launch.stderr))
            }
        }
    }

    /// A folder of its own, which is also where it runs.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn has_written(&self, text: &str) -> Result<bool> {
        Ok(self.stdout()?.contains(text) || self.stderr()?.contains(text))
    }

    fn running(&self) -> MutexGuard<'_, Supervised> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "shown by the test harness beside the failure, and only then")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for file in [&self.launch.stdout, &self.launch.stderr] {
                eprintln!("--- {} of {}\n{}", file.display(), self.name, supervise::tail(file));
            }
        }
    }
}

fn read(path: &PathBuf) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
