//! What a relation message means: names and columns from the stream, the rest from the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reactor_model::relation::{Collation, Column, Relation, ReplicaIdentity, TypeInfo, TypeKind};
use reactor_pg::{Client, PgError, catalog};
use tokio_postgres::types::{Kind, ToSql, Type};

use crate::pgoutput::{RelationColumn, RelationMessage};
use crate::realtime_schema;

/// A relation, and whether its name is that of the root that it is a partition of.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) relation: Arc<Relation>,
    pub(crate) is_partition: bool,
}

/// Pauses between looks at whether a transaction is visible: the first, and the longest. The server makes it visible right
/// after the commit record is written, unless it waits for a synchronous standby.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Describes the relation of a message that transaction `xid` brought. `earlier` is its description before, when there was one.
///
/// The stream may be older than the catalog, so the stream decides on names, columns and keys. It may also be a moment ahead of
/// it: a commit is decoded as soon as it is in the log, and seen by others only after that. What the catalog says of
/// row-level security must be no older than the rows that come, so that the transaction is waited for.
///
/// # Errors
/// [`PgError`] when the catalog cannot be read.
pub(crate) async fn describe(
    client: &Client,
    message: &RelationMessage,
    earlier: Option<&Described>,
    xid: Option<u32>,
) -> Result<Described, PgError> {
    if let Some(xid) = xid {
        wait_until_visible(client, xid).await?;
    }
    let columns: Vec<(&str, u32, i32)> =
        message.columns.iter().map(|column| (column.name.as_str(), column.type_oid, column.type_mod)).collect();
    let Some(mut relation) = catalog::relation_by_oid(client, message.oid, &columns).await? else {
        return match dropped_messages(client, message, &columns).await? {
            Some(described) => Ok(described),
            None => Ok(without_catalog(message, earlier)),
        };
    };
    let renamed = (&relation.schema, &relation.table) != (&message.schema, &message.table);
    let is_partition = renamed && is_partition(client, message.oid).await?;
    if !is_partition {
        relation.schema.clone_from(&message.schema);
        relation.table.clone_from(&message.table);
    }
    relation.identity = message.identity;
    for (column, sent) in relation.columns.iter_mut().zip(&message.columns) {
        column.identity_key = sent.identity_key;
        column.primary_key = is_primary(message.identity, sent, column.primary_key);
    }
    for column in &message.columns {
        relation.types.entry(column.type_oid).or_insert_with(unknown_type);
    }
    Ok(Described { relation: Arc::new(relation), is_partition })
}

/// Waits until others see what a transaction did, however long that takes: going on would be going on unchecked.
async fn wait_until_visible(client: &Client, xid: u32) -> Result<(), PgError> {
    let mut pause = LOOK_AGAIN.0;
    loop {
        let rows = client.query_typed("select pg_catalog.pg_current_snapshot()::text", &[]).await?;
        let snapshot: String = rows.first().map_or(Ok(String::new()), |row| row.try_get(0))?;
        if is_visible(&snapshot, xid) {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = LOOK_AGAIN.1.min(pause * 2);
    }
}

/// Whether a committed transaction is seen in a snapshot, `xmin:xmax:running,…` with 64-bit ids, of which the stream tells
/// the lower half. Transactions at or past `xmax` had not ended when the snapshot was taken.
fn is_visible(snapshot: &str, xid: u32) -> bool {
    let mut parts = snapshot.split(':');
    let (Some(_), Some(xmax), Some(running)) = (parts.next(), parts.next(), parts.next()) else { return true };
    let Some(Ok(xmax)) = Some(xmax.parse::<u64>()) else { return true };
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is compared")]
    let low = |id: u64| id as u32;
    // Ids are a circle: less than half of it ahead is "at or past".
    let has_ended = xid.wrapping_sub(low(xmax)) >= u32::MAX / 2;
    has_ended && !running.split(',').filter_map(|id| id.parse().ok()).any(|id| low(id) == xid)
}

async fn is_partition(client: &Client, oid: u32) -> Result<bool, PgError> {
    let sql = "select from pg_class where oid = $1 and relispartition";
    Ok(!client.query_typed(sql, &[(&oid, Type::OID)]).await?.is_empty())
}

/// A partition of the messages that has been dropped since, as what it was: they are dropped day by day, and a publication that
/// others made may have them by their own names.
async fn dropped_messages(
    client: &Client,
    message: &RelationMessage,
    columns: &[(&str, u32, i32)],
) -> Result<Option<Described>, PgError> {
    if !realtime_schema::is_partition(&message.schema, &message.table) {
        return Ok(None);
    }
    let sql = "select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2";
    let params: [(&(dyn ToSql + Sync), Type); 2] =
        [(&realtime_schema::SCHEMA, Type::NAME), (&realtime_schema::TABLE, Type::NAME)];
    let rows = client.query_typed(sql, &params).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let Some(mut relation) = catalog::relation_by_oid(client, row.try_get(0)?, columns).await? else { return Ok(None) };
    relation.oid = message.oid;
    relation.identity = message.identity;
    Ok(Some(Described { relation: Arc::new(relation), is_partition: true }))
}

/// The default identity is the primary key, whatever its columns are called now.
fn is_primary(identity: ReplicaIdentity, sent: &RelationColumn, in_catalog: bool) -> bool {
    match identity {
        ReplicaIdentity::Default => sent.identity_key,
        ReplicaIdentity::Nothing | ReplicaIdentity::Full | ReplicaIdentity::Index => in_catalog,
    }
}

/// The table was dropped since: what the stream says, and what was known. Unless it is known that rows need no check of
/// their own, they count as in need of one.
fn without_catalog(message: &RelationMessage, earlier: Option<&Described>) -> Described {
    let root = earlier.filter(|earlier| earlier.is_partition).map(|earlier| &*earlier.relation);
    let earlier = earlier.map(|earlier| &*earlier.relation);
    let column = |sent: &RelationColumn| {
        let known = earlier.and_then(|earlier| earlier.columns.iter().find(|column| column.name == sent.name));
        Column {
            name: sent.name.clone(),
            type_oid: sent.type_oid,
            type_mod: sent.type_mod,
            primary_key: is_primary(message.identity, sent, known.is_some_and(|column| column.primary_key)),
            identity_key: sent.identity_key,
            collation: known.map_or(Collation::Nondeterministic, |column| column.collation),
        }
    };
    let mut types = earlier.map(|earlier| earlier.types.clone()).unwrap_or_default();
    for column in &message.columns {
        add_type(&mut types, column.type_oid);
    }
    let relation = Relation {
        oid: message.oid,
        table_oid: earlier.map_or(message.oid, |earlier| earlier.table_oid),
        schema: root.map_or_else(|| message.schema.clone(), |root| root.schema.clone()),
        table: root.map_or_else(|| message.table.clone(), |root| root.table.clone()),
        columns: message.columns.iter().map(column).collect(),
        identity: message.identity,
        row_security: earlier.is_none_or(|earlier| earlier.row_security),
        types,
    };
    Described { relation: Arc::new(relation), is_partition: root.is_some() }
}

/// Adds what the driver knows of the built-in types.
fn add_type(types: &mut BTreeMap<u32, TypeInfo>, oid: u32) {
    if types.contains_key(&oid) {
        return;
    }
    let Some(known) = Type::from_oid(oid) else {
        types.insert(oid, unknown_type());
        return;
    };
    let kind = match known.kind() {
        Kind::Array(element) => {
            add_type(types, element.oid());
            let delimiter = if *element == Type::BOX { ';' } else { ',' };
            TypeKind::Array { element: element.oid(), delimiter }
        }
        Kind::Range(subtype) | Kind::Multirange(subtype) => {
            add_type(types, subtype.oid());
            TypeKind::Range { subtype: subtype.oid() }
        }
        _ => TypeKind::Builtin,
    };
    types.insert(oid, TypeInfo { name: known.name().to_owned(), kind });
}

/// Rendered as its text.
fn unknown_type() -> TypeInfo {
    TypeInfo { name: "unknown".to_owned(), kind: TypeKind::Extension }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(identity: ReplicaIdentity) -> RelationMessage {
        let column = |name: &str, identity_key, type_oid| RelationColumn {
            name: name.to_owned(),
            identity_key,
            type_oid,
            type_mod: -1,
        };
        RelationMessage {
            oid: 7,
            schema: "public".to_owned(),
            table: "gone".to_owned(),
            identity,
            columns: vec![column("id", true, 20), column("tags", false, 1009), column("mood", false, 90_000)],
        }
    }

    #[test]
    fn a_dropped_table_is_described_from_the_stream_and_withheld() {
        let relation = without_catalog(&message(ReplicaIdentity::Default), None).relation;
        assert!(relation.row_security && relation.columns[0].primary_key && !relation.columns[1].primary_key);
        assert_eq!(relation.types[&20].name, "int8");
        assert_eq!(relation.types[&1009].kind, TypeKind::Array { element: 25, delimiter: ',' });
        assert_eq!(relation.types[&25].kind, TypeKind::Builtin);
        assert_eq!(relation.types[&90_000].kind, TypeKind::Extension);
    }

    #[test]
    fn transactions_are_seen_once_they_have_ended() {
        for (snapshot, xid, expected) in [
            ("700:705:700,703", 699, true),
            ("700:705:700,703", 700, false),
            ("700:705:700,703", 701, true),
            ("700:705:700,703", 703, false),
            ("700:705:700,703", 705, false),
            ("700:705:700,703", 706, false),
            ("700:700:", 699, true),
            // The second turn of the circle: 2^32 + 5.
            ("4294967301:4294967301:", 4, true),
            ("4294967301:4294967301:", u32::MAX, true),
            ("4294967301:4294967301:", 5, false),
        ] {
            assert_eq!(is_visible(snapshot, xid), expected, "{xid} in {snapshot}");
        }
    }

    #[test]
    fn a_dropped_table_keeps_what_was_known() {
        let mut known = (*without_catalog(&message(ReplicaIdentity::Default), None).relation).clone();
        known.row_security = false;
        known.table = "root".to_owned();
        for (is_partition, table) in [(true, "root"), (false, "gone")] {
            let earlier = Described { relation: Arc::new(known.clone()), is_partition };
            let relation = without_catalog(&message(ReplicaIdentity::Full), Some(&earlier)).relation;
            assert_eq!((relation.row_security, relation.table.as_str()), (false, table));
            assert!(relation.columns[0].primary_key);
        }
    }
}
