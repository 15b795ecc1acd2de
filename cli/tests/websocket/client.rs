//! A process with clients in it, which obeys commands and says what its clients see.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reactor_testkit::{node, python_clients};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::deployment::{Deployment, PATIENCE};

/// A release of a client, and the version of the protocol that it is to speak where it can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    /// Its package in `clients/package.json`.
    pub(crate) package: &'static str,
    vsn: Option<&'static str>,
    /// Whether binary payloads reach it.
    pub(crate) binary: bool,
}

impl Release {
    const fn new(package: &'static str, vsn: Option<&'static str>, binary: bool) -> Self {
        Self { package, vsn, binary }
    }

    /// What tells its clients from those of others.
    pub(crate) fn name(&self) -> String {
        format!("{}{}", self.package, self.vsn.map(|vsn| format!(" {vsn}")).unwrap_or_default())
    }
}

pub(crate) const NEWEST: Release = Release::new("realtime-js-2.119", None, true);

/// The newest, with the older protocol.
pub(crate) const NEWEST_V1: Release = Release::new("realtime-js-2.119", Some("1.0.0"), false);

/// From the first with channels to the newest.
pub(crate) const RELEASES: [Release; 8] = [
    Release::new("realtime-js-2.4", None, false),
    Release::new("realtime-js-2.11", None, false),
    Release::new("realtime-js-2.109", None, true),
    NEWEST,
    NEWEST_V1,
    Release::new("supabase-js-2.4", None, false),
    Release::new("supabase-js-2.50", None, false),
    Release::new("supabase-js-2.119", None, true),
];

/// The process. It ends with this value, and with the test: its input ends then.
#[derive(Debug)]
pub(crate) struct Clients {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Seen, and not asked for yet.
    seen: VecDeque<Value>,
}

pub(crate) fn scripts() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients"))
}

impl Clients {
    /// Starts a script of `cli/tests/clients` with Node.
    pub(crate) async fn node(script: &str, page: Option<Value>) -> Result<Self> {
        let mut command = Command::new(node()?);
        // What Node has to say about its own features is not what clients see.
        command.env("NODE_NO_WARNINGS", "1").arg(scripts().join(script));
        command.args(page.map(|page| page.to_string()));
        Self::start(command).await
    }

    /// Starts the driver of the 2.x releases.
    pub(crate) async fn supabase() -> Result<Self> {
        Self::node("supabase.mjs", None).await
    }

    /// Starts the driver of the Python client, `newest` or `older`.
    pub(crate) async fn python(release: &str) -> Result<Self> {
        let folder = python_clients()?;
        let newest = folder.join("newest");
        let mut command = Command::new("python3");
        command.arg(scripts().join("supabase.py")).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("PYTHONPATH", format!("{}:{}", folder.join(release).display(), newest.display()));
        Self::start(command).await
    }

    async fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let input = process.stdin.take().context("an input")?;
        let output = BufReader::new(process.stdout.take().context("an output")?).lines();
        let mut clients = Self { _process: process, input, output, seen: VecDeque::new() };
        clients.expect("the clients are up", |seen| seen["saw"] == "up").await?;
        Ok(clients)
    }

    /// Gives a command, and waits for nothing.
    pub(crate) async fn tell(&mut self, command: &Value) -> Result<()> {
        self.input.write_all(format!("{command}\n").as_bytes()).await.context("the clients are gone")
    }

    /// Gives a command and waits for its result.
    pub(crate) async fn ask(&mut self, command: Value) -> Result<Value> {
        self.tell(&command).await?;
        let ours = |seen: &Value| {
            seen["did"] == command["do"] && seen["client"] == command["client"] && seen["channel"] == command["channel"]
        };
        let mut answer = self.expect(&format!("{} is done", command["do"]), ours).await?;
        ensure!(answer["saw"] == "done", "{} of {}: {}", command["do"], command["client"], answer["error"]);
        Ok(answer["result"].take())
    }

    /// The first that was seen and is wanted, taken out; what is not wanted stays.
    pub(crate) async fn expect(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.expect_within(PATIENCE, what, wanted).await
    }

    pub(crate) async fn expect_within(
        &mut self,
        within: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        if let Some(place) = self.seen.iter().position(&wanted) {
            return self.seen.remove(place).context("it is there");
        }
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let line = match tokio::time::timeout_at(deadline, self.output.next_line()).await {
                Ok(line) => line?.with_context(|| format!("{what}: the clients have ended; seen:\n{}", self.list()))?,
                Err(_) => bail!("{what}: not within {within:?}; seen instead:\n{}", self.list()),
            };
            let seen: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
            if wanted(&seen) {
                return Ok(seen);
            }
            self.seen.push_back(seen);
        }
    }

    /// The next of a kind that a client sees.
    pub(crate) async fn next(&mut self, client: &str, saw: &str) -> Result<Value> {
        let wanted = |seen: &Value| seen["client"] == client && seen["saw"] == saw;
        self.expect(&format!("{client} sees {saw}"), wanted).await
    }

    /// Fails if something of a kind was seen and not asked for. What ends the time in which it may not come is for the test
    /// to see first.
    pub(crate) fn nothing_left(&self, client: &str, saw: &str) -> Result<()> {
        let left: Vec<_> = self.seen.iter().filter(|seen| seen["client"] == client && seen["saw"] == saw).collect();
        ensure!(left.is_empty(), "{client} sees more: {left:?}");
        Ok(())
    }

    /// How much of a kind was seen and not asked for.
    pub(crate) fn count(&self, of: impl Fn(&Value) -> bool) -> usize {
        self.seen.iter().filter(|seen| of(seen)).count()
    }

    fn list(&self) -> String {
        self.seen.iter().map(|seen| format!("  {:.600}\n", seen.to_string())).collect()
    }

    /// Makes a client of a release.
    pub(crate) async fn client(&mut self, name: &str, release: Release, url: &str, token: &str) -> Result<()> {
        let mut options = json!({});
        if let Some(vsn) = release.vsn {
            options["vsn"] = json!(vsn);
        }
        let package = release.package;
        self.ask(
            json!({"do": "client", "client": name, "release": package, "url": url, "token": token, "options": options}),
        )
        .await?;
        Ok(())
    }

    /// Joins a channel and waits until the client says that it is.
    pub(crate) async fn open(&mut self, client: &str, channel: &str, config: Value, listen: Value) -> Result<()> {
        let status = self.try_open(client, channel, config, listen).await?;
        ensure!(status["status"] == "SUBSCRIBED", "{client} joins {channel}: {status}");
        Ok(())
    }

    /// Joins a channel; the first that the client says about it.
    pub(crate) async fn try_open(
        &mut self,
        client: &str,
        channel: &str,
        config: Value,
        listen: Value,
    ) -> Result<Value> {
        self.tell(&json!({"do": "open", "client": client, "channel": channel, "config": config, "listen": listen}))
            .await?;
        self.expect(&format!("{client} joins {channel}"), |seen| {
            seen["saw"] == "status" && seen["client"] == client && seen["channel"] == channel
        })
        .await
    }

    /// Joins a channel and waits until changes are live.
    pub(crate) async fn follow_changes(&mut self, client: &str, channel: &str, changes: Value) -> Result<()> {
        self.open(client, channel, Value::Null, json!({"changes": changes})).await?;
        let said = self.next(client, "system").await?;
        ensure!(said["payload"]["message"] == "Subscribed to PostgreSQL", "{client}: {said}");
        Ok(())
    }
}

/// The two places where the parties of a test are: different gateways where there are two.
pub(crate) fn places(deployment: &Deployment) -> [&str; 2] {
    let first = deployment.url();
    [first, deployment.urls.last().map_or(first, String::as_str)]
}
