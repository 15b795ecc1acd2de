//! The server's version, its `wal_level`, and what our role may do. Pure.

use super::check::{Check, ident};
use super::facts::Server;

/// Row filters and column lists of publications, and partitions under their root without surprises, begin here.
const GOOD_VERSION: i32 = 15;

/// `pgoutput` in protocol version 2 begins here.
const LEAST_VERSION: i32 = 14;

/// Standbys decode from here on.
const STANDBY_VERSION: i32 = 16;

/// Always three checks, then what concerns a standby.
pub(super) fn judge(server: &Server) -> Vec<Check> {
    let mut checks = vec![version(server), wal_level(server), right(server)];
    checks.extend(standby(server));
    checks
}

fn version(server: &Server) -> Check {
    let major = server.version_num / 10_000;
    let message = format!("Postgres {}", server.version);
    if major >= GOOD_VERSION {
        Check::ok("version", message)
    } else if major >= LEAST_VERSION {
        Check::warn("version", format!("{message} works, but is not tested; {GOOD_VERSION} and later are"))
            .mend(format!("upgrade to Postgres {GOOD_VERSION} or later"))
    } else {
        Check::fail("version", format!("{message} is too old"))
            .mend(format!("upgrade to Postgres {GOOD_VERSION} or later"))
    }
}

fn wal_level(server: &Server) -> Check {
    if server.wal_level == "logical" {
        return Check::ok("wal_level", "logical");
    }
    Check::fail("wal_level", format!("{}: changes are sent only with logical", server.wal_level))
        .mend("ALTER SYSTEM SET wal_level = 'logical';")
        .mend("then restart Postgres (RDS: rds.logical_replication = 1, Cloud SQL: cloudsql.logical_decoding = on)")
}

fn right(server: &Server) -> Check {
    let user = ident(&server.user);
    let why = if server.is_superuser {
        "is a superuser"
    } else if server.has_replication {
        "has REPLICATION"
    } else if server.is_cloud_replicator {
        "is a member of rds_replication or rds_superuser"
    } else {
        return Check::fail("role", format!("{user} may not replicate"))
            .mend(format!("ALTER ROLE {user} REPLICATION;"))
            .mend(format!("or, on RDS: GRANT rds_replication TO {user};"));
    };
    Check::ok("role", format!("{user} {why}"))
}

fn standby(server: &Server) -> Option<Check> {
    if !server.in_recovery {
        return None;
    }
    let remedy = "name the primary in the database URL";
    Some(if server.version_num / 10_000 < STANDBY_VERSION {
        let message = format!("this is a standby, and standbys send changes only from Postgres {STANDBY_VERSION} on");
        Check::fail("standby", message).mend(remedy)
    } else {
        let message = "this is a standby: a new slot waits for activity on the primary, and neither publication nor grants can be changed here";
        Check::warn("standby", message).mend(remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::Status::{self, Fail, Ok, Warn};
    use super::*;

    fn good() -> Server {
        Server {
            version_num: 150_008,
            wal_level: "logical".into(),
            user: "App".into(),
            has_replication: true,
            ..Server::default()
        }
    }

    #[track_caller]
    fn check(server: &Server, expected: &[Status], part: &str) {
        let checks = judge(server);
        assert_eq!(checks.iter().map(|check| check.status).collect::<Vec<_>>(), expected, "{checks:?}");
        for check in &checks {
            assert_eq!(check.status == Ok, check.remedy.is_empty(), "{check:?}");
        }
        assert!(format!("{checks:?}").contains(part), "{checks:?} should say {part}");
    }

    #[test]
    fn servers_are_judged() {
        check(&good(), &[Ok, Ok, Ok], "has REPLICATION");
        check(&Server { version_num: 140_000, ..good() }, &[Warn, Ok, Ok], "not tested");
        check(&Server { version_num: 130_020, ..good() }, &[Fail, Ok, Ok], "too old");
        check(&Server { wal_level: "replica".into(), ..good() }, &[Ok, Fail, Ok], "ALTER SYSTEM SET wal_level");
        check(&Server { has_replication: false, ..good() }, &[Ok, Ok, Fail], r#"ALTER ROLE \"App\" REPLICATION"#);
        check(&Server { has_replication: false, is_superuser: true, ..good() }, &[Ok, Ok, Ok], "superuser");
        check(
            &Server { has_replication: false, is_cloud_replicator: true, ..good() },
            &[Ok, Ok, Ok],
            "rds_replication",
        );
        check(&Server { in_recovery: true, ..good() }, &[Ok, Ok, Ok, Fail], "primary");
        check(&Server { in_recovery: true, version_num: 160_000, ..good() }, &[Ok, Ok, Ok, Warn], "primary");
    }
}
