//! Sets that policies look rows up in, read as whoever the policy reads them as.

use reactor_policy_engine::{AuthorizerError, MemberRow, Members, SetTemplate};
use reactor_proto::convert::MAX_SET_BYTES;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::acting::{Acting, Actors, Failure, Param, Statement};
use crate::bindings::plain_text;
use crate::session::no_answer;

/// The most rows of a set that are kept for one principal; a larger one is asked of Postgres row by row.
const MAX_MEMBERS: usize = 50_000;

/// The rows of the set.
pub(crate) async fn read(actors: &Actors, acting: &Acting, set: &SetTemplate) -> Result<Members, AuthorizerError> {
    let mut acting = acting.clone();
    if let Some(reader) = &set.reader {
        acting.role = Some(reader.clone());
    }
    match actors.run(&acting, vec![statement(set)]).await? {
        Ok(answers) => {
            let rows = answers.into_iter().next().unwrap_or_default();
            if rows.len() > MAX_MEMBERS {
                return Ok(Members::TooMany);
            }
            let (identity, keys) = (set.set.identity.len(), set.set.keys.len());
            let rows: Result<Option<Vec<_>>, tokio_postgres::Error> =
                rows.iter().map(|row| member(row, identity, keys)).collect();
            Ok(rows.map_err(no_answer)?.map_or(Members::TooMany, Members::Rows))
        }
        // The reader is not one of ours any more, so the decision is another one by now.
        Err(Failure::Role) => Ok(Members::Changed),
        // A set that cannot be read as a whole: Postgres is asked row by row, and says for which rows it raises.
        Err(Failure::Raised(..)) => Ok(Members::TooMany),
    }
}

/// Each row with the bytes of all values up to it. Those that are beyond the bound come without their values.
fn statement(set: &SetTemplate) -> Statement {
    let width = set.set.identity.len() + set.set.keys.len();
    let names: Vec<String> = (0..width).map(|index| format!("c{index}")).collect();
    let each = |form: fn(&str) -> String| names.iter().map(|name| form(name)).collect::<Vec<_>>();
    let texts = each(|name| format!("{} as {name}", plain_text(&format!("m.{name}"))));
    let kept = each(|name| format!("case when b.bytes operator(pg_catalog.<=) $2 then b.{name} end"));
    let lengths = each(|name| format!("coalesce(pg_catalog.octet_length(t.{name}), 0)::pg_catalog.int8"));
    let sql = format!(
        "select b.bytes operator(pg_catalog.<=) $2, {}
           from (select t.*, (pg_catalog.sum({}) over (rows unbounded preceding))::pg_catalog.int8 as bytes
                   from (select {} from ({}\n) m({}) limit $1) t) b",
        kept.join(", "),
        lengths.join(" operator(pg_catalog.+) "),
        texts.join(", "),
        set.sql,
        names.join(", "),
    );
    let bound = |most: usize| i64::try_from(most).unwrap_or(i64::MAX);
    let params: [Param; 2] =
        [(Box::new(bound(MAX_MEMBERS + 1)), Type::INT8), (Box::new(bound(MAX_SET_BYTES)), Type::INT8)];
    Statement { sql, params: params.into() }
}

/// `None` when it is beyond the bound.
fn member(row: &Row, identity: usize, keys: usize) -> Result<Option<MemberRow>, tokio_postgres::Error> {
    if !row.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let values = |from: usize, count: usize| -> Result<Vec<Option<String>>, _> {
        (from..from + count).map(|index| row.try_get(index)).collect()
    };
    Ok(Some(MemberRow { identity: values(1, identity)?, keys: values(1 + identity, keys)? }))
}
