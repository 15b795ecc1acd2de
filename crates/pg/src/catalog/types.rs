//! Types with all that they are made of.

use std::collections::{BTreeMap, BTreeSet};

use reactor_model::relation::{TypeInfo, TypeKind};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::query;
use crate::error::PgError;

/// The types with these oids and every type inside them. Oids that do not exist are left out.
pub(super) async fn types_of(
    client: &Client,
    oids: impl IntoIterator<Item = u32>,
) -> Result<BTreeMap<u32, TypeInfo>, PgError> {
    let mut found: BTreeMap<u32, TypeInfo> = BTreeMap::new();
    let mut wanted: BTreeSet<u32> = oids.into_iter().collect();
    // Each round looks one level deeper; few tables need more than two.
    while !wanted.is_empty() {
        let asked: Vec<u32> = std::mem::take(&mut wanted).into_iter().collect();
        for row in query(client, TYPES, &[(&asked, Type::OID_ARRAY)]).await? {
            let (oid, info) = type_info(&row)?;
            wanted.extend(inner_types(&info.kind));
            found.insert(oid, info);
        }
        wanted.retain(|oid| !found.contains_key(oid) && !asked.contains(oid));
    }
    look_through_domains(&mut found);
    Ok(found)
}

const TYPES: &str = "
select t.oid, t.typname::text, n.nspname = 'pg_catalog', t.typtype::text, t.typelem, t.typbasetype,
       -- True arrays; int2vector and oidvector subscript alike but print without braces.
       t.typelem <> 0 and t.typcategory = 'A' and t.typlen = -1 and t.oid not in (22, 30) as is_array,
       coalesce(e.typdelim, ',')::text as delimiter,
       (select pg_catalog.array_agg(en.enumlabel::text order by en.enumsortorder)
          from pg_catalog.pg_enum en where en.enumtypid = t.oid) as labels,
       (select pg_catalog.array_agg(a.attname::text order by a.attnum)
          from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) as attributes,
       (select pg_catalog.array_agg(a.atttypid order by a.attnum)
          from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) as attribute_types,
       (select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)) as subtype
  from pg_catalog.pg_type t
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  left join pg_catalog.pg_type e on e.oid = t.typelem
 where t.oid = any($1)";

fn type_info(row: &Row) -> Result<(u32, TypeInfo), PgError> {
    let own: bool = row.try_get(2)?;
    let kind_letter: String = row.try_get(3)?;
    let kind = match kind_letter.as_str() {
        "e" => TypeKind::Enum { labels: row.try_get::<_, Option<_>>(8)?.unwrap_or_default() },
        "c" => {
            let names: Vec<String> = row.try_get::<_, Option<_>>(9)?.unwrap_or_default();
            let types: Vec<u32> = row.try_get::<_, Option<_>>(10)?.unwrap_or_default();
            TypeKind::Composite { attributes: names.into_iter().zip(types).collect() }
        }
        "d" => TypeKind::Domain { base: row.try_get(5)? },
        "r" | "m" => TypeKind::Range { subtype: row.try_get::<_, Option<_>>(11)?.unwrap_or_default() },
        _ if row.try_get::<_, bool>(6)? => TypeKind::Array {
            element: row.try_get(4)?,
            delimiter: row.try_get::<_, String>(7)?.chars().next().unwrap_or(','),
        },
        _ if own => TypeKind::Builtin,
        _ => TypeKind::Extension,
    };
    Ok((row.try_get(0)?, TypeInfo { name: row.try_get(1)?, kind }))
}

fn inner_types(kind: &TypeKind) -> Vec<u32> {
    match kind {
        TypeKind::Builtin | TypeKind::Extension | TypeKind::Enum { .. } => Vec::new(),
        TypeKind::Array { element, .. } => vec![*element],
        TypeKind::Composite { attributes } => attributes.iter().map(|(_, oid)| *oid).collect(),
        TypeKind::Domain { base } => vec![*base],
        TypeKind::Range { subtype } => vec![*subtype],
    }
}

/// A domain over a domain becomes one over the last base.
fn look_through_domains(types: &mut BTreeMap<u32, TypeInfo>) {
    let bases: BTreeMap<u32, u32> = types
        .iter()
        .filter_map(|(oid, info)| match info.kind {
            TypeKind::Domain { base } => Some((*oid, base)),
            _ => None,
        })
        .collect();
    for info in types.values_mut() {
        if let TypeKind::Domain { base } = &mut info.kind {
            while let Some(deeper) = bases.get(base) {
                *base = *deeper;
            }
        }
    }
}
