//! Comparisons that only Postgres can make.

use reactor_model::filter::Truth::{self, False, True, Unknown};
use reactor_policy_engine::{AuthorizerError, Comparison};

use crate::support::{Db, comparisons};

const SQL: &str = "
create schema extensions;
create extension citext schema extensions;
create collation german (provider = icu, locale = 'de-DE');
create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create type mood as enum ('sad', 'ok', 'happy');
create domain word as text collate \"en-x-icu\" check (value <> 'never');
create table kinds (
    id int primary key, byte text collate \"C\", de text collate german, ci text collate ci, cit extensions.citext,
    cits extensions.citext[], w word, t text, v varchar(3), fixed char(5), took interval, nums int[], tags text[],
    m mood, yes bool, js json, at timestamptz, amount numeric(10,2), r int4range, ip inet);
create publication supabase_realtime for table kinds;
";

#[tokio::test]
async fn results_are_those_of_the_columns_type_and_collation() {
    let (db, _) = Db::new(SQL).await;
    let check = async |condition: &str, values: &[&str], expected: &[Truth]| {
        assert_eq!(db.compare("kinds", condition, values).await, expected, "{condition} of {values:?}");
    };
    check("byte.lt.b", &["a", "B", "ä", "Z"], &[True, True, False, True]).await;
    check("de.lt.b", &["a", "B", "ä", "Z"], &[True, False, True, False]).await;
    check("de.eq.ä", &["ä", "a", "Ä"], &[True, False, False]).await;
    check("ci.eq.Äpfel", &["äpfel", "ÄPFEL", "apfel", "x"], &[True, True, False, False]).await;
    check("ci.in.a|b", &["A", "B", "c"], &[True, True, False]).await;
    check("ci.neq.a", &["A", "b"], &[False, True]).await;
    check("ci.isdistinct.a", &["A", "b"], &[False, True]).await;
    check("cit.eq.ABC", &["abc", "AbC", "abd"], &[True, True, False]).await;
    check("cit.gte.b", &["A", "B", "c"], &[False, True, True]).await;
    check("cit.like.A%", &["abc", "xbc"], &[True, False]).await;
    check("cit.match.^A", &["abc", "xbc"], &[True, False]).await;
    check("cit.in.A|B", &["a", "b", "c"], &[True, True, False]).await;
    check("cits.eq.{A,b}", &["{a,B}", "{a}"], &[True, False]).await;
    check("w.gt.b", &["a", "C", "never"], &[False, True, True]).await;
    check("t.ilike.Ä%", &["äpfel", "apfel"], &[True, False]).await;
    check("t.imatch.^(ä|ö).*L$", &["Äpfel", "Ofen"], &[True, False]).await;
    check(r"t.match.(\w)\1", &["aab", "abab"], &[True, False]).await;
    check("v.eq.abcd", &["abc"], &[False]).await;
    check("fixed.eq.ab", &["ab   ", "ab", "abc  "], &[True, True, False]).await;
    check("took.eq.1 day", &["24:00:00", "1 day", "2 days"], &[True, True, False]).await;
    check("took.lt.1 mon", &["29 days", "31 days"], &[True, False]).await;
    check("nums.gt.{1,2}", &["{1,3}", "{1}", "{1,NULL}"], &[True, False, True]).await;
    check("tags.in.{a}|{b,c}", &["{b,c}", "{b}", "{a}"], &[True, False, True]).await;
    check("m.gt.sad", &["ok", "sad", "happy"], &[True, False, True]).await;
    check("at.eq.2024-01-01 00:00:00+00", &["2024-01-01 02:00:00+02"], &[True]).await;
    check("amount.eq.1.239", &["1.24", "1.239"], &[False, True]).await;
    check("r.lt.[5,6)", &["[1,2)", "[7,8)", "empty"], &[True, False, True]).await;
    check("ip.lt.10.0.0.10", &["10.0.0.9", "10.0.0.11"], &[True, False]).await;
}

#[tokio::test]
async fn what_raises_is_unknown_and_the_rest_is_not() {
    let (db, _) = Db::new(SQL).await;
    let mut values: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    values[17] = "not a number".into();
    values[90] = "99999999999999".into();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let truths = db.compare("kinds", "id.lt.50", &values).await;
    for (index, truth) in truths.into_iter().enumerate() {
        let expected = match index {
            17 | 90 => Unknown,
            below if below < 50 => True,
            _ => False,
        };
        assert_eq!(truth, expected, "{index}");
    }
    assert_eq!(db.compare("kinds", "id.lt.x", &["1", "2"]).await, [Unknown, Unknown]);
    assert_eq!(db.compare("kinds", "js.eq.{}", &["{}"]).await, [Unknown], "no such operator");
    assert_eq!(db.compare("kinds", "ci.like.a%", &["a"]).await, [Unknown], "not for such a collation");
    assert_eq!(db.compare("kinds", r"t.like.ab\", &["abc", "x"]).await, [Unknown, False], "raises at the end only");
    assert_eq!(db.compare("kinds", "gone.eq.1", &["1"]).await, [Unknown]);
    assert_eq!(db.compare("gone", "id.eq.1", &["1"]).await, [Unknown]);
    assert_eq!(db.compare("kinds", "id.eq.1", &["1"]).await, [True], "the connection is as good as before");
}

#[tokio::test]
async fn many_groups_keep_their_order() {
    let (db, _) = Db::new(SQL).await;
    let mut asked: Vec<Comparison> = Vec::new();
    let mut expected = Vec::new();
    for number in 0..200 {
        let operand = number % 40;
        asked.extend(comparisons("kinds", &format!("id.eq.{operand}"), &[&(number % 7).to_string()]));
        expected.push(if operand == number % 7 { True } else { False });
    }
    assert_eq!(db.try_compare(asked).await.unwrap(), expected);
    assert_eq!(db.try_compare(Vec::new()).await.unwrap(), []);
}

#[tokio::test]
async fn a_comparison_without_end_is_cut_at_the_deadline() {
    let (db, _) = Db::new(SQL).await;
    let value = "a".repeat(60);
    let slow = comparisons("kinds", r"t.match.^(a*)*(a*)*(a*)*\1\2\3\1\2\3b$", &[&value]);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), db.try_compare(slow)).await.unwrap();
    assert!(
        matches!(&answer, Ok(truths) if truths == &[Unknown] || truths == &[False])
            || matches!(answer, Err(AuthorizerError::Timeout))
    );
    assert_eq!(db.compare("kinds", "id.eq.1", &["1"]).await, [True]);
}
