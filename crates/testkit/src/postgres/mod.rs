//! A real Postgres server for a test.

mod template;

use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use crate::folder::{self, Folder, Identity};
use crate::supervise::{self, Launch, Supervised};
use crate::{binaries, ports};

/// A start takes well under a second; recovery after a crash on a busy machine may take longer.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A fast stop waits until the last WAL has been taken by whoever reads it.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The settings that every test server has; `PostgresOptions::settings` come after them.
const SETTINGS: &[(&str, &str)] = &[
    ("wal_level", "logical"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_connections", "100"),
    ("listen_addresses", "127.0.0.1"),
    // Nothing here has to survive the machine.
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "64MB"),
    ("jit", "off"),
    ("log_line_prefix", "%m [%p] %q%a "),
];

/// What kind of server to start.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The major version: 15 or 18.
    pub version: u32,
    /// Settings of `postgresql.conf`, beside those that make logical replication possible.
    pub settings: Vec<(String, String)>,
    /// The locale of the cluster, such as `C`, `C.UTF-8` or `en_US.UTF-8`.
    pub locale: String,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { version: 15, settings: Vec::new(), locale: "C.UTF-8".to_owned() }
    }
}

impl PostgresOptions {
    /// The default options with another major version.
    pub fn version(version: u32) -> Self {
        Self { version, ..Self::default() }
    }

    /// Adds one setting of `postgresql.conf`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running server, stopped and removed with this value.
#[derive(Debug)]
pub struct Postgres {
    // Before the folder, so that it is stopped before its folder goes.
    server: Mutex<Option<Supervised>>,
    folder: Folder,
    bin: PathBuf,
    port: u16,
    identity: Option<Identity>,
}

impl Postgres {
    /// Starts a Postgres 15.
    pub async fn start() -> Result<Self> {
        Self::start_with(PostgresOptions::default()).await
    }

    /// Starts a server with these options.
    pub async fn start_with(options: PostgresOptions) -> Result<Self> {
        let postgres = tokio::task::spawn_blocking(move || Self::prepare(&options)).await??;
        postgres.start_again().await?;
        Ok(postgres)
    }

    /// One Postgres 15 for all the tests of this process that need only a database of their own in it.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    fn prepare(options: &PostgresOptions) -> Result<Self> {
        let bin = binaries::postgres_bin(options.version)?;
        let identity = folder::postgres_identity()?;
        let folder = Folder::new("pg", identity)?;
        template::copy_to(&folder.path().join("data"), &bin, &options.locale, identity)?;
        let port = ports::free_port()?;
        let postgres = Self { server: Mutex::new(None), folder, bin, port, identity };
        postgres.configure(&options.settings)?;
        Ok(postgres)
    }

    fn configure(&self, settings: &[(String, String)]) -> Result<()> {
        let mut text = std::fs::read_to_string(self.data_dir().join("postgresql.conf"))?;
        let directory = self.folder.path().display().to_string();
        let port = self.port.to_string();
        let given = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let own = [("port", port.as_str()), ("unix_socket_directories", directory.as_str())];
        for (name, value) in SETTINGS.iter().copied().chain(own).chain(given) {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        self.write_data_file("postgresql.conf", &text)
    }

    /// The address of the database `postgres`, as the superuser `postgres`.
    pub fn url(&self) -> String {
        self.url_for("postgres")
    }

    /// The address of another database.
    pub fn url_for(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    /// The address of a database for another user; nobody needs a password unless `pg_hba.conf` is changed.
    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of this version's programs, such as `pg_recvlogical`.
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where the server writes its log.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the server has written to its log.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.log_path())?).into_owned())
    }

    /// Connects to the database `postgres`; a task of the current runtime drives the connection.
    pub async fn connect(&self) -> Result<Client> {
        self.connect_to("postgres").await
    }

    /// Connects to another database.
    pub async fn connect_to(&self, database: &str) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url_for(database), NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a test connection to Postgres ended");
            }
        });
        Ok(client)
    }

    /// Runs statements in the database `postgres`.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.execute_in("postgres", sql).await
    }

    /// Runs statements in another database.
    pub async fn execute_in(&self, database: &str, sql: &str) -> Result<()> {
        Ok(self.connect_to(database).await?.batch_execute(sql).await?)
    }

    /// Creates a database and gives its address.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        self.execute(&format!("create database \"{name}\"")).await?;
        Ok(self.url_for(name))
    }

    /// Writes a file of the data folder, such as `pg_hba.conf` or `server.key`; follow with `reload` or `restart`.
    pub fn write_data_file(&self, name: &str, contents: &str) -> Result<()> {
        let path = self.data_dir().join(name);
        let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, contents.as_bytes())?;
        folder::give(&path, self.identity)
    }

    /// Makes the server read its configuration files again.
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Stops as an operator would (`pg_ctl stop -m fast`) and starts again on the same port.
    pub async fn restart(&self) -> Result<()> {
        self.stop_fast().await?;
        self.start_again().await
    }

    /// Stops as an operator would: sessions end, the last WAL is sent, a checkpoint is written.
    pub async fn stop_fast(&self) -> Result<()> {
        self.end(Signal::SIGINT).await
    }

    /// Ends as in a crash (`pg_ctl stop -m immediate`): the next start recovers from WAL.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::SIGQUIT).await
    }

    /// Starts a stopped server with the same data and port.
    pub async fn start_again(&self) -> Result<()> {
        if self.server().is_some() {
            bail!("this Postgres is running already");
        }
        let launch = Launch {
            program: self.bin.join("postgres"),
            args: vec!["-D".to_owned(), self.data_dir().display().to_string()],
            env: Vec::new(),
            identity: self.identity,
            folder: self.folder.path().to_owned(),
            stdout: self.log_path(),
            stderr: self.log_path(),
            end_signal: Signal::SIGQUIT,
        };
        let mut server = Supervised::spawn(&launch)?;
        self.wait_for_answer(&mut server).await?;
        *self.server() = Some(server);
        Ok(())
    }

    /// Stops every process of the server where it is: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.signal_all(Signal::SIGSTOP)
    }

    /// Lets a paused server go on.
    pub fn resume(&self) -> Result<()> {
        self.signal_all(Signal::SIGCONT)
    }

    fn server(&self) -> MutexGuard<'_, Option<Supervised>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.server().as_mut().context("this Postgres is not running")?.signal(signal)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        let main = self.server().as_ref().context("this Postgres is not running")?.id();
        // The main process first: stopped, it starts no more children.
        supervise::send(main, signal)?;
        for child in supervise::children(main)? {
            supervise::send(child, signal)?;
        }
        Ok(())
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        let mut server = self.server().take().context("this Postgres is not running")?;
        server.signal(signal)?;
        match server.wait(STOP_WITHIN).await? {
            Some(_) => Ok(()),
            None => bail!("Postgres does not stop within {STOP_WITHIN:?}:\n{}", supervise::tail(&self.log_path())),
        }
    }

    async fn wait_for_answer(&self, server: &mut Supervised) -> Result<()> {
        let deadline = tokio::time::Instant::now() + START_WITHIN;
        loop {
            let Err(reason) = self.connect().await else { return Ok(()) };
            if let Some(status) = server.ended()? {
                let how = supervise::describe(status);
                bail!("Postgres ended with {how} at its start:\n{}", supervise::tail(&self.log_path()));
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(reason.context(format!("Postgres does not answer within {START_WITHIN:?}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
