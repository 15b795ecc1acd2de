//! What the catalog says about `realtime.messages`: what a role may do with it, and what a row that is inserted comes to.

use std::sync::Arc;
use std::time::Instant;

use moka::future::Cache;
use reactor_pg::{Client, PgError};
use reactor_policy_engine::{AuthorizerError, PolicyVersion};
use reactor_runtime::clock;
use tokio_postgres::types::Type;

use super::At;
use crate::access::{DatabaseGrant, TableAccess, shared_error};
use crate::policies::{Policy, insert_policies};
use crate::settings::PolicySettings;
use crate::watch;

/// Roles that are kept: more than tokens of a tenant name within the few moments that an entry lives.
const CAPACITY: u64 = 1_000;

/// `realtime.messages` for one role.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) access: Arc<TableAccess>,
    /// Whether the role may insert what a probe inserts.
    pub(super) may_insert: bool,
    /// The policies that apply when the role inserts, where any do.
    pub(super) writers: Vec<Policy>,
    /// `None` where it cannot be told what becomes of a row: by a trigger, say.
    pub(super) inserted: Option<Inserted>,
    /// All of this as text: rights by equal texts are equal.
    pub(super) content: Arc<str>,
    /// The version of the functions that were there at least.
    pub(super) version: PolicyVersion,
    /// Whatever was done before then is in it.
    pub(super) read_at: Instant,
}

impl Messages {
    /// Whether the role may select what a probe selects, as far as grants say.
    pub(super) fn may_select(&self) -> bool {
        match &self.access.grant {
            DatabaseGrant::Table => true,
            DatabaseGrant::Columns(columns) => ["id", "extension"].iter().all(|name| columns.contains(*name)),
            DatabaseGrant::NoRole | DatabaseGrant::NoSchema | DatabaseGrant::Nothing => false,
        }
    }

    /// Whether the role may use the table's schema.
    pub(super) fn may_use(&self) -> bool {
        !matches!(self.access.grant, DatabaseGrant::NoRole | DatabaseGrant::NoSchema)
    }
}

/// What becomes of a row that is inserted with a topic, an extension and `private`.
#[derive(Debug)]
pub(super) struct Inserted {
    /// What the other columns have then, by their names.
    pub(super) defaults: Vec<(String, Given)>,
    /// What must be true of it.
    pub(super) conditions: Vec<String>,
    /// What is evaluated for it: of which rows an index is.
    pub(super) evaluated: Vec<String>,
}

/// A value that nobody gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Null,
    Text(&'static str),
    /// Another one each time.
    Any,
}

impl Given {
    /// What a default as Postgres prints it gives; `None` when that cannot be told, or may fail.
    fn of(default: Option<&str>) -> Option<Self> {
        match default {
            None => Some(Self::Null),
            Some("true") => Some(Self::Text("t")),
            Some("false") => Some(Self::Text("f")),
            Some(
                "gen_random_uuid()"
                | "now()"
                | "CURRENT_TIMESTAMP"
                | "LOCALTIMESTAMP"
                | "clock_timestamp()"
                | "(now() AT TIME ZONE 'utc'::text)"
                | "(clock_timestamp() AT TIME ZONE 'utc'::text)"
                | "timezone('utc'::text, now())"
                | "timezone('utc'::text, clock_timestamp())",
            ) => Some(Self::Any),
            Some(_) => None,
        }
    }
}

/// The table behind a cache, as [`Catalog`](crate::access::Catalog) keeps others.
pub(super) struct MessagesCache(Cache<(PolicyVersion, String), Option<Arc<Messages>>>);

impl MessagesCache {
    pub(super) fn new(settings: &PolicySettings) -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(settings.catalog_cache).build())
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }

    /// The table for the role, with all that was done before `since`; `None` when there is none.
    pub(super) async fn read(
        &self,
        at: &At<'_>,
        role: &str,
        since: Option<Instant>,
    ) -> Result<Option<Arc<Messages>>, AuthorizerError> {
        let At { catalog, session, version, .. } = *at;
        let key = (version, role.to_owned());
        if let (Some(since), Some(Some(known))) = (since, self.0.get(&key).await)
            && known.read_at < since
        {
            self.0.invalidate(&key).await;
            catalog.forget(version, role, "realtime", "messages").await;
        }
        let read = async {
            let read_at = clock::now();
            let now = session.ask(async |client| watch::version(client).await).await?;
            let Some(access) = catalog.access(session, version, role, "realtime", "messages").await? else {
                return Ok(None);
            };
            let read = session.ask(async |client| messages(client, role, access, (now, read_at)).await).await?;
            Ok(Some(Arc::new(read)))
        };
        let found = self.0.try_get_with_by_ref(&key, Box::pin(read)).await.map_err(shared_error)?;
        if found.is_none() {
            self.0.invalidate(&key).await;
        }
        Ok(found)
    }
}

async fn messages(
    client: &Client,
    role: &str,
    access: Arc<TableAccess>,
    (version, read_at): (PolicyVersion, Instant),
) -> Result<Messages, PgError> {
    let table = access.info.oid;
    let (rows, writers) = futures::try_join!(
        async { Ok(client.query_typed(MESSAGES, &[(&role, Type::TEXT), (&table, Type::OID)]).await?) },
        insert_policies(client, role, table)
    )?;
    let (may_insert, inserted) = match rows.first() {
        Some(row) => {
            let (names, defaults): (Vec<String>, Vec<Option<String>>) = (row.try_get(2)?, row.try_get(3)?);
            let given = defaults.iter().map(|default| Given::of(default.as_deref())).collect::<Option<Vec<_>>>();
            let (conditions, evaluated) = (row.try_get(4)?, row.try_get(5)?);
            let inserted = given.filter(|_| matches!(row.try_get(1), Ok(true))).map(|given| Inserted {
                defaults: names.into_iter().zip(given).collect(),
                conditions,
                evaluated,
            });
            (row.try_get(0)?, inserted)
        }
        None => (false, None),
    };
    let content = format!("{access:?}{may_insert}{writers:?}{inserted:?}").into();
    Ok(Messages { access, may_insert, writers, inserted, content, version, read_at })
}

/// Whether the role may insert the columns of a probe. Whether it is known what becomes of a row: nothing runs on an insert
/// but what is listed here, and nothing that is unique can be there already. Then the other columns with their defaults,
/// what must be true of a row, and what else is evaluated for it.
const MESSAGES: &str = "
with tree(oid) as materialized (
    select $2::pg_catalog.oid
    union select t.relid::pg_catalog.oid from pg_catalog.pg_partition_tree($2::pg_catalog.oid::pg_catalog.regclass) t),
own as (
    select a.attnum, a.attname::text as name, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated, a.attidentity,
           pg_catalog.pg_get_expr(d.adbin, d.adrelid) as given
      from pg_catalog.pg_attribute a
      left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where a.attrelid = $2 and a.attnum > 0 and not a.attisdropped)
select (select count(*) = 3 and bool_and(coalesce(pg_catalog.has_column_privilege(r.oid, $2, a.attnum, 'INSERT'), false))
          from own a where a.name in ('topic', 'extension', 'private')),
       pg_catalog.current_setting('row_security') = 'on'
       and not exists (select from pg_catalog.pg_class c
                        where c.oid in (select oid from tree) and (c.relkind not in ('r', 'p') or c.relhasrules))
       and not exists (select from pg_catalog.pg_trigger t where t.tgrelid in (select oid from tree))
       and not exists (select from pg_catalog.pg_constraint n
                        where n.conrelid in (select oid from tree) and n.contype not in ('c', 'n', 'p', 'u'))
       and not exists (select from pg_catalog.pg_index i
                        where i.indrelid in (select oid from tree)
                          and (i.indexprs is not null
                               or i.indisunique
                                  and not exists (select from pg_catalog.pg_attribute a
                                                   where a.attrelid = i.indrelid and a.attname = 'id'
                                                     and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]))))
       and not exists (select from pg_catalog.pg_attribute a
                        where a.attrelid in (select oid from tree) and a.attnum > 0 and not a.attisdropped and a.attnotnull
                          and a.attname not in ('topic', 'extension', 'private')
                          and not exists (select from own o where o.name = a.attname::text and o.given is not null))
       and not exists (select from own a join pg_catalog.pg_type t on t.oid = a.atttypid
                        where t.typtype = 'd' or a.attgenerated <> '' or a.attidentity <> '' or a.attcollation not in (0, 100))
       and 4 = (select count(*) from own a
                 where a.name in ('topic', 'extension') and a.atttypid in ('text'::pg_catalog.regtype, 'varchar'::pg_catalog.regtype)
                       and a.atttypmod = -1
                    or a.name = 'private' and a.atttypid = 'bool'::pg_catalog.regtype
                    or a.name = 'id' and a.atttypid = 'uuid'::pg_catalog.regtype and a.given = 'gen_random_uuid()'),
       array(select a.name from own a where a.name not in ('topic', 'extension', 'private') order by a.attnum),
       array(select a.given from own a where a.name not in ('topic', 'extension', 'private') order by a.attnum),
       array(select distinct pg_catalog.pg_get_expr(n.conbin, n.conrelid) from pg_catalog.pg_constraint n
              where n.conrelid in (select oid from tree) and n.contype = 'c' order by 1),
       array(select distinct pg_catalog.pg_get_expr(i.indpred, i.indrelid) from pg_catalog.pg_index i
              where i.indrelid in (select oid from tree) and i.indpred is not null order by 1)
  from pg_catalog.pg_roles r where r.rolname = $1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_known_by_their_texts() {
        assert_eq!(Given::of(None), Some(Given::Null));
        assert_eq!(Given::of(Some("false")), Some(Given::Text("f")));
        assert_eq!(Given::of(Some("now()")), Some(Given::Any));
        assert_eq!(Given::of(Some("public.now()")), None);
        assert_eq!(Given::of(Some("'x'::text")), None);
    }
}
