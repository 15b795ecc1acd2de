//! What the catalog says, in as few questions as it takes.

use std::fmt;

use reactor_pg::{Client, PgError};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Wanted;
use super::check::ident;

/// Everything that the checks look at.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) server: Server,
    pub(super) slots: Vec<Slot>,
    pub(super) publication: Option<Publication>,
    pub(super) identities: Vec<TableIdentity>,
    pub(super) tables: Vec<Table>,
    /// Those of the wanted roles that exist.
    pub(super) roles: Vec<String>,
}

/// The server and the role that we are on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) version_num: i32,
    pub(super) version: String,
    pub(super) wal_level: String,
    pub(super) max_slots: i32,
    pub(super) used_slots: i32,
    pub(super) max_senders: i32,
    pub(super) used_senders: i32,
    /// `None` for no bound.
    pub(super) slot_keep_bytes: Option<u64>,
    /// Time after which an idle slot is dropped, where the server has that and it is set.
    pub(super) idle_slot_timeout: Option<String>,
    pub(super) in_recovery: bool,
    pub(super) user: String,
    pub(super) is_superuser: bool,
    pub(super) has_replication: bool,
    /// Member of a cloud's role that stands for the right to replicate.
    pub(super) is_cloud_replicator: bool,
}

impl Server {
    pub(super) fn may_replicate(&self) -> bool {
        self.is_superuser || self.has_replication || self.is_cloud_replicator
    }
}

/// A slot of the tenant in this database.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) is_active: bool,
    pub(super) wal_status: Option<String>,
    pub(super) invalidation: Option<String>,
    pub(super) retained_bytes: u64,
}

/// What is published.
#[derive(Clone, Debug, Default)]
pub(super) struct Publication {
    pub(super) all_tables: bool,
    pub(super) insert: bool,
    pub(super) update: bool,
    pub(super) delete: bool,
    pub(super) truncate: bool,
    pub(super) via_root: bool,
}

/// Schema and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) table: String,
}

/// As SQL has it.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", ident(&self.schema), ident(&self.table))
    }
}

/// What identifies the rows of a table, or of a partition, in updates and deletes.
#[derive(Clone, Debug)]
pub(super) struct TableIdentity {
    pub(super) name: TableName,
    /// `d`efault, `n`othing, `f`ull or `i`ndex.
    pub(super) kind: char,
    /// Columns of the key; empty when there is none.
    pub(super) key: Vec<String>,
    pub(super) has_org_column: bool,
}

/// A table as subscribers name it: partitions come under their root.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) is_partitioned: bool,
    pub(super) row_security: bool,
    /// Those of the wanted roles that may select, if only some columns.
    pub(super) readers: Vec<String>,
}

const SERVER: &str = "
select current_setting('server_version_num')::int4,
       current_setting('server_version'),
       current_setting('wal_level'),
       current_setting('max_replication_slots')::int4,
       (select count(*) from pg_replication_slots)::int4,
       current_setting('max_wal_senders')::int4,
       (select count(*) from pg_stat_replication)::int4,
       pg_size_bytes(current_setting('max_slot_wal_keep_size', true)),
       nullif(current_setting('idle_replication_slot_timeout', true), '0'),
       pg_is_in_recovery(),
       r.rolname::text, r.rolsuper, r.rolreplication,
       exists (select from pg_roles g
                where g.rolname in ('rds_replication', 'rds_superuser') and pg_has_role(r.oid, g.oid, 'MEMBER'))
  from pg_roles r where r.rolname = current_user";

/// Columns that only newer versions have are read through `to_jsonb`.
const SLOTS: &str = "
select s.slot_name::text, s.active, s.wal_status, to_jsonb(s)->>'invalidation_reason',
       pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
                       s.restart_lsn)::int8
  from pg_replication_slots s
 where s.slot_type = 'logical' and s.database = current_database()
 order by 1";

const PUBLICATION: &str = "
select puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot from pg_publication where pubname = $1";

/// The tables that store rows: of a partitioned table its leaves, as each has an identity of its own.
const IDENTITIES: &str = "
with published as (select distinct relid from pg_get_publication_tables($1)),
stored as (
  select c.oid from published p join pg_class c on c.oid = p.relid where c.relkind <> 'p'
  union
  select t.relid from published p join pg_class c on c.oid = p.relid, pg_partition_tree(p.relid) t
   where c.relkind = 'p' and t.isleaf and exists (select from pg_class l where l.oid = t.relid and l.relkind = 'r')
)
select n.nspname::text, c.relname::text, c.relreplident::text,
       array(select a.attname::text
               from pg_index i
               join pg_attribute a on a.attrelid = i.indrelid
                                  and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
              where i.indrelid = c.oid and i.indisvalid and i.indimmediate
                and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end
              order by a.attnum),
       exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = $2 and not a.attisdropped)
  from stored s join pg_class c on c.oid = s.oid join pg_namespace n on n.oid = c.relnamespace
 order by 1, 2";

const TABLES: &str = "
with roots as (
  select distinct coalesce(pg_partition_root(relid)::oid, relid::oid) as oid from pg_get_publication_tables($1)
)
select n.nspname::text, c.relname::text, c.relkind = 'p', c.relrowsecurity,
       array(select r.rolname::text from pg_roles r
              where r.rolname = any ($2) and has_schema_privilege(r.oid, n.oid, 'USAGE')
                and has_any_column_privilege(r.oid, c.oid, 'SELECT')
              order by 1)
  from roots join pg_class c on c.oid = roots.oid join pg_namespace n on n.oid = c.relnamespace
 order by 1, 2";

const ROLES: &str = "select rolname::text from pg_roles where rolname = any ($1)";

impl Facts {
    /// Reads them all.
    pub(super) async fn read(client: &Client, wanted: &Wanted) -> Result<Self, PgError> {
        let Wanted { publication: name, roles, org_column, .. } = wanted;
        let server = client.query_typed(SERVER, &[]).await?;
        let publication = client.query_typed(PUBLICATION, &[(name, Type::TEXT)]).await?;
        let (identities, tables) = if publication.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            (
                client.query_typed(IDENTITIES, &[(name, Type::TEXT), (org_column, Type::TEXT)]).await?,
                client.query_typed(TABLES, &[(name, Type::TEXT), (roles, Type::TEXT_ARRAY)]).await?,
            )
        };
        Ok(Self {
            server: server.first().map(Server::from_row).transpose()?.unwrap_or_default(),
            slots: each(&client.query_typed(SLOTS, &[]).await?, Slot::from_row)?
                .into_iter()
                .filter(|slot| wanted.slots.epoch(&slot.name).is_some())
                .collect(),
            publication: publication.first().map(Publication::from_row).transpose()?,
            identities: each(&identities, TableIdentity::from_row)?,
            tables: each(&tables, Table::from_row)?,
            roles: each(&client.query_typed(ROLES, &[(roles, Type::TEXT_ARRAY)]).await?, |row| row.try_get(0))?,
        })
    }
}

type Read<T> = Result<T, tokio_postgres::Error>;

fn each<T>(rows: &[Row], read: impl Fn(&Row) -> Read<T>) -> Read<Vec<T>> {
    rows.iter().map(read).collect()
}

fn size(bytes: Option<i64>) -> Option<u64> {
    bytes.and_then(|bytes| bytes.try_into().ok())
}

impl Server {
    fn from_row(row: &Row) -> Read<Self> {
        Ok(Self {
            version_num: row.try_get(0)?,
            version: row.try_get(1)?,
            wal_level: row.try_get(2)?,
            max_slots: row.try_get(3)?,
            used_slots: row.try_get(4)?,
            max_senders: row.try_get(5)?,
            used_senders: row.try_get(6)?,
            // -1 is "no bound".
            slot_keep_bytes: size(row.try_get(7)?),
            idle_slot_timeout: row.try_get(8)?,
            in_recovery: row.try_get(9)?,
            user: row.try_get(10)?,
            is_superuser: row.try_get(11)?,
            has_replication: row.try_get(12)?,
            is_cloud_replicator: row.try_get(13)?,
        })
    }
}

impl Slot {
    fn from_row(row: &Row) -> Read<Self> {
        Ok(Self {
            name: row.try_get(0)?,
            is_active: row.try_get(1)?,
            wal_status: row.try_get(2)?,
            invalidation: row.try_get(3)?,
            retained_bytes: size(row.try_get(4)?).unwrap_or(0),
        })
    }
}

impl Publication {
    fn from_row(row: &Row) -> Read<Self> {
        Ok(Self {
            all_tables: row.try_get(0)?,
            insert: row.try_get(1)?,
            update: row.try_get(2)?,
            delete: row.try_get(3)?,
            truncate: row.try_get(4)?,
            via_root: row.try_get(5)?,
        })
    }
}

impl TableName {
    fn from_row(row: &Row) -> Read<Self> {
        Ok(Self { schema: row.try_get(0)?, table: row.try_get(1)? })
    }
}

impl TableIdentity {
    fn from_row(row: &Row) -> Read<Self> {
        let kind: String = row.try_get(2)?;
        Ok(Self {
            name: TableName::from_row(row)?,
            kind: kind.chars().next().unwrap_or('n'),
            key: row.try_get(3)?,
            has_org_column: row.try_get(4)?,
        })
    }
}

impl Table {
    fn from_row(row: &Row) -> Read<Self> {
        Ok(Self {
            name: TableName::from_row(row)?,
            is_partitioned: row.try_get(2)?,
            row_security: row.try_get(3)?,
            readers: row.try_get(4)?,
        })
    }
}
