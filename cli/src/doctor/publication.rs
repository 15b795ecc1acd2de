//! What is published, and what identifies a row in updates and deletes. Pure.

use super::Wanted;
use super::check::{Check, ident, list};
use super::facts::{Facts, Publication, Server, Table, TableIdentity, TableName};

const PUBLICATION: &str = "publication";
const IDENTITY: &str = "replica identity";

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Check> {
    let Some(publication) = &facts.publication else { return vec![missing(&facts.server, wanted)] };
    let mut checks = vec![tables(publication, &facts.tables, wanted)];
    checks.extend(operations(publication, wanted));
    checks.extend(partitions(publication, &facts.tables, wanted));
    checks.extend(identities(publication, &facts.identities, wanted));
    checks
}

fn missing(server: &Server, wanted: &Wanted) -> Check {
    let name = ident(&wanted.publication);
    let some = format!("CREATE PUBLICATION {name} FOR TABLE …;");
    if !wanted.create_publication {
        return Check::fail(PUBLICATION, format!("{name} does not exist"))
            .mend(some)
            .mend("or set REACTOR_PUBLICATION_CREATE=true, which publishes all tables");
    }
    if server.is_superuser {
        return Check::ok(PUBLICATION, format!("{name} does not exist; the next start creates it, for all tables"));
    }
    let message = format!("{name} does not exist, and only a superuser can create it for all tables");
    Check::fail(PUBLICATION, message)
        .mend(format!("as a superuser: CREATE PUBLICATION {name} FOR ALL TABLES;"))
        .mend(format!("or: {some}"))
}

fn tables(publication: &Publication, tables: &[Table], wanted: &Wanted) -> Check {
    let name = ident(&wanted.publication);
    let names: Vec<&TableName> = tables.iter().map(|table| &table.name).collect();
    match (publication.all_tables, names.as_slice()) {
        (true, []) => Check::ok(PUBLICATION, format!("{name} has all tables; there are none yet")),
        (true, names) => Check::ok(PUBLICATION, format!("{name} has all tables: {}", list(names))),
        (false, []) => Check::warn(PUBLICATION, format!("{name} has no tables"))
            .mend(format!("ALTER PUBLICATION {name} ADD TABLE …;")),
        (false, names) => Check::ok(PUBLICATION, format!("{name} has {}", list(names))),
    }
}

fn operations(publication: &Publication, wanted: &Wanted) -> Option<Check> {
    let all = [
        ("insert", publication.insert),
        ("update", publication.update),
        ("delete", publication.delete),
        ("truncate", publication.truncate),
    ];
    let missing: Vec<&str> = all.iter().filter(|(_, is_in)| !is_in).map(|(name, _)| *name).collect();
    (!missing.is_empty()).then(|| {
        Check::warn(PUBLICATION, format!("{} is not published: subscribers never see it", list(&missing))).mend(
            format!(
                "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');",
                ident(&wanted.publication)
            ),
        )
    })
}

/// Where a partition is named, its rows come under the root all the same; a TRUNCATE of the root is what differs.
fn partitions(publication: &Publication, tables: &[Table], wanted: &Wanted) -> Option<Check> {
    let names: Vec<&TableName> = tables.iter().filter(|table| table.is_partitioned).map(|table| &table.name).collect();
    if names.is_empty() {
        return None;
    }
    let names = list(&names);
    Some(if publication.via_root {
        Check::ok("partitions", format!("published by their roots: {names}"))
    } else {
        let message = format!(
            "published one by one, and delivered under their roots all the same ({names}); to have Postgres do it: \
             ALTER PUBLICATION {} SET (publish_via_partition_root = true);",
            ident(&wanted.publication)
        );
        Check::ok("partitions", message)
    })
}

fn identities(publication: &Publication, tables: &[TableIdentity], wanted: &Wanted) -> Vec<Check> {
    let mut checks = Vec::new();
    let (with, without): (Vec<_>, Vec<_>) = tables.iter().partition(|table| identifies(table));
    let (full, keyed): (Vec<_>, Vec<_>) = with.into_iter().partition(|table| table.kind == 'f');
    let set_full = |table: &&TableIdentity| format!("ALTER TABLE {} REPLICA IDENTITY FULL;", table.name);

    if !without.is_empty() {
        let names = names(&without);
        checks.push(if publication.update || publication.delete {
            let message = format!("without one, Postgres refuses UPDATE and DELETE on {names}");
            let check = Check::fail(IDENTITY, message).mend("add a primary key to each, or:");
            check.mend_each(&without, set_full)
        } else {
            Check::ok(IDENTITY, format!("none on {names}, and none is needed for inserts"))
        });
    }
    let lacks_org = |table: &&TableIdentity| table.has_org_column && !table.key.contains(&wanted.org_column);
    let (withheld, key_only): (Vec<_>, Vec<_>) = keyed.into_iter().partition(lacks_org);
    if !withheld.is_empty() && publication.delete {
        let column = &wanted.org_column;
        let message = format!(
            "deletes in {} reach no member of an organisation: the old row has the key only, without {column}",
            names(&withheld)
        );
        checks.push(Check::warn(IDENTITY, message).mend_each(&withheld, set_full));
    }
    if !key_only.is_empty() {
        let message =
            format!("the key: old rows, and filters on deletes, have the key columns only in {}", names(&key_only));
        checks.push(Check::ok(IDENTITY, message));
    }
    if !full.is_empty() {
        checks.push(Check::ok(IDENTITY, format!("full in {}", names(&full))));
    }
    checks
}

fn names(tables: &[&TableIdentity]) -> String {
    list(&tables.iter().map(|table| &table.name).collect::<Vec<_>>())
}

/// Whether Postgres lets rows be updated and deleted while that is published.
fn identifies(table: &TableIdentity) -> bool {
    match table.kind {
        'f' => true,
        'd' | 'i' => !table.key.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use reactor_replicator::SlotNames;

    use super::super::check::Status::{self, Fail, Ok, Warn};
    use super::*;

    fn wanted(create_publication: bool) -> Wanted {
        Wanted {
            publication: "supabase_realtime".into(),
            create_publication,
            slots: SlotNames::new("reactor", &"default".parse().expect("a tenant")),
            org_column: "org_id".into(),
            confirm_lag_max_bytes: 1 << 30,
            roles: Vec::new(),
        }
    }

    fn name(table: &str) -> TableName {
        TableName { schema: "public".into(), table: table.into() }
    }

    fn identity(table: &str, kind: char, key: &[&str], has_org_column: bool) -> TableIdentity {
        TableIdentity {
            name: name(table),
            kind,
            key: key.iter().map(|&column| column.into()).collect(),
            has_org_column,
        }
    }

    fn facts(publication: Option<Publication>, tables: &[&str], identities: Vec<TableIdentity>) -> Facts {
        let table = |table: &&str| Table {
            name: name(table),
            is_partitioned: table.starts_with("parts"),
            row_security: false,
            readers: Vec::new(),
        };
        Facts {
            server: Server::default(),
            slots: Vec::new(),
            publication,
            identities,
            tables: tables.iter().map(table).collect(),
            roles: Vec::new(),
        }
    }

    fn all() -> Option<Publication> {
        Some(Publication { insert: true, update: true, delete: true, truncate: true, ..Publication::default() })
    }

    #[track_caller]
    fn check(facts: &Facts, wanted: &Wanted, expected: &[Status], part: &str) {
        let checks = judge(facts, wanted);
        assert_eq!(checks.iter().map(|check| check.status).collect::<Vec<_>>(), expected, "{checks:?}");
        assert!(format!("{checks:?}").contains(part), "{checks:?} should say {part}");
    }

    #[test]
    fn a_missing_publication_fails_unless_it_can_be_created() {
        let mut none = facts(None, &[], Vec::new());
        check(&none, &wanted(false), &[Fail], "CREATE PUBLICATION supabase_realtime FOR TABLE");
        check(&none, &wanted(true), &[Fail], "as a superuser");
        none.server.is_superuser = true;
        check(&none, &wanted(true), &[Ok], "creates it");
    }

    #[test]
    fn what_is_published_is_told() {
        check(&facts(all(), &[], Vec::new()), &wanted(false), &[Warn], "ADD TABLE");
        check(&facts(all(), &["a", "B"], Vec::new()), &wanted(false), &[Ok], r#"has public.a, public.\"B\""#);
        let inserts = all().map(|all| Publication { update: false, delete: false, ..all });
        check(&facts(inserts, &["a"], Vec::new()), &wanted(false), &[Ok, Warn], "update, delete is not published");
        check(&facts(all(), &["parts"], Vec::new()), &wanted(false), &[Ok, Ok], "publish_via_partition_root = true");
        let by_root = all().map(|all| Publication { via_root: true, ..all });
        check(&facts(by_root, &["parts"], Vec::new()), &wanted(false), &[Ok, Ok], "by their roots");
    }

    #[test]
    fn identities_are_judged() {
        let with = |publication, identity| facts(publication, &["t"], vec![identity]);
        let check = |identity: TableIdentity, expected: Status, part: &str| {
            check(&with(all(), identity), &wanted(false), &[Ok, expected], part);
        };
        check(identity("t", 'f', &[], true), Ok, "full in public.t");
        check(identity("t", 'd', &["id"], false), Ok, "key columns only in public.t");
        check(identity("t", 'd', &["id", "org_id"], true), Ok, "key columns only");
        check(identity("t", 'd', &["id"], true), Warn, "ALTER TABLE public.t REPLICA IDENTITY FULL;");
        check(identity("t", 'd', &[], false), Fail, "refuses UPDATE and DELETE on public.t");
        check(identity("t", 'n', &[], false), Fail, "add a primary key");
        check(identity("t", 'i', &[], false), Fail, "refuses");
        check(identity("t", 'i', &["k"], false), Ok, "key columns only");

        let inserts = || all().map(|all| Publication { update: false, delete: false, ..all });
        super::tests::check(
            &with(inserts(), identity("t", 'd', &[], false)),
            &wanted(false),
            &[Ok, Warn, Ok],
            "none is needed",
        );
        super::tests::check(
            &with(inserts(), identity("t", 'd', &["id"], true)),
            &wanted(false),
            &[Ok, Warn],
            "not published",
        );
    }
}
