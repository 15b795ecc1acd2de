//! Values of filters: their canonical form, and those that are refused.

use reactor_model::Code;
use reactor_model::filter::Operand;

use crate::support::{Db, With, operand, request};

const SQL: &str = "
create extension citext schema public;
create type mood as enum ('sad', 'ok', 'happy');
create type pair as (a int, b text);
create domain positive as int check (value > 0);
create domain short as varchar(3);
create table kinds (
    id bigint primary key, n int2, amount numeric(10,2), ratio float8, yes bool, v varchar(3), fixed char(5), t text,
    u uuid, at timestamptz, day date, took interval, bytes bytea, j jsonb, js json, tags text[], nums int[], m mood,
    p pair, d positive, s short, r int4range, ip inet, ci citext, xml xml, nick name, place point);
create publication supabase_realtime for table kinds;
create role {r}_reader;
grant select on kinds to {r}_reader;
";

#[tokio::test]
async fn values_become_what_the_type_prints() {
    let (db, roles) = Db::new(SQL).await;
    let canonical = async |condition: &str| {
        let grant = db.allowed(request(&roles.name("reader"), "kinds").with_filter(condition)).await;
        match operand(&grant.filter) {
            Operand::Text(text) => text.clone(),
            Operand::List(values) => values.join("|"),
            Operand::Keyword(keyword) => keyword.name().to_owned(),
        }
    };
    for (condition, expected) in [
        ("id.eq. 0042 ", "42"),
        ("n.in.1| 2|03", "1|2|3"),
        ("amount.eq.1e3", "1000"),
        ("amount.gt.1.239", "1.239"),
        ("amount.eq.123456789012345", "123456789012345"),
        ("ratio.lt.0.10", "0.1"),
        ("ratio.eq.NaN", "NaN"),
        ("yes.eq.true", "t"),
        ("yes.neq.no", "f"),
        ("v.eq.abcdef", "abcdef"),
        ("fixed.eq.ab", "ab"),
        ("t.eq.  a b ", "  a b "),
        ("t.eq.", ""),
        ("u.eq.A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("at.gte.2024-03-01T12:00:00+02:00", "2024-03-01 10:00:00+00"),
        ("day.eq.March 1, 2024", "2024-03-01"),
        ("took.eq.90 minutes", "01:30:00"),
        ("bytes.eq.abc", "\\x616263"),
        ("j.eq.{\"b\":1, \"a\":[1,2]}", "{\"a\": [1, 2], \"b\": 1}"),
        ("tags.eq.{a,\"b c\"}", "{a,\"b c\"}"),
        ("nums.eq.{ 1, 02 }", "{1,2}"),
        ("m.in.ok|sad", "ok|sad"),
        ("p.eq.(1, x)", "(1,\" x\")"),
        ("d.eq.-7", "-7"),
        ("s.eq.longer", "longer"),
        ("r.eq.[1,3]", "[1,4)"),
        ("ip.eq.192.168.1.1/32", "192.168.1.1"),
        ("ci.eq.MiXed", "MiXed"),
        ("t.like.a%_\\%", "a%_\\%"),
        ("t.match.^a+$", "^a+$"),
        ("ci.imatch.x|y", "x|y"),
        ("t.isdistinct.x", "x"),
    ] {
        assert_eq!(canonical(condition).await, expected, "{condition}");
    }
}

#[tokio::test]
async fn values_that_the_type_does_not_take_are_named() {
    let (db, roles) = Db::new(SQL).await;
    let refused = async |condition: &str, parts: &[&str]| {
        let denial = db.denied(request(&roles.name("reader"), "kinds").with_filter(condition)).await;
        assert_eq!(denial.code, Code::BadFilter, "{condition}: {denial:?}");
        let said = format!("{} {}", denial.message, denial.hint);
        assert!(parts.iter().all(|part| said.contains(part)), "{condition}: {denial:?}");
    };
    refused("id.eq.abc", &["`id`", "`abc`", "bigint"]).await;
    refused("id.eq.", &["`id`", "bigint"]).await;
    refused("id.gt.99999999999999999999", &["`id`", "bigint"]).await;
    refused("n.in.1|2|x|4", &["`n`", "`x`", "smallint"]).await;
    refused("amount.eq.1,5", &["`amount`", "`1,5`", "numeric"]).await;
    refused("yes.eq.maybe", &["`yes`", "boolean"]).await;
    refused("u.eq.123", &["`u`", "uuid"]).await;
    refused("at.eq.yesterday or so", &["`at`", "timestamp with time zone"]).await;
    refused("day.eq.2024-02-30", &["`day`", "date"]).await;
    refused("bytes.eq.\\xZZ", &["`bytes`", "bytea"]).await;
    refused("j.eq.{", &["`j`", "jsonb"]).await;
    refused("m.eq.angry", &["`m`", "`angry`", "mood", "sad, ok, happy"]).await;
    refused("d.eq.x", &["`d`", "integer"]).await;
    refused("r.eq.[3,1]", &["`r`", "int4range"]).await;
    refused("tags.eq.{a", &["`tags`", "text[]"]).await;
    refused("t.eq.nul\0byte", &["`t`"]).await;
    refused("t.match.a(b", &["`t`", "parentheses"]).await;
    refused("t.imatch.[z-a]", &["`t`", "regular expression"]).await;
    refused("t.like.abc\\", &["`t`", "escape"]).await;
    refused("js.eq.{}", &["`eq`", "`js`"]).await;
    refused("xml.eq.<a/>", &["`eq`", "`xml`"]).await;
    refused("place.lt.(1,2)", &["`lt`", "`place`"]).await;
    refused("id.like.1%", &["`like`", "`id`"]).await;
    refused("j.match.x", &["`match`", "`j`"]).await;
    db.allowed(request(&roles.name("reader"), "kinds").with_filter("id.eq.1")).await;
}

#[tokio::test]
async fn long_values_are_shown_in_part() {
    let (db, roles) = Db::new(SQL).await;
    let long = format!("id.eq.{}", "x".repeat(10_000));
    let denial = db.denied(request(&roles.name("reader"), "kinds").with_filter(&long)).await;
    assert!(denial.message.len() < 400, "{}", denial.message.len());
}

#[tokio::test]
async fn it_is_told_whether_rows_must_be_asked_about() {
    let (db, roles) = Db::new(SQL).await;
    let asks = async |condition: &str| {
        db.allowed(request(&roles.name("reader"), "kinds").with_filter(condition)).await.asks_postgres
    };
    assert!(!asks("id.eq.1").await);
    assert!(asks("ci.eq.x").await);
}
