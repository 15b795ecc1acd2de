//! Addresses in settings: a check that catches slips before anything starts, and a form that may be printed. Pure.
//!
//! The parts that connect parse their addresses themselves; lists of hosts and Postgres's keyword form are theirs.

use super::kind::Kind;

/// Whether a text is `scheme://[user[:password]@]host[:port][/…]` with one of the schemes.
pub(super) fn check(text: &str, schemes: &'static [&'static str]) -> Result<(), String> {
    match text.split_once("://") {
        Some((scheme, rest)) if schemes.contains(&scheme) => check_hosts(rest, false),
        _ => Err(format!("expected {}", Kind::Url(schemes))),
    }
}

/// Whether a text can be the address of a Postgres, as an address or in keyword form.
pub(super) fn check_database(text: &str) -> Result<(), String> {
    match text.split_once("://") {
        // The host may be missing: it can stand in the query, as the folder of a socket does.
        Some(("postgres" | "postgresql", rest)) => check_hosts(rest, true),
        None if text.contains("host=") => Ok(()),
        _ => Err(format!("expected {}", Kind::DatabaseUrl)),
    }
}

fn check_hosts(rest: &str, may_be_empty: bool) -> Result<(), String> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    for host in hosts.split(',') {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        if name.is_empty() && !may_be_empty {
            return Err("the address names no host".to_owned());
        }
        if name.contains(char::is_whitespace) {
            return Err("the host of the address has a blank in it".to_owned());
        }
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(
                "the port of the address is not a number up to 65535 (is a password not percent-encoded?)".to_owned()
            );
        }
    }
    Ok(())
}

/// The address without passwords and tokens, wherever they stand. Hides too much rather than too little.
pub(super) fn redact(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return "***".to_owned();
    };
    let (head, query) = rest.split_once('?').map_or((rest, None), |(head, query)| (head, Some(query)));
    let head = match head.rsplit_once('@') {
        Some((who, hosts)) => format!("{}@{hosts}", redact_user(scheme, who)),
        // An `@` after a `?` is a password with a question mark in it.
        None if query.is_some_and(|query| query.contains('@')) => return format!("{scheme}://***"),
        None => head.to_owned(),
    };
    let query = query.map(|query| format!("?{}", redact_query(query))).unwrap_or_default();
    format!("{scheme}://{head}{query}")
}

/// A name alone is shown for Postgres only: NATS takes a token in its place.
fn redact_user(scheme: &str, who: &str) -> String {
    match who.split_once(':') {
        Some((user, password)) if !password.contains("://") => format!("{user}:***"),
        None if scheme.starts_with("postgres") => who.to_owned(),
        _ => "***".to_owned(),
    }
}

fn redact_query(query: &str) -> String {
    let hidden = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["pass", "token", "secret", "key"].iter().any(|word| name.contains(word))
    };
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if hidden(name) => format!("{name}=***"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found() {
        let http: &[&str] = &["http", "https"];
        assert_eq!(check("http://policy:4100", http), Ok(()));
        assert_eq!(check("http://[::1]:4100/x", http), Ok(()));
        assert_eq!(check("http://[::1]", http), Ok(()));
        assert!(check("policy:4100", http).unwrap_err().contains("http:// or https://"));
        assert!(check("ftp://policy", http).is_err());
        assert!(check("http://", http).unwrap_err().contains("no host"));
        assert!(check("http://:80", http).unwrap_err().contains("no host"));
        assert!(check("http://policy:port", http).unwrap_err().contains("port"));
        assert!(check("http://a b", http).unwrap_err().contains("blank"));
    }

    #[test]
    fn databases_have_three_forms() {
        for good in [
            "postgres://u:p@h:5432/db",
            "postgresql://h1:5432,h2:5433/db?sslmode=require",
            "postgres:///db?host=/var/run/postgresql",
            "postgres://u@%2Fvar%2Frun/db",
            "host=localhost user=postgres",
        ] {
            assert_eq!(check_database(good), Ok(()), "{good}");
        }
        for bad in ["", "localhost", "mysql://h/db", "postgres://u:p/w@h/db"] {
            assert!(check_database(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        for (full, shown) in [
            ("postgres://u:p@h:5432/db", "postgres://u:***@h:5432/db"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            (
                "postgres://h/db?user=u&password=p&sslmode=require",
                "postgres://h/db?user=u&password=***&sslmode=require",
            ),
            ("postgres://u:p@ss@h/db", "postgres://u:***@h/db"),
            ("postgres://u:p/w@h/db", "postgres://u:***@h/db"),
            ("postgres://u:p?w@h/db", "postgres://***"),
            ("host=h password=p", "***"),
            ("nats://token@h:4222", "nats://***@h:4222"),
            ("nats://a:1@h,nats://b:2@i", "nats://***@i"),
            ("nats://h:4222", "nats://h:4222"),
            ("https://h/jwks?apikey=k", "https://h/jwks?apikey=***"),
        ] {
            assert_eq!(redact(full), shown);
        }
    }
}
