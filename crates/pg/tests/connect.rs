//! Sessions with a real Postgres: settings, TLS, and what is said when there is none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

use reactor_pg::{PgError, PgErrorKind, PgTarget, connect};
use reactor_testkit::{Postgres, PostgresOptions, free_port};

async fn attempt(url: &str) -> Result<reactor_pg::Client, PgError> {
    connect(&PgTarget::parse(url).unwrap(), "reactor-test").await
}

async fn kind(url: &str) -> PgErrorKind {
    attempt(url).await.err().map(|error| error.kind()).unwrap_or_else(|| panic!("{url} should be refused"))
}

#[tokio::test]
async fn sessions_have_the_settings_that_make_text_forms_one() {
    let server = Postgres::shared().await.unwrap();
    let client = attempt(&format!("{}?options=-c%20DateStyle%3DGerman", server.url())).await.unwrap();
    for (setting, expected) in [
        ("TimeZone", "UTC"),
        ("DateStyle", "ISO, DMY"),
        ("IntervalStyle", "postgres"),
        ("extra_float_digits", "1"),
        ("bytea_output", "hex"),
        ("search_path", "pg_catalog"),
        ("statement_timeout", "10s"),
        ("application_name", "reactor-test"),
    ] {
        let row = client.query_one(&format!("show {setting}"), &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected, "{setting}");
    }
}

#[tokio::test]
async fn failures_are_sorted() {
    let server = Postgres::shared().await.unwrap();
    let nobody = format!("postgres://u@127.0.0.1:{}/d", free_port().unwrap());
    assert_eq!(kind(&nobody).await, PgErrorKind::Unreachable);
    assert_eq!(kind("postgres://u@no-such-host.invalid/d").await, PgErrorKind::Unreachable);
    assert_eq!(kind(&server.url_for("no_such_database")).await, PgErrorKind::DatabaseMissing);
    assert_eq!(kind(&server.url_as("no_such_user", "postgres")).await, PgErrorKind::AuthFailed);
    assert_eq!(kind(&format!("{}?sslmode=require", server.url())).await, PgErrorKind::Tls);
    let closed = attempt(&server.url()).await.unwrap();
    let ended = closed.query("select pg_terminate_backend(pg_backend_pid())", &[]).await.unwrap_err();
    assert_eq!(PgError::from(ended).kind(), PgErrorKind::Unreachable);
    let stopped = attempt(&server.url()).await.unwrap();
    let slow = stopped.batch_execute("set statement_timeout = 10; select pg_sleep(1)").await.unwrap_err();
    assert_eq!(PgError::from(slow).kind(), PgErrorKind::Timeout);
}

#[tokio::test]
async fn passwords_and_tls_modes() {
    let server = Postgres::start_with(PostgresOptions::default()).await.unwrap();
    let (ca, other_ca) = (Authority::new(), Authority::new());
    let (certificate, key) = ca.issue("db.example");
    server.write_data_file("server.crt", &certificate).unwrap();
    server.write_data_file("server.key", &key).unwrap();
    server.execute("create role scram login password 'pass word'; create role plain login").await.unwrap();
    let hba = "local all all trust\nhostssl all scram all scram-sha-256\nhostnossl all plain all trust\n\
               host all postgres all trust\n";
    server.write_data_file("pg_hba.conf", hba).unwrap();
    server.execute("alter system set ssl = on").await.unwrap();
    server.restart().await.unwrap();
    let files = tempfile(&[("ca.pem", &ca.pem()), ("other.pem", &other_ca.pem()), ("empty.pem", "")]);
    let root = |name: &str| format!("sslrootcert={}", files.join(name).display());
    let scram = |password: &str, query: &str| {
        format!("postgres://scram:{password}@127.0.0.1:{}/postgres?{query}", server.port())
    };
    let named = |query: &str| {
        format!("host=db.example hostaddr=127.0.0.1 port={} user=scram password='pass word' {query}", server.port())
    };

    for mode in ["allow", "prefer", "require"] {
        let encrypted = attempt(&scram("pass%20word", &format!("sslmode={mode}"))).await.unwrap();
        let row = encrypted.query_one("select ssl from pg_stat_ssl where pid = pg_backend_pid()", &[]).await.unwrap();
        assert!(row.get::<_, bool>(0), "{mode}");
    }
    assert_eq!(kind(&scram("wrong", "sslmode=require")).await, PgErrorKind::AuthFailed);
    let without = format!("postgres://scram@127.0.0.1:{}/postgres?sslmode=require", server.port());
    assert_eq!(kind(&without).await, PgErrorKind::AuthFailed, "no password");
    assert_eq!(kind(&scram("pass%20word", "sslmode=disable")).await, PgErrorKind::AuthFailed, "pg_hba.conf");
    let plain = format!("postgres://plain@127.0.0.1:{}/postgres", server.port());
    assert!(attempt(&plain).await.is_ok(), "prefer falls back to what pg_hba.conf wants");
    assert_eq!(kind(&format!("{plain}?sslmode=require")).await, PgErrorKind::AuthFailed);

    let ours = root("ca.pem");
    assert!(attempt(&scram("pass%20word", &format!("sslmode=verify-ca&{ours}"))).await.is_ok(), "for any name");
    assert!(attempt(&named(&format!("dbname=postgres sslmode=verify-full {ours}"))).await.is_ok());
    let wrong_name = scram("pass%20word", &format!("sslmode=verify-full&{ours}"));
    assert_eq!(kind(&wrong_name).await, PgErrorKind::Tls);
    for mode in ["verify-ca", "verify-full"] {
        for roots in [root("other.pem"), root("empty.pem"), root("missing.pem"), "sslrootcert=system".to_owned()] {
            assert_eq!(
                kind(&scram("pass%20word", &format!("sslmode={mode}&{roots}"))).await,
                PgErrorKind::Tls,
                "{mode} {roots}"
            );
        }
    }
    let with_root = PgTarget::parse(&scram("pass%20word", "sslmode=verify-ca")).unwrap();
    assert!(connect(&with_root.with_root_certificates(files.join("ca.pem")), "test").await.is_ok());
    std::fs::remove_dir_all(files).unwrap();
}

fn tempfile(files: &[(&str, &str)]) -> std::path::PathBuf {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, contents) in files {
        std::fs::write(folder.join(name), contents).unwrap();
    }
    folder
}

/// A certificate authority of our own.
struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server certificate for the name, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}
