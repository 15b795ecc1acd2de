//! A real nats-server with JetStream for a test.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::folder::Folder;
use crate::supervise::{self, Launch, Supervised};
use crate::{binaries, ports};

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// What kind of server to start.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    /// Lines for the configuration file beside address, port and store, such as `max_payload: 65536`.
    pub config: String,
    /// Lines inside its `jetstream` block, such as `sync_interval: always`.
    pub jetstream: String,
}

/// A running server with a file store, stopped and removed with this value.
#[derive(Debug)]
pub struct Nats {
    // Before the folder, so that it is stopped before its folder goes.
    server: Mutex<Option<Supervised>>,
    folder: Folder,
    port: u16,
}

impl Nats {
    /// Starts a server.
    pub async fn start() -> Result<Self> {
        Self::start_with(NatsOptions::default()).await
    }

    /// Starts a server with these options.
    pub async fn start_with(options: NatsOptions) -> Result<Self> {
        let folder = Folder::new("nats", None)?;
        let port = ports::free_port()?;
        let store = folder.path().join("store");
        let NatsOptions { config, jetstream } = options;
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{\n  store_dir: \"{}\"\n  {jetstream}\n}}\n{config}\n",
            store.display()
        );
        std::fs::write(folder.path().join("nats.conf"), text)?;
        let nats = Self { server: Mutex::new(None), folder, port };
        nats.start_again().await?;
        Ok(nats)
    }

    /// The server's address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server has written to its log.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.folder.path().join("log"))?).into_owned())
    }

    /// Stops with SIGTERM and starts again with the same store and port.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Stops with SIGTERM.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::SIGTERM).await
    }

    /// Ends with SIGKILL.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::SIGKILL).await
    }

    /// Starts a stopped server with the same store and port.
    pub async fn start_again(&self) -> Result<()> {
        if self.server().is_some() {
            bail!("this nats-server is running already");
        }
        let launch = Launch {
            program: binaries::nats_server()?,
            args: vec!["-c".to_owned(), "nats.conf".to_owned()],
            env: Vec::new(),
            identity: None,
            folder: self.folder.path().to_owned(),
            stdout: self.folder.path().join("log"),
            stderr: self.folder.path().join("log"),
            end_signal: Signal::SIGKILL,
        };
        let mut server = Supervised::spawn(&launch)?;
        self.wait_for_answer(&mut server).await?;
        *self.server() = Some(server);
        Ok(())
    }

    /// Removes what JetStream has stored, as when a disk is lost. Only while the server is stopped.
    pub fn wipe_store(&self) -> Result<()> {
        if self.server().is_some() {
            bail!("this nats-server is running");
        }
        Ok(std::fs::remove_dir_all(self.folder.path().join("store"))?)
    }

    /// Stops the process where it is: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a paused server go on.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn server(&self) -> MutexGuard<'_, Option<Supervised>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.server().as_mut().context("this nats-server is not running")?.signal(signal)
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        let mut server = self.server().take().context("this nats-server is not running")?;
        server.signal(signal)?;
        match server.wait(STOP_WITHIN).await? {
            Some(_) => Ok(()),
            None => bail!("nats-server does not stop within {STOP_WITHIN:?}"),
        }
    }

    async fn wait_for_answer(&self, server: &mut Supervised) -> Result<()> {
        let deadline = tokio::time::Instant::now() + START_WITHIN;
        loop {
            if self.has_jetstream().await.unwrap_or(false) {
                return Ok(());
            }
            if let Some(status) = server.ended()? {
                let log = supervise::tail(&self.folder.path().join("log"));
                bail!("nats-server ended with {} at its start:\n{log}", supervise::describe(status));
            }
            if tokio::time::Instant::now() >= deadline {
                bail!("nats-server does not answer within {START_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Reads the server's greeting, which says whether JetStream is up.
    async fn has_jetstream(&self) -> Result<bool> {
        let greeting = async {
            let mut line = String::new();
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            BufReader::new(stream).read_line(&mut line).await?;
            anyhow::Ok(line.contains("\"jetstream\":true"))
        };
        tokio::time::timeout(Duration::from_secs(2), greeting).await?
    }
}
