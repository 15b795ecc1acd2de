//! Many subscribers on plain sockets, of SSE or WebSocket: each counts the events that it gets and, when asked to, how
//! old they are.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use reactor_runtime::clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::deployment::PATIENCE;
use crate::measure::frames::Frames;
use crate::measure::samples::Samples;
use crate::measure::timestamp;
use crate::websocket;

/// Connections that are worked on at the same time.
const OPENING: usize = 64;
/// How often counts are looked at.
const POLL: Duration = Duration::from_millis(2);

/// How a subscriber is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// `GET /data/v1/{table}/subscribe`.
    Sse,
    /// A channel of a WebSocket connection.
    WebSocket,
}

/// Opens `count` SSE subscriptions of one table and waits until each is live.
pub(crate) async fn open(address: SocketAddr, table: &str, token: &str, count: usize) -> Result<Vec<TcpStream>> {
    open_as(Transport::Sse, address, table, &vec![token.to_owned(); count]).await
}

/// Opens one subscription of a table for each token and waits until each is live.
pub(crate) async fn open_as(
    transport: Transport,
    address: SocketAddr,
    table: &str,
    tokens: &[String],
) -> Result<Vec<TcpStream>> {
    let topic = format!("realtime:{table}");
    let open = async |token: &String| match transport {
        Transport::Sse => open_events(address, table, token).await,
        Transport::WebSocket => websocket::open(address, token, &topic, Some(table)).await,
    };
    a_few_at_a_time(tokens.iter().map(open)).await
}

/// Does this for all connections, and no more than a few at the same time.
pub(crate) async fn a_few_at_a_time<T>(all: impl Iterator<Item = impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
    let all = all.map(|one| tokio::time::timeout(PATIENCE, one));
    let done = stream::iter(all).buffer_unordered(OPENING).map(|done| done.context("not live in time")?);
    done.try_collect().await
}

async fn open_events(address: SocketAddr, table: &str, token: &str) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await.context("cannot connect")?;
    socket.set_nodelay(true)?;
    let request = format!(
        "GET /data/v1/{table}/subscribe HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        let read = socket.read(&mut buffer).await?;
        answer.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let text = String::from_utf8_lossy(&answer);
        ensure!(read > 0 && (text.len() < 12 || text.starts_with("HTTP/1.1 200")), "refused: {text}");
        if text.contains("event: ready") && text.ends_with("\n\n\r\n") {
            return Ok(socket);
        }
    }
}

/// What one reader counts.
#[derive(Debug, Default)]
struct Seat {
    events: AtomicU64,
    bytes: AtomicU64,
    reads: AtomicU64,
    /// When an event was last read, µs since 1970.
    last_read_us: AtomicI64,
    ages: Mutex<Samples>,
}

/// Subscribers that read until this is dropped.
#[derive(Debug)]
pub(crate) struct Subscribers {
    seats: Vec<Arc<Seat>>,
    timing: Arc<AtomicBool>,
    tasks: JoinSet<Result<()>>,
}

/// What was read so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) reads: u64,
}

impl std::ops::Sub for Totals {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { events: self.events - before.events, bytes: self.bytes - before.bytes, reads: self.reads - before.reads }
    }
}

impl Subscribers {
    /// Begins to read from live subscriptions, and does what keeps them alive.
    pub(crate) fn read(transport: Transport, sockets: Vec<TcpStream>) -> Self {
        let mut subscribers = Self { seats: Vec::new(), timing: Arc::default(), tasks: JoinSet::new() };
        match transport {
            Transport::Sse => sockets.into_iter().for_each(|socket| subscribers.seat(socket)),
            Transport::WebSocket => {
                let (readers, writers): (Vec<_>, Vec<_>) = sockets.into_iter().map(TcpStream::into_split).unzip();
                readers.into_iter().for_each(|socket| subscribers.seat(socket));
                subscribers.tasks.spawn(websocket::keep_alive(writers));
            }
        }
        subscribers
    }

    fn seat(&mut self, socket: impl AsyncRead + Unpin + Send + 'static) {
        let seat = Arc::new(Seat::default());
        self.seats.push(Arc::clone(&seat));
        self.tasks.spawn(read(socket, seat, Arc::clone(&self.timing)));
    }

    pub(crate) fn totals(&self) -> Totals {
        let sum =
            |count: fn(&Seat) -> &AtomicU64| self.seats.iter().map(|seat| count(seat).load(Ordering::Relaxed)).sum();
        Totals { events: sum(|seat| &seat.events), bytes: sum(|seat| &seat.bytes), reads: sum(|seat| &seat.reads) }
    }

    /// Events that every subscriber has had.
    pub(crate) fn least(&self) -> u64 {
        self.seats.iter().map(|seat| seat.events.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// When anybody read an event last, µs since 1970.
    pub(crate) fn last_read_us(&self) -> i64 {
        self.seats.iter().map(|seat| seat.last_read_us.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    /// From now on the age of each event is kept.
    pub(crate) fn begin_timing(&self) {
        self.timing.store(true, Ordering::Relaxed);
    }

    /// The ages since [`Subscribers::begin_timing`]; no more are kept.
    pub(crate) fn end_timing(&self) -> Samples {
        self.timing.store(false, Ordering::Relaxed);
        let mut all = Samples::default();
        for seat in &self.seats {
            all.append(std::mem::take(&mut *lock(&seat.ages)));
        }
        all
    }

    /// Waits until each subscriber has had this many events.
    pub(crate) async fn each_has(&mut self, events: u64) -> Result<()> {
        let waiting = async {
            while self.least() < events {
                if let Some(ended) = self.tasks.try_join_next() {
                    return ended?;
                }
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.with_context(|| format!("not every subscriber got {events} events in time: {:?}", self.totals()))?
    }
}

/// Ends with the connection, which should not end.
async fn read(mut socket: impl AsyncRead + Unpin, seat: Arc<Seat>, timing: Arc<AtomicBool>) -> Result<()> {
    let mut frames = Frames::default();
    loop {
        let read = socket.read(frames.room()).await.context("a subscriber's connection broke")?;
        ensure!(read > 0, "a subscriber's connection was closed");
        let now = clock::unix_micros();
        let mut ages = timing.load(Ordering::Relaxed).then(|| lock(&seat.ages));
        let mut events = 0;
        frames.scan(read, |time| {
            events += 1;
            if let (Some(ages), Some(committed)) = (&mut ages, timestamp::parse(time)) {
                ages.add(now - committed);
            }
        });
        drop(ages);
        seat.bytes.fetch_add(read as u64, Ordering::Relaxed);
        seat.reads.fetch_add(1, Ordering::Relaxed);
        // Without one it may be the answer to a heartbeat.
        if events > 0 {
            seat.last_read_us.store(now, Ordering::Relaxed);
        }
        seat.events.fetch_add(events, Ordering::Relaxed);
    }
}

fn lock(ages: &Mutex<Samples>) -> MutexGuard<'_, Samples> {
    ages.lock().unwrap_or_else(PoisonError::into_inner)
}
