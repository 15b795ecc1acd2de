//! Opening a session.

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_postgres::config::{Config, SslMode};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use crate::error::{PgError, PgErrorKind};
use crate::target::{PgTarget, TlsMode};

/// The longest that opening a session may take, all servers and ways of protection tried.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Settings of every session, so that a value has one text form whoever reads it, no statement waits for ever, and no
/// function or operator that a user made stands in for Postgres's own.
pub const SESSION_SETTINGS: &[(&str, &str)] = &[
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("xmloption", "content"),
    ("search_path", "pg_catalog"),
    ("statement_timeout", "10000"),
    ("lock_timeout", "5000"),
    ("idle_in_transaction_session_timeout", "60000"),
];

/// [`SESSION_SETTINGS`] as the start-up parameter `options`, behind those of the URL.
#[must_use]
pub fn session_options(target: &PgTarget) -> String {
    let mut options = target.options().unwrap_or_default().to_owned();
    for (name, value) in SESSION_SETTINGS {
        if !options.is_empty() {
            options.push(' ');
        }
        options.push_str("-c ");
        options.push_str(name);
        options.push('=');
        options.push_str(value);
    }
    options
}

/// Opens a session; a task drives it until the client is dropped or the connection ends.
///
/// # Errors
/// [`PgError`] saying what is wrong and how to mend it, within [`CONNECT_DEADLINE`].
pub async fn connect(target: &PgTarget, application_name: &str) -> Result<Client, PgError> {
    open(target, application_name, None).await
}

/// As [`connect`], and tells that there were notifications of what the session listens to. One that comes while another has
/// not been taken yet is the same news.
///
/// # Errors
/// As [`connect`].
pub async fn connect_listening(
    target: &PgTarget,
    application_name: &str,
) -> Result<(Client, mpsc::Receiver<()>), PgError> {
    let (news, notified) = mpsc::channel(1);
    Ok((open(target, application_name, Some(news)).await?, notified))
}

/// Where notifications are told.
type News = Option<mpsc::Sender<()>>;

async fn open(target: &PgTarget, application_name: &str, news: News) -> Result<Client, PgError> {
    let mut config = target.config().clone();
    config.options(session_options(target)).application_name(application_name);
    // A server that went away without a word is noticed by the kernel in about a minute.
    config.keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10)).keepalives_retries(3);
    let attempts = Box::pin(attempt_each_mode(target, config, news));
    match tokio::time::timeout(CONNECT_DEADLINE, attempts).await {
        Ok(result) => result,
        Err(_) => Err(PgError::new(
            PgErrorKind::Unreachable,
            format!("{target} did not accept a session in {} s", CONNECT_DEADLINE.as_secs()),
        )),
    }
}

async fn attempt_each_mode(target: &PgTarget, mut config: Config, news: News) -> Result<Client, PgError> {
    let second = match target.tls_mode() {
        TlsMode::Allow => SslMode::Require,
        TlsMode::Prefer => SslMode::Disable,
        TlsMode::Disable | TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {
            return attempt(target, config, news).await;
        }
    };
    match attempt(target, config.clone(), news.clone()).await {
        // As libpq: the other way is tried where TLS fails or pg_hba.conf wants the other, not where nobody answered.
        Err(first) if first.kind() == PgErrorKind::Tls || first.sqlstate() == Some("28000") => {
            config.ssl_mode(second);
            attempt(target, config, news).await.map_err(|_| first)
        }
        other => other,
    }
}

async fn attempt(target: &PgTarget, config: Config, news: News) -> Result<Client, PgError> {
    if config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = config.connect(NoTls).await?;
        drive(connection, news);
        return Ok(client);
    }
    let (client, connection) = config.connect(MakeRustlsConnect::new(target.tls_client_config()?)).await?;
    drive(connection, news);
    Ok(client)
}

fn drive<S, T>(mut connection: Connection<S, T>, news: News)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Ends with the client. How it ended reaches whoever uses the client next; here it is only of interest in a search.
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match (message, &news) {
                (Ok(AsyncMessage::Notification(_)), Some(news)) => {
                    let _ = news.try_send(());
                }
                // Notices are not logged: those of a user's function may hold values of rows.
                (Ok(_), _) => {}
                (Err(error), _) => {
                    debug!(error = %PgError::from(error), "connection to Postgres ended");
                    return;
                }
            }
        }
    });
}
