//! Subqueries over one table.

use super::*;

fn members() -> TableInfo {
    table(
        2,
        "members",
        &["id int*", "user_id uuid", "room_id int8", "level int", "name varchar", "secret text", "at timestamptz"],
    )
}

fn database() -> Database {
    let mut database = Database::new();
    database.tables.push(members());
    database.owned.push(members());
    database
}

/// The predicate, and each set as `table(keys; identity): condition`.
fn check_in(database: &Database, sql: &str, expected: &str, sets: &[&str]) {
    let template = database.policy(sql);
    assert_eq!(show(&template.predicate), expected, "{sql}");
    let found: Vec<String> = template
        .sets
        .iter()
        .map(|SetTemplate { set, .. }| {
            let (keys, identity) = (set.keys.join(", "), set.identity.join(", "));
            format!("{}({keys}; {identity}): {}", set.table, show(&set.condition))
        })
        .collect();
    assert_eq!(found, sets, "sets of {sql}");
}

fn check(sql: &str, expected: &str, sets: &[&str]) {
    check_in(&database(), sql, expected, sets);
}

fn asks(sql: &str) {
    asks_in(&database(), sql);
}

fn asks_in(database: &Database, sql: &str) {
    check_in(database, sql, "ask", &[]);
}

#[test]
fn exists_looks_up_by_equalities() {
    check(
        "(EXISTS ( SELECT 1 FROM public.members WHERE ((members.room_id = messages.room_id) AND (members.user_id = auth.uid()))))",
        "set0(room_id)",
        &["members(room_id; id): user_id = $0"],
    );
    check(
        "(EXISTS ( SELECT m.id FROM public.members m WHERE ((messages.room_id = m.room_id) AND (m.level >= 3) AND (m.name IS NOT NULL))))",
        "set0(room_id)",
        &["members(room_id; id): (level >= 3 & !name is null)"],
    );
    check(
        "(NOT (EXISTS ( SELECT 1 FROM public.members m WHERE ((m.room_id = messages.room_id) AND (m.user_id = messages.user_id)))))",
        "!set0(room_id, user_id)",
        &["members(room_id, user_id; id): true"],
    );
    check(
        "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.user_id = auth.uid())))",
        "set0()",
        &["members(; id): user_id = $0"],
    );
    check(
        "(EXISTS ( SELECT 1 FROM public.members m WHERE ((m.room_id = n) AND ok) LIMIT 1))",
        "(ok is true & set0(n))",
        &["members(room_id; id): true"],
    );
    check(
        "exists (select * from public.members where (name)::text = messages.body)",
        "set0(body)",
        &["members(name; id): true"],
    );
    check(
        "exists (select from_.id from public.members from_ where from_.room_id = room_id)",
        "set0()",
        &["members(; id): room_id = room_id"],
    );
}

#[test]
fn in_looks_up_its_operand() {
    check(
        "(room_id IN ( SELECT members.room_id FROM public.members WHERE (members.user_id = auth.uid())))",
        "set0(room_id)",
        &["members(room_id; id): user_id = $0"],
    );
    check(
        "(room_id = ANY ( SELECT m.room_id FROM public.members m))",
        "set0(room_id)",
        &["members(room_id; id): true"],
    );
    check(
        "(NOT (room_id IN ( SELECT m.room_id FROM public.members m)))",
        "!in0(room_id)",
        &["members(room_id; id): true"],
    );
    check(
        "(room_id <> ALL ( SELECT m.room_id FROM public.members m))",
        "!in0(room_id)",
        &["members(room_id; id): true"],
    );
    check(
        "(auth.uid() IN ( SELECT members.user_id FROM public.members WHERE (members.room_id = messages.room_id)))",
        "set0(room_id)",
        &["members(room_id; id): user_id = $0"],
    );
    check("(auth.uid() IN ( SELECT m.user_id FROM public.members m))", "set0()", &["members(; id): user_id = $0"]);
    check(
        "(NOT (auth.uid() IN ( SELECT m.user_id FROM public.members m)))",
        "!in0($0)",
        &["members(user_id; id): true"],
    );
    check(
        "((room_id IN ( SELECT m.room_id FROM public.members m)) IS TRUE)",
        "set0(room_id) is true",
        &["members(room_id; id): true"],
    );
    asks("(NOT (auth.uid() IN ( SELECT m.user_id FROM public.members m WHERE (m.room_id = messages.room_id))))");
    check("(room_id IN ( SELECT unnest('{1,2}'::bigint[]) AS unnest))", "ask", &[]);
}

#[test]
fn its_query_reads_identity_and_keys_as_the_role() {
    let template = database().policy(
        "(room_id IN ( SELECT members.room_id FROM public.members WHERE ((members.user_id = auth.uid()) AND (members.level > 2))))",
    );
    assert_eq!(
        template.sets[0].sql,
        "select m.id, m.room_id from public.members as m where (m.user_id = auth.uid()) and (m.level > 2)"
    );
    assert_eq!(template.sets[0].reader, None);
    assert_eq!(template.sets[0].set.id.len(), 16);
    let negative = database().policy("(auth.uid() IN ( SELECT m.user_id FROM public.members m))");
    assert_eq!(negative.sets[0].sql, "select m.id from public.members as m where ((m.user_id) = (auth.uid()))");
    let whole = "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.room_id = messages.room_id)))";
    let twice = database().policy(&format!("({whole} OR (ok AND {whole}))"));
    assert_eq!(twice.sets.len(), 1);
}

#[test]
fn subqueries_that_are_more_than_a_look_up() {
    for sql in [
        "(EXISTS ( SELECT count(*) AS count FROM public.members m))",
        "(EXISTS ( SELECT 1 FROM public.members m LIMIT 0))",
        "(EXISTS ( SELECT 1 FROM public.members m, public.members k))",
        "(EXISTS ( SELECT 1 FROM (public.members m JOIN public.rooms r ON ((r.id = m.room_id)))))",
        "(EXISTS ( SELECT 1 FROM public.members m GROUP BY m.id))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.room_id > messages.room_id)))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE ((m.room_id = messages.room_id) OR ok)))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.at > now())))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE (lower(m.secret) = 'x'::text)))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE ((m.secret)::integer = 1)))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.secret < 'x'::text)))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE ((m.level)::numeric = messages.amount)))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.unheard = messages.n)))",
        "(EXISTS ( SELECT 1 FROM public.unheard m))",
        "(EXISTS ( SELECT 1 FROM public.messages m WHERE (m.id = messages.room_id)))",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE (EXISTS ( SELECT 1 FROM public.members k WHERE (k.id = m.id)))))",
        "(room_id IN ( SELECT m.room_id FROM public.members m LIMIT 1))",
        "(room_id IN ( SELECT (m.level + 1) FROM public.members m))",
        "(room_id IN ( SELECT m.room_id, m.id FROM public.members m))",
        "(( SELECT m.level FROM public.members m WHERE (m.user_id = auth.uid())) = 3)",
        "(amount IN ( SELECT m.level FROM public.members m))",
        "(room_id > ANY ( SELECT m.room_id FROM public.members m))",
    ] {
        let mut database = database();
        database.tables.push(table(1, "messages", &["id int8*", "room_id int8"]));
        database.functions.push(native("count", Volatility::Immutable));
        asks_in(&database, sql);
    }
}

const LOOK_UP: &str =
    "(EXISTS ( SELECT 1 FROM public.members m WHERE ((m.room_id = messages.room_id) AND (m.level = 1))))";

#[test]
fn tables_that_cannot_be_kept_up_with() {
    let asks_with = |change: &dyn Fn(&mut TableInfo)| {
        let mut database = database();
        change(&mut database.tables[0]);
        asks_in(&database, LOOK_UP);
    };
    asks_with(&|table| table.published = false);
    asks_with(&|table| table.relation.oid = 77);
    asks_with(&|table| table.relation.identity = ReplicaIdentity::Nothing);
    asks_with(&|table| table.relation.columns[0].primary_key = false);
    asks_with(&|table| assert!(table.readable.remove("id")));
    asks_with(&|table| table.relation.columns.retain(|column| column.name != "level"));
    let identity = |identity: ReplicaIdentity| {
        let mut database = database();
        database.tables[0].relation.identity = identity;
        database.tables[0].relation.columns[0].identity_key = false;
        database.tables[0].relation.columns[1].identity_key = true;
        database.policy(LOOK_UP).sets[0].set.identity.join(",")
    };
    assert_eq!(identity(ReplicaIdentity::Full), "id,user_id,room_id,level,name,secret,at");
    assert_eq!(identity(ReplicaIdentity::Index), "user_id");
    let with_readable = |columns: &[&str]| {
        let mut database = database();
        database.tables[0].readable.retain(|column| columns.contains(&column.as_str()));
        show(&database.policy(&format!("(ok OR {LOOK_UP})")).predicate)
    };
    // Postgres checks the rights before it reads any row.
    assert_eq!(with_readable(&[]), "raise");
    assert_eq!(with_readable(&["id", "room_id"]), "raise");
    assert_eq!(with_readable(&["level", "room_id"]), "(ok | ask)");
    let mut database = database();
    database.tables[0].readable.remove("secret");
    check_in(&database, LOOK_UP, "set0(room_id)", &["members(room_id; id): level = 1"]);
}

#[test]
fn the_tables_own_policies_are_part_of_the_condition() {
    let with = |permissive: &[&str], restrictive: &[&str]| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let mut database = database();
        database.tables[0].policies =
            Some(RowPolicies { permissive: texts(permissive), restrictive: texts(restrictive) });
        database
    };
    check_in(
        &with(&["(user_id = auth.uid())"], &["(level > 0)"]),
        LOOK_UP,
        "set0(room_id)",
        &["members(room_id; id): (level = 1 & user_id = $0 & level > 0)"],
    );
    check_in(&with(&["true"], &[]), LOOK_UP, "set0(room_id)", &["members(room_id; id): level = 1"]);
    check_in(&with(&[], &[]), LOOK_UP, "set0(room_id)", &["members(room_id; id): false"]);
    asks_in(&with(&["(at < now())"], &[]), LOOK_UP);
    asks_in(&with(&["(EXISTS ( SELECT 1 FROM public.members k WHERE (k.id = members.id)))"], &[]), LOOK_UP);
    asks_in(&with(&["((("], &[]), LOOK_UP);
}

#[test]
fn functions_over_tables_are_followed_with_their_owners_rights() {
    let room = ("room", 20, "bigint");
    let body = "select exists (select 1 from members where room_id = room and user_id = auth.uid())";
    let mut database = database();
    database.tables[0].policies = Some(RowPolicies::default());
    database.functions.push(FunctionInfo {
        security_definer: true,
        settings: vec!["search_path=public".to_owned()],
        ..function("public.is_member", &[room], 16, body)
    });
    database.functions.push(FunctionInfo {
        settings: vec!["search_path=public".to_owned()],
        ..function("public.is_seen", &[room], 16, body)
    });
    check_in(&database, "public.is_member(room_id)", "set0(room_id)", &["members(room_id; id): user_id = $0"]);
    check_in(&database, "public.is_seen(room_id)", "set0(room_id)", &["members(room_id; id): false"]);
    assert_eq!(database.policy("public.is_member(room_id)").sets[0].reader.as_deref(), Some("postgres"));
    database.functions.push(FunctionInfo {
        security_definer: true,
        returns_set: true,
        ..function("public.my_rooms", &[], 20, "select room_id from public.members where user_id = auth.uid()")
    });
    check_in(
        &database,
        "(room_id IN ( SELECT public.my_rooms() AS my_rooms))",
        "set0(room_id)",
        &["members(room_id; id): user_id = $0"],
    );
    check_in(
        &database,
        "(room_id = ANY ( SELECT public.my_rooms() AS my_rooms))",
        "set0(room_id)",
        &["members(room_id; id): user_id = $0"],
    );
    database.owned[0].policies =
        Some(RowPolicies { permissive: vec!["(CURRENT_USER = 'x'::name)".to_owned()], restrictive: vec![] });
    asks_in(&database, "public.is_member(room_id)");
}
