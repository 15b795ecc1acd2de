//! A connection URL, parsed; its password is never shown.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use tokio_postgres::config::{Config, Host, SslMode, SslNegotiation};

use crate::options::TlsOptions;

/// How the connection is protected, with libpq's names and meanings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Never TLS.
    Disable,
    /// Plain first, TLS when the server insists.
    Allow,
    /// TLS when the server has it, else plain.
    #[default]
    Prefer,
    /// TLS, without looking at the certificate.
    Require,
    /// TLS, and the certificate must come from a known authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate must be for this host.
    VerifyFull,
}

impl TlsMode {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// Where the certificates of authorities come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootCertificates {
    /// The public authorities.
    Public,
    /// A PEM file.
    File(PathBuf),
}

/// One server of the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name (also the one that a certificate is checked against), address or folder of the Unix socket.
    pub host: Host,
    /// The address to use instead of looking the name up.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Why a connection URL cannot be used. Quotes nothing of the URL, so that no password gets out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PgUrlError {
    /// Neither a URL nor `key=value` pairs.
    #[error(
        "not a Postgres URL: expected postgres://user:password@host:port/database?sslmode=… (special characters percent-encoded) or key=value pairs"
    )]
    Malformed,
    /// No host is named.
    #[error("the Postgres URL names no host")]
    NoHost,
    /// No user is named.
    #[error("the Postgres URL names no user")]
    NoUser,
    /// `sslmode` has a value that is not known.
    #[error("sslmode is not one of disable, allow, prefer, require, verify-ca, verify-full")]
    SslMode,
    /// An option that is known, but not to us.
    #[error("the option {0} of the Postgres URL is not supported")]
    Unsupported(&'static str),
}

/// A database to connect to.
#[derive(Clone, PartialEq, Eq)]
pub struct PgTarget {
    config: Config,
    user: String,
    tls_mode: TlsMode,
    roots: RootCertificates,
}

impl PgTarget {
    /// Parses `postgres://…`, `postgresql://…` or `key=value` pairs.
    ///
    /// # Errors
    /// [`PgUrlError`], which says what is wrong without quoting the URL.
    pub fn parse(url: &str) -> Result<Self, PgUrlError> {
        let (tls, rest) = TlsOptions::take_out_of(url)?;
        let mut config: Config = rest.parse().map_err(|_| PgUrlError::Malformed)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(PgUrlError::NoHost);
        }
        let user = config.get_user().filter(|user| !user.is_empty()).ok_or(PgUrlError::NoUser)?.to_owned();
        if config.get_dbname().is_none() {
            config.dbname(&user);
        }
        // As libpq: no TLS over a Unix socket, and `require` with a root certificate is `verify-ca`.
        let tls_mode = match (tls.mode.unwrap_or_default(), &tls.roots) {
            _ if config.get_hosts().iter().all(is_socket) && config.get_hostaddrs().is_empty() => TlsMode::Disable,
            (TlsMode::Require, Some(RootCertificates::File(_))) => TlsMode::VerifyCa,
            (mode, _) => mode,
        };
        config.ssl_mode(match tls_mode {
            TlsMode::Disable | TlsMode::Allow => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        Ok(Self { config, user, tls_mode, roots: tls.roots.unwrap_or(RootCertificates::Public) })
    }

    /// The first server's name, address or socket folder as text.
    #[must_use]
    pub fn host(&self) -> String {
        self.endpoints().first().map(|endpoint| host_text(&endpoint.host)).unwrap_or_default()
    }

    /// The first server's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.endpoints().first().map_or(DEFAULT_PORT, |endpoint| endpoint.port)
    }

    /// The servers in the order in which they are tried.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let (hosts, addresses, ports) = (self.config.get_hosts(), self.config.get_hostaddrs(), self.config.get_ports());
        let port = |index: usize| match ports {
            [] => DEFAULT_PORT,
            [only] => *only,
            many => many.get(index).copied().unwrap_or(DEFAULT_PORT),
        };
        (0..hosts.len().max(addresses.len()))
            .filter_map(|index| {
                let address = addresses.get(index).copied();
                let host = hosts.get(index).cloned().or_else(|| Some(Host::Tcp(address?.to_string())))?;
                Some(Endpoint { host, address, port: port(index) })
            })
            .collect()
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password. Never put it in a log or an error.
    #[must_use]
    pub fn password(&self) -> Option<&[u8]> {
        self.config.get_password()
    }

    /// The database; the user's name where the URL names none.
    #[must_use]
    pub fn dbname(&self) -> &str {
        self.config.get_dbname().unwrap_or(&self.user)
    }

    /// The application name of the URL.
    #[must_use]
    pub fn application_name(&self) -> Option<&str> {
        self.config.get_application_name()
    }

    /// Start-up options (`options=` of the URL), to be joined with [`crate::session_options`].
    #[must_use]
    pub fn options(&self) -> Option<&str> {
        self.config.get_options()
    }

    /// How the connection is protected.
    #[must_use]
    pub fn tls_mode(&self) -> TlsMode {
        self.tls_mode
    }

    /// Whether TLS starts at once, without asking in the protocol first (`sslnegotiation=direct`).
    #[must_use]
    pub fn tls_direct(&self) -> bool {
        self.config.get_ssl_negotiation() == SslNegotiation::Direct
    }

    /// Takes the authorities' certificates from this PEM file, where the URL names none.
    #[must_use]
    pub fn with_root_certificates(mut self, file: PathBuf) -> Self {
        if self.roots == RootCertificates::Public {
            self.roots = RootCertificates::File(file);
        }
        self
    }

    /// The same server with another database; for tools and tests.
    #[must_use]
    pub fn with_dbname(mut self, dbname: &str) -> Self {
        self.config.dbname(dbname);
        self
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn roots(&self) -> &RootCertificates {
        &self.roots
    }
}

const DEFAULT_PORT: u16 = 5432;

impl FromStr for PgTarget {
    type Err = PgUrlError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Self::parse(url)
    }
}

impl fmt::Debug for PgTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgTarget({self})")
    }
}

/// The server and database, without user and password: fit for logs.
impl fmt::Display for PgTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host(), self.port(), self.dbname())
    }
}

fn host_text(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(folder) => folder.display().to_string(),
    }
}

fn is_socket(host: &Host) -> bool {
    match host {
        Host::Tcp(_) => false,
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn target(url: &str) -> PgTarget {
        PgTarget::parse(url).expect("a good URL")
    }

    #[test]
    fn urls_and_pairs_are_understood() {
        let by_url = target("postgres://me:s%40cret@db.example:6432/app?sslmode=verify-full&application_name=x");
        assert_eq!((by_url.host().as_str(), by_url.port()), ("db.example", 6432));
        assert_eq!((by_url.user(), by_url.dbname()), ("me", "app"));
        assert_eq!(by_url.password(), Some(&b"s@cret"[..]));
        assert_eq!((by_url.tls_mode(), by_url.application_name()), (TlsMode::VerifyFull, Some("x")));

        let by_pairs = target(r"host=db.example user = me password='a \'b' sslmode=verify-ca sslrootcert=/etc/ca.pem");
        assert_eq!((by_pairs.port(), by_pairs.dbname()), (5432, "me"));
        assert_eq!(by_pairs.password(), Some(&b"a 'b"[..]));
        assert_eq!(by_pairs.tls_mode(), TlsMode::VerifyCa);
        assert_eq!(by_pairs.roots(), &RootCertificates::File("/etc/ca.pem".into()));
    }

    #[test]
    fn tls_modes_follow_libpq() {
        let mode = |query: &str| target(&format!("postgres://u@h/d{query}")).tls_mode();
        assert_eq!(mode(""), TlsMode::Prefer);
        assert_eq!(mode("?sslmode=disable"), TlsMode::Disable);
        assert_eq!(mode("?sslmode=allow"), TlsMode::Allow);
        assert_eq!(mode("?sslmode=require"), TlsMode::Require);
        assert_eq!(mode("?sslmode=require&sslrootcert=%2Fca.pem"), TlsMode::VerifyCa);
        assert_eq!(mode("?sslmode=verify-full&sslrootcert=system"), TlsMode::VerifyFull);
    }

    #[test]
    fn several_hosts_and_sockets_are_endpoints() {
        let several = target("postgres://u@a:1,b:2/d");
        let ports: Vec<u16> = several.endpoints().iter().map(|endpoint| endpoint.port).collect();
        assert_eq!(ports, [1, 2]);
        let socket = target("postgres://u@%2Fvar%2Frun/d?sslmode=require");
        assert_eq!((socket.host().as_str(), socket.tls_mode()), ("/var/run", TlsMode::Disable));
    }

    #[test]
    fn errors_and_debug_never_hold_the_password() {
        for (url, error) in [
            ("hunter2", PgUrlError::Malformed),
            ("postgres://u:hunter2@h/d?nonsense", PgUrlError::Malformed),
            ("postgres://u:hunter2@h/d?hunter2=1", PgUrlError::Malformed),
            ("postgres://u:hunter2@h:hunter2/d", PgUrlError::Malformed),
            ("postgres://u:hunter2@/d", PgUrlError::NoHost),
            ("postgres://h/d", PgUrlError::NoUser),
            ("host=h password=hunter2", PgUrlError::NoUser),
            ("postgres://u:hunter2@h/d?sslmode=hunter2", PgUrlError::SslMode),
            ("postgres://u:hunter2@h/d?sslcert=x", PgUrlError::Unsupported("sslcert")),
        ] {
            let found = PgTarget::parse(url).expect_err("a bad URL");
            assert_eq!(found, error, "{url}");
            assert!(!format!("{found} {found:?}").contains("hunter2"));
        }
        let shown = target("postgres://u:hunter2@h/d");
        assert_eq!(format!("{shown:?} {shown}"), "PgTarget(h:5432/d) h:5432/d");
    }
}
