//! A TCP proxy with scripted faults: delay, silence, a reader that stops, broken connections.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How much of a delayed connection is on its way at most, in reads of `CHUNK` bytes.
const IN_FLIGHT: usize = 64;

const CHUNK: usize = 16 * 1024;

/// The way that bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who connected to the proxy.
    ToServer,
    /// From whom the proxy connects to.
    ToClient,
}

#[derive(Clone, Copy, Debug)]
struct Faults {
    delay: Duration,
    hold_to_server: bool,
    hold_to_client: bool,
    refuse: bool,
    target: SocketAddr,
    /// Counts the cuts: a connection lives only in the one that it began in.
    cuts: u64,
}

impl Faults {
    fn holds(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToServer => self.hold_to_server,
            Direction::ToClient => self.hold_to_client,
        }
    }
}

/// A proxy on 127.0.0.1, ended with this value.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    // Dropping it ends the task and with it every connection.
    _task: JoinSet<()>,
}

impl TcpProxy {
    /// Listens on a free port and passes connections on to `target`.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", crate::free_port()?)).await?;
        let address = listener.local_addr()?;
        let faults = Faults {
            delay: Duration::ZERO,
            hold_to_server: false,
            hold_to_client: false,
            refuse: false,
            target,
            cuts: 0,
        };
        let (faults, seen) = watch::channel(faults);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, seen));
        Ok(Self { address, faults, _task: task })
    }

    /// A proxy in front of a port on 127.0.0.1.
    pub async fn to_port(port: u16) -> Result<Self> {
        Self::start(SocketAddr::from(([127, 0, 0, 1], port))).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Delays every byte by this much, each way, without limiting how many flow.
    pub fn set_delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Stops reading what comes for this direction, or goes on. Connections stay open: held both ways they are
    /// half-open as after a network cut; held one way their sender sees a reader that does not read.
    pub fn hold(&self, direction: Direction, hold: bool) {
        self.faults.send_modify(|faults| match direction {
            Direction::ToServer => faults.hold_to_server = hold,
            Direction::ToClient => faults.hold_to_client = hold,
        });
    }

    /// Holds both directions, or lets both go on.
    pub fn silence(&self, silent: bool) {
        self.hold(Direction::ToServer, silent);
        self.hold(Direction::ToClient, silent);
    }

    /// Breaks all current connections with a reset on both sides.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.cuts += 1);
    }

    /// Passes new connections on to another port on 127.0.0.1; those that are open stay where they are.
    pub fn lead_to_port(&self, port: u16) {
        self.faults.send_modify(|faults| faults.target = SocketAddr::from(([127, 0, 0, 1], port)));
    }

    /// Resets every new connection at once, or serves them again.
    pub fn refuse(&self, refuse: bool) {
        self.faults.send_modify(|faults| faults.refuse = refuse);
    }
}

async fn accept(listener: TcpListener, faults: watch::Receiver<Faults>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                reset_on_close(&client);
                if !faults.borrow().refuse {
                    connections.spawn(connection(client, faults.clone()));
                }
            }
        }
    }
}

async fn connection(client: TcpStream, mut faults: watch::Receiver<Faults>) {
    let Faults { cuts, target, .. } = *faults.borrow();
    let Ok(server) = TcpStream::connect(target).await else { return };
    reset_on_close(&server);
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = pump(from_client, to_server, Direction::ToServer, faults.clone());
    let down = pump(from_server, to_client, Direction::ToClient, faults.clone());
    let cut = faults.wait_for(|faults| faults.cuts != cuts);
    tokio::select! {
        _ = futures::future::join(up, down) => {}
        _ = cut => {}
    }
}

/// A closed socket with unsent or unread bytes resets anyway; this makes it the rule for cuts. An orderly end is passed
/// on by `shutdown` before.
fn reset_on_close(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, direction: Direction, faults: watch::Receiver<Faults>) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    futures::future::join(read(from, sender, direction, faults), write(to, receiver)).await;
}

async fn read(
    mut from: OwnedReadHalf,
    out: mpsc::Sender<(Instant, Vec<u8>)>,
    direction: Direction,
    mut faults: watch::Receiver<Faults>,
) {
    loop {
        if faults.wait_for(|faults| !faults.holds(direction)).await.is_err() {
            return;
        }
        let mut chunk = vec![0; CHUNK];
        let read = tokio::select! {
            biased;
            // Held in the middle of a read: nothing has been taken from the socket.
            Ok(_) = faults.wait_for(|faults| faults.holds(direction)) => continue,
            read = from.read(&mut chunk) => read,
        };
        let Ok(length @ 1..) = read else { return };
        chunk.truncate(length);
        let delay = faults.borrow().delay;
        if out.send((Instant::now() + delay, chunk)).await.is_err() {
            return;
        }
    }
}

async fn write(mut to: OwnedWriteHalf, mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>) {
    while let Some((due, chunk)) = chunks.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
