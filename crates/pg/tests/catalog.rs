//! What is read from the catalog of a real Postgres, of the oldest and the newest version.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

use reactor_model::relation::{Collation, Relation, ReplicaIdentity, TypeKind};
use reactor_pg::catalog::{Publication, RelationInfo, RelationKind, relation_by_name, relation_by_oid};
use reactor_pg::{Client, PgTarget, connect};
use reactor_testkit::{Postgres, PostgresOptions};

const SCHEMA: &str = r#"
create schema "odd Schema";
create type mood as enum ('sad', 'ok', 'happy');
alter type mood add value 'fine' before 'happy';
create domain positive as int check (value > 0);
create domain small as positive check (value < 100);
create domain "odd Schema"."na-me" as varchar(10);
create type pair as (number int, moods mood[]);
create type span as range (subtype = float8);
create table kinds (
    id bigint primary key, m mood, d small, n "odd Schema"."na-me", p pair, s span, ms int4multirange,
    amount numeric(10,2), fixed char(3), flags bit(4), boxes box[], tags text[], vec int2vector);
create table collations (
    id int, byte text collate "C", posix varchar collate "POSIX", basic text collate ucs_basic,
    plain text, many text[] collate "C", name name);
create table full_identity (a int primary key, b text);
alter table full_identity replica identity full;
create table index_identity (a int primary key, b int not null, c int);
create unique index by_b on index_identity (b) include (c);
alter table index_identity replica identity using index by_b;
create table no_identity (a int primary key);
alter table no_identity replica identity nothing;
create table no_key (a int);
create table parts (region text, id int, note text, primary key (region, id)) partition by list (region);
create table "odd Schema".north partition of parts for values in ('north') partition by range (id);
create table north_low partition of "odd Schema".north for values from (0) to (100);
create table outside (id int primary key);
create table listed (id int primary key, shown text, hidden text, made int generated always as (id + 1) stored);
create table secured (id int primary key);
alter table secured enable row level security;
create view a_view as select 1 as one;
create materialized view a_matview as select 1 as one;
create publication chosen for table kinds, collations, parts, listed (id, shown), secured;
create publication leaves for table north_low;
create unlogged table unlogged (id int primary key);
create publication by_schema for tables in schema "odd Schema";
create publication everything for all tables;
"#;

/// Not every build has ICU; that of version 18 that the tests install has not.
const ICU: &str = r#"
create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table icu (english text collate "en-x-icu", ci text collate ci, many text[] collate ci);
"#;

/// A built-in provider came with version 17.
const BUILT_IN: &str = "create table built_in (a text collate pg_c_utf8)";

struct Db {
    client: Client,
    other: Client,
    _server: Option<Postgres>,
}

impl Db {
    async fn on(version: u32) -> Self {
        let (server, url) = if version == 15 {
            (None, Postgres::shared().await.unwrap().create_database("catalog").await.unwrap())
        } else {
            let server = Postgres::start_with(PostgresOptions::version(version)).await.unwrap();
            let url = server.url();
            (Some(server), url)
        };
        let target = PgTarget::parse(&url).unwrap();
        let (client, other) = futures::try_join!(connect(&target, "test"), connect(&target, "test")).unwrap();
        let db = Self { client, other, _server: server };
        db.create(SCHEMA).await;
        db
    }

    async fn create(&self, sql: &str) {
        self.client.batch_execute(&format!("set search_path = public; {sql}; reset search_path")).await.unwrap();
    }

    async fn find(&self, publication: &str, schema: &str, table: &str) -> Option<RelationInfo> {
        relation_by_name(&self.client, publication, schema, table).await.unwrap()
    }

    async fn table(&self, table: &str) -> RelationInfo {
        self.find("chosen", "public", table).await.unwrap()
    }

    async fn by_oid(&self, info: &RelationInfo) -> Option<Relation> {
        let columns: Vec<_> =
            info.relation.columns.iter().map(|column| (&*column.name, column.type_oid, column.type_mod)).collect();
        relation_by_oid(&self.client, info.oid, &columns).await.unwrap()
    }
}

#[tokio::test]
async fn postgres_15() {
    all_of_it(15).await;
}

#[tokio::test]
async fn postgres_18() {
    all_of_it(18).await;
}

async fn all_of_it(version: u32) {
    let db = Db::on(version).await;
    types(&db).await;
    collations(&db, version).await;
    identities(&db).await;
    partitions(&db).await;
    publications(&db).await;
    locks(&db).await;
    names_and_drops(&db).await;
}

async fn types(db: &Db) {
    let info = db.table("kinds").await;
    let relation = &info.relation;
    let kind = |column: &str| {
        let column = relation.columns.iter().find(|known| known.name == column).unwrap();
        relation.types[&column.type_oid].kind.clone()
    };
    let int4 = 23;
    assert_eq!(kind("id"), TypeKind::Builtin);
    let labels = ["sad", "ok", "fine", "happy"].map(String::from).to_vec();
    assert_eq!(kind("m"), TypeKind::Enum { labels }, "in sort order, not in the order of creation");
    assert_eq!(kind("d"), TypeKind::Domain { base: int4 }, "a domain over a domain has the last base");
    assert_eq!(kind("n"), TypeKind::Domain { base: 1043 });
    assert_eq!(kind("ms"), TypeKind::Range { subtype: int4 });
    assert_eq!(kind("s"), TypeKind::Range { subtype: 701 });
    assert_eq!(kind("tags"), TypeKind::Array { element: 25, delimiter: ',' });
    assert_eq!(kind("boxes"), TypeKind::Array { element: 603, delimiter: ';' });
    assert_eq!(kind("vec"), TypeKind::Builtin, "prints without braces");
    let TypeKind::Composite { attributes } = kind("p") else { panic!("a composite") };
    assert_eq!((attributes[0].0.as_str(), attributes[0].1), ("number", int4));
    let TypeKind::Array { element, .. } = relation.types[&attributes[1].1].kind else { panic!("an array inside") };
    assert!(matches!(relation.types[&element].kind, TypeKind::Enum { .. }), "an enum inside that");

    let cast = |column: &str| info.cast_types[relation.column_index(column).unwrap()].as_str();
    assert_eq!((cast("d"), cast("n"), cast("m")), ("integer", "character varying", "public.mood"));
    assert_eq!((cast("amount"), cast("fixed"), cast("flags")), ("numeric", "bpchar", "\"bit\""), "no modifiers");
    assert_eq!(relation.columns[relation.column_index("amount").unwrap()].type_mod, (10 << 16 | 2) + 4);
    assert_eq!(db.by_oid(&info).await.as_ref(), Some(relation), "the stream and the name lead to the same");
}

async fn collations(db: &Db, version: u32) {
    let class = async |table: &str, column: &str| {
        let info = db.table(table).await;
        let index = info.relation.column_index(column).unwrap();
        (info.relation.columns[index].collation, info.collations[index].clone())
    };
    assert_eq!(class("collations", "id").await, (Collation::None, None));
    for column in ["byte", "posix", "basic", "many", "name"] {
        assert_eq!(class("collations", column).await.0, Collation::Bytes, "{column}");
    }
    assert_eq!(class("collations", "plain").await.0, Collation::Bytes, "the database is C.UTF-8");
    if version >= 17 {
        db.create(BUILT_IN).await;
        assert_eq!(class("built_in", "a").await.0, Collation::Bytes);
    } else {
        db.create(ICU).await;
        assert_eq!(class("icu", "english").await.0, Collation::Deterministic);
        assert_eq!(class("icu", "ci").await, (Collation::Nondeterministic, Some("public.ci".to_owned())));
        assert_eq!(class("icu", "many").await.0, Collation::Nondeterministic);
    }
}

async fn identities(db: &Db) {
    let keys = |info: &RelationInfo| {
        let columns = &info.relation.columns;
        let names = |wanted: fn(&reactor_model::Column) -> bool| {
            columns
                .iter()
                .filter(|column| wanted(column))
                .map(|column| column.name.clone())
                .collect::<Vec<_>>()
                .join(",")
        };
        (info.relation.identity, names(|column| column.primary_key), names(|column| column.identity_key))
    };
    let check = async |table: &str, identity: ReplicaIdentity, primary: &str, identifying: &str| {
        let expected = (identity, primary.to_owned(), identifying.to_owned());
        assert_eq!(keys(&db.table(table).await), expected, "{table}");
    };
    check("kinds", ReplicaIdentity::Default, "id", "id").await;
    check("full_identity", ReplicaIdentity::Full, "a", "a,b").await;
    check("index_identity", ReplicaIdentity::Index, "a", "b").await;
    check("no_identity", ReplicaIdentity::Nothing, "a", "").await;
    check("no_key", ReplicaIdentity::Default, "", "").await;
}

async fn partitions(db: &Db) {
    let root = db.table("parts").await;
    assert_eq!(root.kind, RelationKind::Partitioned);
    assert!(matches!(&root.publication, Publication::With(columns) if columns.len() == 3));
    let leaf = db.table("north_low").await;
    let expected = RelationKind::Partition { root_schema: "public".into(), root_table: "parts".into() };
    assert_eq!(leaf.kind, expected);
    let streamed = db.by_oid(&leaf).await.unwrap();
    assert_eq!((streamed.schema.as_str(), streamed.table.as_str()), ("public", "parts"), "the root's name");
    assert_eq!(streamed.oid, leaf.oid, "the leaf's oid");
    let keys: Vec<bool> = streamed.columns.iter().map(|column| column.primary_key).collect();
    assert_eq!(keys, [true, true, false]);
    let by_leaf = db.find("leaves", "public", "parts").await.unwrap();
    assert!(matches!(by_leaf.publication, Publication::With(_)), "a root whose leaf is published");
}

async fn publications(db: &Db) {
    let published =
        async |publication: &str, table: &str| db.find(publication, "public", table).await.unwrap().publication;
    assert_eq!(published("chosen", "outside").await, Publication::Without);
    assert_eq!(published("none", "outside").await, Publication::Missing);
    assert!(matches!(published("everything", "outside").await, Publication::With(_)));
    let columns = ["id", "shown"].map(String::from).into();
    assert_eq!(published("chosen", "listed").await, Publication::With(columns), "the publication's column list");
    let Publication::With(columns) = published("everything", "listed").await else { panic!("published") };
    assert!(!columns.contains("made"), "generated columns are not in the stream");
    assert_eq!(published("everything", "unlogged").await, Publication::Without, "has no changes in the log");
    assert!(matches!(published("by_schema", "parts").await, Publication::With(_)), "by a partition's schema");
    assert_eq!(published("by_schema", "listed").await, Publication::Without);
    assert!(matches!(published("chosen", "north_low").await, Publication::With(_)), "by its root");
}

/// What a long ALTER TABLE locks can still be asked about.
async fn locks(db: &Db) {
    db.client.batch_execute("begin; lock table public.listed, public.parts in access exclusive mode").await.unwrap();
    for table in ["listed", "parts", "kinds"] {
        for publication in ["chosen", "everything", "leaves"] {
            let found = relation_by_name(&db.other, publication, "public", table);
            let found = tokio::time::timeout(std::time::Duration::from_secs(3), found).await;
            assert!(found.unwrap().unwrap().is_some(), "{table} in {publication}");
        }
    }
    db.client.batch_execute("rollback").await.unwrap();
}

async fn names_and_drops(db: &Db) {
    assert!(db.find("chosen", "public", "nothing").await.is_none());
    assert!(db.find("chosen", "nowhere", "kinds").await.is_none());
    assert!(db.table("secured").await.relation.row_security);
    assert!(!db.table("kinds").await.relation.row_security);
    assert_eq!(db.table("a_view").await.kind, RelationKind::Other("a view"));
    assert_eq!(db.table("a_matview").await.kind, RelationKind::Other("a materialized view"));
    let table = db.table("no_key").await;
    db.client.batch_execute("alter table public.no_key rename column a to b").await.unwrap();
    let older = relation_by_oid(&db.client, table.oid, &[("a", 23, -1)]).await.unwrap().unwrap();
    assert_eq!(older.columns[0].name, "a", "the stream's columns stand, though the catalog is newer");
    db.client.batch_execute("drop table public.no_key").await.unwrap();
    assert!(db.by_oid(&table).await.is_none());
}
