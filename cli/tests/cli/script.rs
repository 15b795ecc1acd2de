//! A server that answers connection after connection as it is told, and keeps what was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reactor_testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What one connection gets.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    /// The connection is closed.
    Close,
    /// It stays open, and nothing comes.
    Hold,
}

impl Answer {
    /// A whole answer with a body.
    pub(crate) fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
        Self { bytes: format!("{head}{body}").into_bytes(), then: Then::Close }
    }

    /// A refusal of the gateway.
    pub(crate) fn refusal(status: &str, body: &str) -> Self {
        Self::status(status, "content-type: application/json\r\n", body)
    }

    /// Events, and then the end of the connection.
    pub(crate) fn events(events: &str) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        Self { bytes: format!("{head}{events}").into_bytes(), then: Then::Close }
    }

    /// Leaves the connection open.
    pub(crate) fn held(mut self) -> Self {
        self.then = Then::Hold;
        self
    }

    /// Anything, HTTP or not.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), then: Then::Close }
    }
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Method and address.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The server; ends with this value.
pub(crate) struct Script {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

impl Script {
    /// Answers the first connection with the first answer, and so on; more connections are closed unanswered.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: VecDeque<Answer> = answers.into_iter().collect();
        let serving = tokio::spawn(serve(listener, answers, Arc::clone(&asked)));
        Ok(Self { port, asked, serving })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked until now.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        lock(&self.asked).clone()
    }

    /// Waits until this many requests came.
    pub(crate) async fn wait_for_requests(&self, count: usize) -> Result<()> {
        let came = || std::future::ready(Ok(self.asked().len() >= count));
        wait::until(Duration::from_secs(30), &format!("{count} requests come"), came).await
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(asked: &Mutex<Vec<Asked>>) -> MutexGuard<'_, Vec<Asked>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, mut answers: VecDeque<Answer>, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut held = Vec::new();
    while let Ok((mut socket, _)) = listener.accept().await {
        let Ok(request) = read(&mut socket).await else { continue };
        lock(&asked).push(request);
        let Some(answer) = answers.pop_front() else { continue };
        if socket.write_all(&answer.bytes).await.is_err() {
            continue;
        }
        match answer.then {
            Then::Close => drop(socket),
            Then::Hold => held.push(socket),
        }
    }
}

async fn read(socket: &mut TcpStream) -> Result<Asked> {
    let mut bytes = Vec::new();
    loop {
        if let Some(asked) = parse(&bytes)? {
            return Ok(asked);
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            bail!("the request is cut short");
        }
    }
}

/// The request, when all of it is there.
fn parse(bytes: &[u8]) -> Result<Option<Asked>> {
    let text = std::str::from_utf8(bytes)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let mut lines = head.lines();
    let line = lines.next().context("a request line")?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let asked = Asked { line, headers, body: body.to_owned() };
    let length: usize = asked.header("content-length").unwrap_or("0").parse()?;
    Ok((body.len() >= length).then_some(asked))
}
