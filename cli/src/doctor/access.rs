//! Who may read what. Pure.

use super::Wanted;
use super::check::{Check, ident, list};
use super::facts::{Facts, Table, TableName};

const GRANTS: &str = "grants";

/// The role of signed-in users, in Supabase's convention and ours.
const USERS: &str = "authenticated";

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(roles(&facts.roles, wanted));
    if !facts.roles.is_empty() {
        checks.extend(grants(&facts.tables, &facts.roles));
    }
    checks.extend(row_security(&facts.tables));
    checks
}

fn roles(existing: &[String], wanted: &Wanted) -> Option<Check> {
    let missing: Vec<&String> = wanted.roles.iter().filter(|role| !existing.contains(role)).collect();
    if missing.is_empty() {
        return None;
    }
    let message = format!(
        "{} does not exist: a token with that role is refused, unless it has permissions of its own",
        list(&missing)
    );
    // Only the one that users have is missed; a system without the others is whole.
    let is_missed = existing.is_empty() || missing.iter().any(|role| *role == USERS);
    if !is_missed {
        return Some(Check::ok("roles", message));
    }
    Some(Check::warn("roles", message).mend_each(&missing, |role| format!("CREATE ROLE {} NOLOGIN;", ident(role))))
}

fn grants(tables: &[Table], roles: &[String]) -> Vec<Check> {
    let mut checks = Vec::new();
    for role in roles {
        let readable: Vec<&TableName> =
            tables.iter().filter(|table| table.readers.contains(role)).map(|table| &table.name).collect();
        if !readable.is_empty() {
            checks.push(Check::ok(GRANTS, format!("{} may select from {}", ident(role), list(&readable))));
        }
    }
    let unread: Vec<&TableName> =
        tables.iter().filter(|table| table.readers.is_empty()).map(|table| &table.name).collect();
    if !unread.is_empty() {
        let role = ident(roles.iter().find(|role| *role == USERS).or(roles.first()).map_or(USERS, String::as_str));
        let message = format!(
            "nobody of {} may select from {}: subscriptions are refused, unless the token has permissions of its own",
            list(roles),
            list(&unread)
        );
        checks.push(Check::warn(GRANTS, message).mend_each(&unread, |table| {
            format!("GRANT USAGE ON SCHEMA {} TO {role}; GRANT SELECT ON {table} TO {role};", ident(&table.schema))
        }));
    }
    checks
}

fn row_security(tables: &[Table]) -> Option<Check> {
    let names: Vec<&TableName> = tables.iter().filter(|table| table.row_security).map(|table| &table.name).collect();
    if names.is_empty() {
        return None;
    }
    let message = format!("row-level security is enabled on {}: its policies decide which rows are sent", list(&names));
    Some(Check::ok("row security", message))
}

#[cfg(test)]
mod tests {
    use reactor_replicator::SlotNames;

    use super::super::check::Status::{self, Ok, Warn};
    use super::super::facts::Server;
    use super::*;

    fn table(name: &str, readers: &[&str], row_security: bool) -> Table {
        let name = TableName { schema: "public".into(), table: name.into() };
        Table { name, is_partitioned: false, row_security, readers: readers.iter().map(|&role| role.into()).collect() }
    }

    #[track_caller]
    fn check(roles: &[&str], tables: Vec<Table>, expected: &[Status], part: &str) {
        let wanted = Wanted {
            publication: "p".into(),
            create_publication: false,
            slots: SlotNames::new("reactor", &"default".parse().expect("a tenant")),
            org_column: "org_id".into(),
            confirm_lag_max_bytes: 0,
            roles: ["anon", "authenticated", "service_role"].map(String::from).to_vec(),
        };
        let facts = Facts {
            server: Server::default(),
            slots: Vec::new(),
            publication: None,
            identities: Vec::new(),
            tables,
            roles: roles.iter().map(|&role| role.into()).collect(),
        };
        let checks = judge(&facts, &wanted);
        assert_eq!(checks.iter().map(|check| check.status).collect::<Vec<_>>(), expected, "{checks:?}");
        assert!(format!("{checks:?}").contains(part), "{checks:?} should say {part}");
    }

    #[test]
    fn roles_and_grants_are_judged() {
        let all = ["anon", "authenticated", "service_role"];
        check(&all, vec![table("t", &["authenticated"], false)], &[Ok], "authenticated may select from public.t");
        check(&all, vec![table("t", &[], false)], &[Warn], "GRANT SELECT ON public.t TO authenticated;");
        check(&["anon", "authenticated"], vec![], &[Ok], "service_role does not exist");
        check(&["anon"], vec![table("t", &["anon"], false)], &[Warn, Ok], "CREATE ROLE authenticated NOLOGIN;");
        check(&[], vec![table("t", &[], false)], &[Warn], "CREATE ROLE anon NOLOGIN;");
        check(&all, vec![table("t", &["anon"], true)], &[Ok, Ok], "its policies decide");
    }
}
