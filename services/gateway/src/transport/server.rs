//! Accepting sockets: HTTP/1.1 and HTTP/2 with prior knowledge on one port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stall::StallGuard;

/// How long a client may take to send its request head.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// Buffer of one HTTP/1.1 connection: request heads are far smaller, and events are written past it.
const H1_BUFFER_BYTES: usize = 16 * 1024;
/// HTTP/2 pings find peers that are gone without a word.
const H2_PING_EVERY: Duration = Duration::from_secs(20);
/// Streams of one HTTP/2 connection.
const H2_MAX_STREAMS: u32 = 256;
/// Pause after a failed accept (usually: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `refuse` is cancelled, then closes the listener. Connections end by themselves; wait for `tracker`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    write_stall: Duration,
    refuse: CancellationToken,
    tracker: TaskTracker,
) {
    let builder = Arc::new(builder());
    loop {
        let accepted = tokio::select! {
            biased;
            () = refuse.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let connection =
                    serve_connection(Arc::clone(&builder), socket, router.clone(), write_stall, refuse.clone());
                tracker.spawn(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE).max_buf_size(H1_BUFFER_BYTES);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(H2_PING_EVERY).max_concurrent_streams(H2_MAX_STREAMS);
    builder
}

/// Serves one socket to its end. When `refuse` is cancelled it takes no further request, and responses under way end
/// when their connections are drained.
pub async fn serve_connection(
    builder: Arc<auto::Builder<TokioExecutor>>,
    socket: TcpStream,
    router: Router,
    write_stall: Duration,
    refuse: CancellationToken,
) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let keepalive = socket2::TcpKeepalive::new().with_time(H2_PING_EVERY).with_interval(H2_PING_EVERY);
    if let Err(error) = socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "cannot set TCP keepalive");
    }
    let io = TokioIo::new(StallGuard::new(socket, write_stall));
    let connection = builder.serve_connection_with_upgrades(io, TowerToHyperService::new(router));
    tokio::pin!(connection);
    let served = tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = refuse.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}
