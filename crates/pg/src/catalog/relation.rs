//! Tables by oid (as the stream names them) and by name (as subscribers do).

use std::collections::BTreeSet;

use reactor_model::relation::{Collation, Column, Relation, ReplicaIdentity};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::{collation, query, types};
use crate::error::PgError;

/// What a name in the database stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// A partitioned table.
    Partitioned,
    /// A partition; its changes appear under the root.
    Partition {
        /// Schema of the root.
        root_schema: String,
        /// Name of the root.
        root_table: String,
    },
    /// Something without changes of its own: a view, a foreign table, a sequence …
    Other(&'static str),
}

/// Whether and how a publication has a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publication {
    /// No publication has the name that was asked for.
    Missing,
    /// The publication does not have the table, nor any of its partitions.
    Without,
    /// The publication has the table, with these columns.
    With(BTreeSet<String>),
}

/// A table as the catalog has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationInfo {
    /// The table's own oid.
    pub oid: u32,
    /// Names, columns and types.
    pub relation: Relation,
    /// Schema-qualified names of the columns' types, in the order of the columns, without modifiers and with domains
    /// looked through: fit for a cast.
    pub cast_types: Vec<String>,
    /// Schema-qualified names of the columns' collations, quoted; `None` for types without.
    pub collations: Vec<Option<String>>,
    /// What it is.
    pub kind: RelationKind,
    /// Whether it is published.
    pub publication: Publication,
}

/// Describes the relation that the stream sent under this oid with these columns (name, type oid, type modifier).
/// `None` when it has been dropped meanwhile.
///
/// # Errors
/// [`PgError`] when the catalog cannot be read.
pub async fn relation_by_oid(
    client: &Client,
    oid: u32,
    columns: &[(&str, u32, i32)],
) -> Result<Option<Relation>, PgError> {
    let by_oid = format!("{TABLE} where c.oid = $1");
    let (tables, attributes, types) = futures::try_join!(
        async { query(client, &by_oid, &[(&oid, Type::OID)]).await },
        attributes(client, oid),
        types::types_of(client, columns.iter().map(|column| column.1)),
    )?;
    let Some(table) = tables.first() else {
        return Ok(None);
    };
    let table = TableRow::read(table)?;
    let columns = columns
        .iter()
        .map(|(name, type_oid, type_mod)| {
            // The stream may be older than the catalog: a column that is gone has no key and compares with care.
            let known = attributes.iter().find(|attribute| attribute.column.name == *name);
            Column {
                name: (*name).to_owned(),
                type_oid: *type_oid,
                type_mod: *type_mod,
                primary_key: known.is_some_and(|attribute| attribute.column.primary_key),
                identity_key: known.is_some_and(|attribute| attribute.column.identity_key),
                collation: known.map_or(Collation::Nondeterministic, |attribute| attribute.column.collation),
            }
        })
        .collect();
    Ok(Some(table.into_relation(columns, types)))
}

/// Describes the table of this name, and whether the publication has it. `None` when there is no such table.
///
/// # Errors
/// [`PgError`] when the catalog cannot be read.
pub async fn relation_by_name(
    client: &Client,
    publication: &str,
    schema: &str,
    table: &str,
) -> Result<Option<RelationInfo>, PgError> {
    let sql = format!("{TABLE} where c.relname = $2 and n.nspname = $1");
    let rows = query(client, &sql, &[(&schema, Type::TEXT), (&table, Type::TEXT)]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let row = TableRow::read(row)?;
    let oid = row.oid;
    let (attributes, published) = futures::try_join!(attributes(client, oid), async {
        query(client, PUBLISHED, &[(&publication, Type::TEXT), (&oid, Type::OID)]).await
    },)?;
    let types = types::types_of(client, attributes.iter().map(|attribute| attribute.column.type_oid)).await?;
    let publication = match published.first() {
        None => Publication::Missing,
        Some(row) => match row.try_get::<_, Option<Vec<String>>>(0)? {
            None => Publication::Without,
            Some(columns) => Publication::With(columns.into_iter().collect()),
        },
    };
    let kind = row.kind();
    let (mut columns, mut cast_types, mut collations) = (Vec::new(), Vec::new(), Vec::new());
    for attribute in attributes {
        columns.push(attribute.column);
        cast_types.push(attribute.cast_type);
        collations.push(attribute.collation);
    }
    let relation = row.into_relation(columns, types);
    Ok(Some(RelationInfo { oid, relation, cast_types, collations, kind, publication }))
}

const TABLE: &str = "
select c.oid, c.relkind::text, c.relispartition, c.relreplident::text, root.oid, rn.nspname::text, root.relname::text,
       c.relrowsecurity or root.relrowsecurity
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class root on root.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)
  join pg_catalog.pg_namespace rn on rn.oid = root.relnamespace";

/// One row when the publication exists; its column is the published columns, NULL when the table is not in it.
/// A table counts as published when it, one of its partitions or what it is a partition of is.
///
/// Not by `pg_get_publication_tables`, which locks every table of the publication: a long ALTER TABLE on one would hold up
/// the questions about all.
const PUBLISHED: &str = "
with recursive up(oid) as (
    select $2::oid
    union select i.inhparent from up join pg_catalog.pg_class c on c.oid = up.oid and c.relispartition
            join pg_catalog.pg_inherits i on i.inhrelid = c.oid),
down(oid) as (
    select $2::oid
    union select c.oid from down join pg_catalog.pg_inherits i on i.inhparent = down.oid
            join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition)
select (select pg_catalog.array_agg(distinct a.attname::text)
          from (select oid from up union select oid from down) family
          join pg_catalog.pg_class c on c.oid = family.oid and c.relpersistence = 'p'
          join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
         where (r.oid is not null
                or p.puballtables and n.nspname not in ('pg_catalog', 'information_schema')
                or exists (select from pg_catalog.pg_publication_namespace s
                            where s.pnpubid = p.oid and s.pnnspid = c.relnamespace))
           and case when r.prattrs is not null then a.attnum = any(r.prattrs)
                    else a.attgenerated = ''
                         or a.attgenerated = 's' and coalesce(pg_catalog.to_jsonb(p)->>'pubgencols', 'n') = 's' end)
  from pg_catalog.pg_publication p
 where p.pubname = $1";

struct TableRow {
    oid: u32,
    root_oid: u32,
    relkind: String,
    is_partition: bool,
    identity: ReplicaIdentity,
    schema: String,
    table: String,
    row_security: bool,
}

impl TableRow {
    fn read(row: &Row) -> Result<Self, PgError> {
        let identity: String = row.try_get(3)?;
        Ok(Self {
            oid: row.try_get(0)?,
            relkind: row.try_get(1)?,
            is_partition: row.try_get(2)?,
            identity: match identity.as_str() {
                "f" => ReplicaIdentity::Full,
                "i" => ReplicaIdentity::Index,
                "n" => ReplicaIdentity::Nothing,
                _ => ReplicaIdentity::Default,
            },
            schema: row.try_get(5)?,
            table: row.try_get(6)?,
            row_security: row.try_get(7)?,
            root_oid: row.try_get(4)?,
        })
    }

    fn kind(&self) -> RelationKind {
        match self.relkind.as_str() {
            "r" | "p" if self.is_partition => {
                RelationKind::Partition { root_schema: self.schema.clone(), root_table: self.table.clone() }
            }
            "r" => RelationKind::Table,
            "p" => RelationKind::Partitioned,
            "v" => RelationKind::Other("a view"),
            "m" => RelationKind::Other("a materialized view"),
            "f" => RelationKind::Other("a foreign table"),
            "S" => RelationKind::Other("a sequence"),
            "i" | "I" => RelationKind::Other("an index"),
            "c" => RelationKind::Other("a type"),
            _ => RelationKind::Other("not a table"),
        }
    }

    fn into_relation(
        self,
        columns: Vec<Column>,
        types: std::collections::BTreeMap<u32, reactor_model::TypeInfo>,
    ) -> Relation {
        Relation {
            oid: self.oid,
            table_oid: self.root_oid,
            schema: self.schema,
            table: self.table,
            columns,
            identity: self.identity,
            row_security: self.row_security,
            types,
        }
    }
}

struct Attribute {
    column: Column,
    cast_type: String,
    collation: Option<String>,
}

async fn attributes(client: &Client, oid: u32) -> Result<Vec<Attribute>, PgError> {
    let sql = format!(
        "select a.attname::text as name, a.atttypid as type_oid, a.atttypmod as type_mod,
                coalesce(pk.keys, false) as primary_key,
                case c.relreplident when 'f' then true when 'd' then coalesce(pk.keys, false)
                                    when 'i' then coalesce(ri.keys, false) else false end as identity_key,
                pg_catalog.format_type(base.oid, -1) as cast_type,
                pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(co.collname) as collation,
                {}
           from pg_catalog.pg_class c
           join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
           join lateral (
                with recursive bases(oid, base) as (
                    select t.oid, t.typbasetype from pg_catalog.pg_type t where t.oid = a.atttypid
                    union all select t.oid, t.typbasetype from bases join pg_catalog.pg_type t on t.oid = bases.base)
                select oid from bases where base = 0) base on true
           left join lateral (select a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1]) as keys
                           from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary) pk on true
           left join lateral (select a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1]) as keys
                           from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisreplident limit 1) ri on true
           left join pg_catalog.pg_collation co on co.oid = a.attcollation
           left join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace
           join pg_catalog.pg_database db on db.datname = pg_catalog.current_database()
          where c.oid = $1
          order by a.attnum",
        collation::columns("co")
    );
    query(client, &sql, &[(&oid, Type::OID)]).await?.iter().map(attribute).collect()
}

fn attribute(row: &Row) -> Result<Attribute, PgError> {
    let provider: Option<String> = row.try_get("provider")?;
    let locale: Option<String> = row.try_get("locale")?;
    let deterministic: Option<bool> = row.try_get("deterministic")?;
    let encoding: String = row.try_get("encoding")?;
    Ok(Attribute {
        column: Column {
            name: row.try_get("name")?,
            type_oid: row.try_get("type_oid")?,
            type_mod: row.try_get("type_mod")?,
            primary_key: row.try_get("primary_key")?,
            identity_key: row.try_get("identity_key")?,
            collation: collation::class(
                provider.as_deref(),
                locale.as_deref(),
                deterministic.unwrap_or(true),
                &encoding,
            ),
        },
        cast_type: row.try_get("cast_type")?,
        collation: row.try_get("collation")?,
    })
}
