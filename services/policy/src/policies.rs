//! What the catalog says about a role's rights on a table and the policies that apply to it, as Postgres chooses them.

use std::collections::BTreeSet;

use reactor_pg::{Client, PgError};
use tokio_postgres::types::Type;

use crate::access::DatabaseGrant;

/// A role, as statements act for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleInfo {
    pub(crate) exists: bool,
    /// Whether our own user may act as it.
    pub(crate) may_act: bool,
    /// The search path of its sessions, in which its functions find what they name without a schema.
    pub(crate) search_path: String,
}

/// Whether policies choose the rows of a table for a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowSecurity {
    /// It is not enabled, or the role is above it.
    Off,
    /// The policies that apply; with none that is permissive no row is seen.
    Policies(Vec<Policy>),
}

/// One policy that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) permissive: bool,
    /// The condition as Postgres prints it.
    pub(crate) using: String,
    /// The columns of the table's row that are in it.
    pub(crate) columns: Vec<String>,
}

/// What a role may do with a table.
pub(crate) struct Rights {
    pub(crate) grant: DatabaseGrant,
    pub(crate) role: RoleInfo,
    /// The columns that it may select, whether or not it may use the schema.
    pub(crate) selectable: BTreeSet<String>,
    /// Whether policies apply to it.
    pub(crate) row_security: bool,
}

/// The search path of the sessions that a role `r` has in a database `db`, when one is set for them.
macro_rules! search_path {
    () => {
        "(select pg_catalog.substr(setting, 13)
          from pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) setting
         where s.setrole in (r.oid, 0) and s.setdatabase in (db.oid, 0) and setting like 'search\\_path=%'
         order by s.setrole desc, s.setdatabase desc limit 1)"
    };
}

/// As `check_enable_rls` of Postgres: not for superusers, roles with BYPASSRLS, nor for whoever has the owner's rights
/// unless it is forced.
const RIGHTS: &str = concat!(
    "
select r.oid is not null,
       coalesce(pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE'), false),
       coalesce(pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT'), false),
       array(select a.attname::text from pg_catalog.pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                and pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')),
       coalesce(case when pg_catalog.current_setting('server_version_num')::int4 >= 160000
                     then pg_catalog.pg_has_role(session_user, r.oid, 'SET')
                     else pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER') end, false),
       ",
    search_path!(),
    ",
       c.relrowsecurity
           and not coalesce(r.rolsuper or r.rolbypassrls, false)
           and (c.relforcerowsecurity or not coalesce(pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'), false))
  from pg_catalog.pg_class c
  join pg_catalog.pg_database db on db.datname = pg_catalog.current_database()
  left join pg_catalog.pg_roles r on r.rolname = $1
 where c.oid = $2"
);

/// What Postgres has when nobody sets it.
const SEARCH_PATH: &str = "\"$user\", public";

/// What the role may do with the table; `None` when there is no such table any more.
pub(crate) async fn rights(client: &Client, role: &str, table: u32) -> Result<Option<Rights>, PgError> {
    let rows = client.query_typed(RIGHTS, &[(&role, Type::TEXT), (&table, Type::OID)]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (exists, schema, whole): (bool, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let selectable: BTreeSet<String> = row.try_get::<_, Vec<String>>(3)?.into_iter().collect();
    let grant = match (exists, schema, whole) {
        (false, ..) => DatabaseGrant::NoRole,
        (true, false, _) => DatabaseGrant::NoSchema,
        (true, true, true) => DatabaseGrant::Table,
        (true, true, false) if selectable.is_empty() => DatabaseGrant::Nothing,
        (true, true, false) => DatabaseGrant::Columns(selectable.clone()),
    };
    let search_path: Option<String> = row.try_get(5)?;
    let role = RoleInfo {
        exists,
        may_act: row.try_get(4)?,
        search_path: search_path.unwrap_or_else(|| SEARCH_PATH.to_owned()),
    };
    Ok(Some(Rights { grant, role, selectable, row_security: row.try_get(6)? }))
}

/// Those for a command to the role, to a role whose rights it has, or to PUBLIC. One without a condition adds nothing.
/// In the order in which Postgres evaluates them: of alternatives the first that is true hides errors of the others.
macro_rules! policies {
    ($condition:literal, $commands:literal) => {
        concat!(
            "
select p.polpermissive, pg_catalog.pg_get_expr(",
            $condition,
            ", p.polrelid),
       array(select a.attname::text
               from pg_catalog.pg_depend d
               join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
              where d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass and d.objid = p.oid
                and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = p.polrelid
                and d.refobjsubid > 0)
  from pg_catalog.pg_policy p
 where p.polrelid = $2 and p.polcmd in ",
            $commands,
            " and ",
            $condition,
            " is not null
   and (0 = any(p.polroles)
        or exists (select from pg_catalog.pg_roles r, pg_catalog.unnest(p.polroles) named(oid)
                    where r.rolname = $1 and pg_catalog.pg_has_role(r.oid, named.oid, 'USAGE')))
 order by p.polpermissive, case when not p.polpermissive then p.polname end, p.polname desc"
        )
    };
}

const SELECT_POLICIES: &str = policies!("p.polqual", "('r', '*')");
const INSERT_POLICIES: &str = policies!("coalesce(p.polwithcheck, p.polqual)", "('a', '*')");

/// The policies of a table that apply to a role's SELECT.
pub(crate) async fn policies(client: &Client, role: &str, table: u32) -> Result<Vec<Policy>, PgError> {
    read(client, SELECT_POLICIES, role, table).await
}

/// The policies of a table that apply to a role's INSERT.
pub(crate) async fn insert_policies(client: &Client, role: &str, table: u32) -> Result<Vec<Policy>, PgError> {
    read(client, INSERT_POLICIES, role, table).await
}

async fn read(client: &Client, sql: &str, role: &str, table: u32) -> Result<Vec<Policy>, PgError> {
    let rows = client.query_typed(sql, &[(&role, Type::TEXT), (&table, Type::OID)]).await?;
    let policy = |row: &tokio_postgres::Row| {
        Ok(Policy { permissive: row.try_get(0)?, using: row.try_get(1)?, columns: row.try_get(2)? })
    };
    rows.iter().map(policy).collect()
}
