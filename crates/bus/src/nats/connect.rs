//! The connection: how it is made, how its state is known, and how it comes back.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ClientError, ConnectOptions, Event, ServerAddr};
use rand::Rng as _;
use tokio::sync::watch;

use crate::{Backlog, BusError};

/// Between pings. The client gives a connection up at the third ping without an answer, so a server that is paused
/// or cut off without a reset is noticed within three of these.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// For one attempt to connect. A paused server accepts and then says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bounds of the wait between attempts, before jitter. The upper one bounds how long after a server's return its
/// followers stay behind.
const RECONNECT_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Where NATS is and what to keep there.
#[derive(Clone)]
pub struct NatsConfig {
    /// One or several URLs, separated by commas: `nats://host:4222`, `tls://host`, with `user:password@` or `token@`
    /// before the host where needed.
    pub url: String,
    /// What the connection is called in the server's monitoring.
    pub name: String,
    /// How long a batch is kept.
    pub retention: Duration,
    /// Bytes kept for each tenant.
    pub max_bytes: u64,
    /// Copies of each log and of the leases in a cluster.
    pub replicas: usize,
    /// Deadline of everything but appends.
    pub request_timeout: Duration,
    /// Deadline of an append's acknowledgement.
    pub append_timeout: Duration,
    /// What waits for the reader of a channel's messages.
    pub backlog: Backlog,
    /// File with a user's JWT and key.
    pub credentials_file: Option<PathBuf>,
    /// File with the certificates that the server's is checked against, in place of the system's.
    pub ca_file: Option<PathBuf>,
}

impl NatsConfig {
    /// For the given URL, with defaults for the rest: 5 minutes, 1 GiB, one copy.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: "reactor".to_owned(),
            retention: Duration::from_secs(5 * 60),
            max_bytes: 1 << 30,
            replicas: 1,
            request_timeout: Duration::from_secs(2),
            append_timeout: Duration::from_secs(5),
            backlog: Backlog::default(),
            credentials_file: None,
            ca_file: None,
        }
    }
}

impl fmt::Debug for NatsConfig {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("name", &self.name)
            .field("retention", &self.retention)
            .field("max_bytes", &self.max_bytes)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// State of the connection. `generation` counts the times that it was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    pub(super) connected: bool,
    pub(super) generation: u64,
    /// Counts messages that the client dropped because their subscription was not read in time.
    pub(super) dropped: u64,
    /// What went wrong last, for people; empty after success.
    pub(super) problem: String,
}

impl Link {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.generation += 1;
                self.problem.clear();
            }
            Event::Disconnected | Event::Closed | Event::Draining => self.connected = false,
            Event::ClientError(ClientError::Other(text)) => self.problem.clone_from(text),
            Event::ClientError(error) => self.problem = error.to_string(),
            Event::ServerError(error) => self.problem = error.to_string(),
            Event::SlowConsumer(_) => self.dropped += 1,
            Event::LameDuckMode => {}
        }
    }
}

/// A client that goes on trying to connect for ever, and the state of its connection.
///
/// Fails only for a configuration that can never work; a server that is not there is waited for.
pub(super) async fn connect(config: &NatsConfig) -> Result<(async_nats::Client, watch::Receiver<Link>), BusError> {
    let servers = Servers::parse(&config.url)?;
    let (link, watched) = watch::channel(Link::default());
    let mut options = servers
        .credentials
        .apply(ConnectOptions::new())
        .name(&config.name)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(config.request_timeout))
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            link.send_modify(|link| link.note(&event));
            std::future::ready(())
        });
    if let Some(path) = &config.credentials_file {
        options = options.credentials_file(path).await.map_err(|error| invalid("the NATS credentials file", error))?;
    }
    if let Some(path) = &config.ca_file {
        options = options.add_root_certificates(path.clone());
    }
    let client = options.connect(servers.addresses).await.map_err(|error| invalid("the NATS configuration", error))?;
    Ok((client, watched))
}

/// Exponential from the first retry on, with the upper half random so that a fleet does not return in step.
fn reconnect_delay(attempt: usize) -> Duration {
    let (shortest, longest) = RECONNECT_DELAY;
    let doublings = u32::try_from(attempt.saturating_sub(2)).unwrap_or(u32::MAX).min(16);
    match attempt {
        0 | 1 => Duration::ZERO,
        _ => shortest.saturating_mul(1 << doublings).min(longest).mul_f64(rand::rng().random_range(0.5..=1.0)),
    }
}

fn invalid(what: &'static str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BusError {
    BusError::Unavailable(what, Some(error.into()))
}

/// Addresses without what is secret in them, and the secret.
struct Servers {
    addresses: Vec<ServerAddr>,
    credentials: Credentials,
}

#[derive(Debug, PartialEq, Eq)]
enum Credentials {
    None,
    Token(String),
    UserPassword(String, String),
}

impl Credentials {
    fn apply(self, options: ConnectOptions) -> ConnectOptions {
        match self {
            Self::None => options,
            Self::Token(token) => options.token(token),
            Self::UserPassword(user, password) => options.user_and_password(user, password),
        }
    }
}

impl Servers {
    /// The client does not read credentials from URLs itself, and logs the addresses that it is given.
    fn parse(urls: &str) -> Result<Self, BusError> {
        let mut servers = Self { addresses: Vec::new(), credentials: Credentials::None };
        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            // The error is left out: it might repeat the URL.
            let address: ServerAddr =
                url.parse().map_err(|_| BusError::Unavailable("the NATS URL is not valid", None))?;
            if servers.credentials == Credentials::None {
                servers.credentials = credentials_in(&address);
            }
            servers.addresses.push(without_credentials(address)?);
        }
        if servers.addresses.is_empty() {
            return Err(BusError::Unavailable("the NATS URL is empty", None));
        }
        Ok(servers)
    }
}

fn credentials_in(address: &ServerAddr) -> Credentials {
    match (address.username(), address.password()) {
        (Some(user), Some(password)) => Credentials::UserPassword(percent_decode(user), percent_decode(password)),
        (Some(token), None) => Credentials::Token(percent_decode(token)),
        (None, _) => Credentials::None,
    }
}

fn without_credentials(address: ServerAddr) -> Result<ServerAddr, BusError> {
    let unfit = || BusError::Unavailable("the NATS URL has no host", None);
    let mut url = address.into_inner();
    url.set_username("").map_err(|()| unfit())?;
    url.set_password(None).map_err(|()| unfit())?;
    ServerAddr::from_url(url).map_err(|_| unfit())
}

/// `%XX` to bytes. Anything that is not a valid escape stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        if let Some(byte) = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(b'%');
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(urls: &str, addresses: &[&str], credentials: &Credentials) {
        let servers = Servers::parse(urls).unwrap();
        let texts: Vec<&str> = servers.addresses.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(texts, addresses, "{urls}");
        assert_eq!(&servers.credentials, credentials, "{urls}");
    }

    #[test]
    fn urls_are_split_from_their_credentials() {
        check("nats://host:4222", &["nats://host:4222"], &Credentials::None);
        check("host", &["nats://host"], &Credentials::None);
        check("tls://t0k@host:4222", &["tls://host:4222"], &Credentials::Token("t0k".into()));
        let both = Credentials::UserPassword("me".into(), "p@ss%".into());
        check("nats://me:p%40ss%25@a:1, nats://b:2", &["nats://a:1", "nats://b:2"], &both);
        check("nats://[::1]:4222", &["nats://[::1]:4222"], &Credentials::None);
    }

    #[test]
    fn unusable_urls_are_refused_without_repeating_them() {
        for urls in ["", " , ", "http://me:secret@host", "nats://me:secret@ho st"] {
            let error = Servers::parse(urls).err().unwrap();
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn the_debug_form_holds_no_secret() {
        let config = NatsConfig::new("nats://me:secret@host");
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn reconnects_are_quick_at_first_and_bounded() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempt in 2..100 {
            assert!(reconnect_delay(attempt) <= RECONNECT_DELAY.1, "{attempt}");
            assert!(reconnect_delay(attempt) >= RECONNECT_DELAY.0 / 2, "{attempt}");
        }
        assert!(reconnect_delay(usize::MAX) >= RECONNECT_DELAY.1 / 2);
    }
}
