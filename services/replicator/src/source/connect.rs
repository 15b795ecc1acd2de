//! From a target to an authenticated replication connection, with libpq's meanings of `sslmode`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use reactor_pg::{CONNECT_DEADLINE, Endpoint, PgError, PgErrorKind, PgTarget, TlsMode, session_options};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_rustls::TlsConnector;

use super::auth;
use super::command::ReplicationConnection;
use super::wire::{Socket, SourceError, Wire, unreachable};

/// Beside the settings of every session. Slot creation waits for transactions and locks as long as it must; the
/// walsender's own deadline is set so that it does not depend on the server's.
const REPLICATION_OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=0 -c wal_sender_timeout=60000";

/// Opens a connection in logical replication mode.
///
/// # Errors
/// [`SourceError`], within [`CONNECT_DEADLINE`].
pub async fn connect(target: &PgTarget, application_name: &str) -> Result<ReplicationConnection, SourceError> {
    match tokio::time::timeout(CONNECT_DEADLINE, Box::pin(first_that_answers(target, application_name))).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("{target} did not accept a session in {} s", CONNECT_DEADLINE.as_secs());
            Err(PgError::new(PgErrorKind::Unreachable, message).into())
        }
    }
}

async fn first_that_answers(target: &PgTarget, name: &str) -> Result<ReplicationConnection, SourceError> {
    let mut last = SourceError::Pg(PgError::new(PgErrorKind::Unreachable, "the database URL names no host"));
    for endpoint in target.endpoints() {
        match each_mode(target, &endpoint, name).await {
            // Another server is tried only where this one is not there, as libpq does.
            Err(error) if is_unreachable(&error) => last = error,
            other => return other,
        }
    }
    Err(last)
}

fn is_unreachable(error: &SourceError) -> bool {
    match error {
        SourceError::Io(_) => true,
        SourceError::Pg(error) => error.kind() == PgErrorKind::Unreachable,
        SourceError::Protocol(_) => false,
    }
}

/// How one attempt is protected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protection {
    Plain,
    IfOffered,
    Tls,
}

async fn each_mode(target: &PgTarget, endpoint: &Endpoint, name: &str) -> Result<ReplicationConnection, SourceError> {
    let (first, second) = match target.tls_mode() {
        TlsMode::Disable => (Protection::Plain, None),
        TlsMode::Allow => (Protection::Plain, Some(Protection::Tls)),
        TlsMode::Prefer => (Protection::IfOffered, Some(Protection::Plain)),
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => (Protection::Tls, None),
    };
    match (attempt(target, endpoint, name, first).await, second) {
        (Err(error), Some(second)) if wants_the_other_mode(&error) => {
            attempt(target, endpoint, name, second).await.map_err(|_| error)
        }
        (result, _) => result,
    }
}

fn wants_the_other_mode(error: &SourceError) -> bool {
    match error {
        SourceError::Pg(error) => error.kind() == PgErrorKind::Tls || error.sqlstate() == Some("28000"),
        SourceError::Io(_) | SourceError::Protocol(_) => false,
    }
}

async fn attempt(
    target: &PgTarget,
    endpoint: &Endpoint,
    name: &str,
    protection: Protection,
) -> Result<ReplicationConnection, SourceError> {
    let mut wire = Wire::new(open(target, endpoint, protection).await?);
    let options = format!("{} {REPLICATION_OPTIONS}", session_options(target));
    let parameters = [
        ("user", target.user()),
        ("database", target.dbname()),
        ("replication", "database"),
        ("client_encoding", "UTF8"),
        ("application_name", name),
        ("options", options.as_str()),
    ];
    let mut startup = BytesMut::new();
    frontend::startup_message(parameters, &mut startup)?;
    wire.send(&startup).await?;
    auth::authenticate(&mut wire, target).await?;
    Ok(ReplicationConnection::new(wire))
}

async fn open(target: &PgTarget, endpoint: &Endpoint, protection: Protection) -> Result<Box<dyn Socket>, SourceError> {
    let host = match &endpoint.host {
        Host::Unix(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", endpoint.port));
            let socket = UnixStream::connect(&path).await;
            return Ok(Box::new(socket.map_err(|error| unreachable(&path.display().to_string(), &error))?));
        }
        Host::Tcp(host) => host,
    };
    let mut socket =
        dial(host, endpoint).await.map_err(|error| unreachable(&format!("{host}:{}", endpoint.port), &error))?;
    if protection == Protection::Plain {
        return Ok(Box::new(socket));
    }
    if !target.tls_direct() && !offers_tls(&mut socket).await? {
        return match protection {
            Protection::Tls => Err(PgError::new(PgErrorKind::Tls, "the server does not offer TLS").into()),
            Protection::Plain | Protection::IfOffered => Ok(Box::new(socket)),
        };
    }
    let connector = TlsConnector::from(Arc::new(target.tls_client_config()?));
    let server = ServerName::try_from(host.clone())
        .map_err(|_| PgError::new(PgErrorKind::Tls, "the host of the database URL is not a name for TLS"))?;
    let tls = connector.connect(server, socket).await;
    Ok(Box::new(tls.map_err(|error| PgError::new(PgErrorKind::Tls, error.to_string()))?))
}

async fn dial(host: &str, endpoint: &Endpoint) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match endpoint.address {
        Some(address) => vec![SocketAddr::new(address, endpoint.port)],
        None => tokio::net::lookup_host((host, endpoint.port)).await?.collect(),
    };
    // The kernel sizes the receive buffer: what may be set by hand is less than what it grows to.
    let socket = TcpStream::connect(addresses.as_slice()).await?;
    socket.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

async fn offers_tls(socket: &mut TcpStream) -> Result<bool, SourceError> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    match socket.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(SourceError::Protocol("answer to the request for TLS")),
    }
}
