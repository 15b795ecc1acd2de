//! The fan-out against small tables: who gets which frames, with which data.

mod cost;
mod frames;
mod policies;
mod sets;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use reactor_model::filter::{BoundCondition, BoundFilter, Condition, Operand, Operation, Operator};
use reactor_model::relation::Collation;
use reactor_model::{
    Batch, Change, ChangeKind, Code, Column, Datum, Epoch, EventId, Lsn, OldImage, Position, Relation, ReplicaIdentity,
    Tuple, TypeInfo, TypeKind,
};
use reactor_policy_engine::{ColumnMask, Comparator, MemberSet, Predicate, Principal, RowPolicy, Scalar};
use reactor_protocol::sse::{SseEvent, SseParser};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::auth::ActiveOrg;
use crate::outbox::Outbox;

const INT4: u32 = 23;
const TEXT: u32 = 25;

/// `todos(id int4 primary key, org_id text, title text)` with the old image of the identity.
fn relation(identity: ReplicaIdentity) -> Arc<Relation> {
    let column = |name: &str, type_oid, key| Column {
        name: name.into(),
        type_oid,
        type_mod: -1,
        primary_key: key,
        identity_key: key || identity == ReplicaIdentity::Full,
        collation: if type_oid == TEXT { Collation::Bytes } else { Collation::None },
    };
    let builtin = |name: &str| TypeInfo { name: name.into(), kind: TypeKind::Builtin };
    Arc::new(Relation {
        oid: 1,
        table_oid: 1,
        schema: "public".into(),
        table: "todos".into(),
        columns: vec![column("id", INT4, true), column("org_id", TEXT, false), column("title", TEXT, false)],
        identity,
        row_security: false,
        types: BTreeMap::from([(INT4, builtin("int4")), (TEXT, builtin("text"))]),
    })
}

fn row(id: &str, org: &str, title: &str) -> Tuple {
    Tuple::from_values([id, org, title].map(|text| Datum::Text(text.as_bytes())))
}

fn insert(id: &str, org: &str, title: &str) -> Change {
    change(ChangeKind::Insert, OldImage::None, Some(row(id, org, title)))
}

fn change(kind: ChangeKind, old: OldImage, new: Option<Tuple>) -> Change {
    Change { position: Position::default(), commit_time_us: 0, kind, old, new }
}

/// A batch at `lsn`; its changes get the ordinals from 1.
fn batch(relation: &Arc<Relation>, fingerprint: u64, lsn: u64, mut changes: Vec<Change>) -> Batch {
    for (ordinal, change) in (1..).zip(&mut changes) {
        change.position = Position { lsn: Lsn(lsn), ordinal };
    }
    Batch {
        epoch: Epoch(1),
        previous: Position::before(Lsn(lsn - 1)),
        last: changes.last().map_or(Position::before(Lsn(lsn)), |change| change.position),
        ends_transaction: true,
        live_from: Lsn(0),
        relation: Some(Arc::clone(relation)),
        fingerprint,
        changes,
        encoded_bytes: 100,
    }
}

fn title_is(text: &str) -> BoundFilter {
    BoundFilter::Condition(BoundCondition {
        condition: Condition {
            column: "title".into(),
            negated: false,
            operation: Operation { operator: Operator::Eq, operand: Operand::Text(text.into()) },
        },
        type_oid: TEXT,
        type_mod: -1,
    })
}

fn everything() -> SubscriptionKey {
    SubscriptionKey {
        schema: "public".into(),
        table: "todos".into(),
        table_oid: 1,
        row_security: true,
        events: EventMask::ALL,
        leave: false,
        filter: BoundFilter::And(Vec::new()),
        policy: SharedPolicy::new(RowPolicy::everything()),
        columns: ColumnMask::All,
        select: Vec::new(),
        org: ActiveOrg::Unscoped,
    }
}

fn text(value: &str) -> Scalar {
    Scalar::Literal { type_oid: TEXT, text: Some(value.into()) }
}

fn column(name: &str) -> Scalar {
    Scalar::Column { name: name.into(), type_oid: TEXT }
}

/// `title = text`, as a policy.
fn owner_is(owner: &str) -> Predicate {
    Predicate::Compare { operator: Comparator::Eq, left: column("title"), right: text(owner) }
}

fn policy(predicate: Predicate, sets: Vec<MemberSet>) -> SharedPolicy {
    SharedPolicy::new(RowPolicy { predicate, sets, check_key: Some("k".into()) })
}

fn under(predicate: Predicate) -> SubscriptionKey {
    SubscriptionKey { policy: policy(predicate, Vec::new()), ..everything() }
}

fn principal() -> Arc<Principal> {
    Arc::new(Principal { role: "r".into(), permissions: BTreeSet::new(), claims_json: "{}".into() })
}

struct Fixture {
    hub: Hub,
    next: u64,
}

impl Fixture {
    fn new() -> Self {
        Self::with(false, false)
    }

    fn with(answers: bool, strict_deletes: bool) -> Self {
        let settings = MatchSettings { org_column: "org_id".into(), max_payload_bytes: 200, strict_deletes };
        let mut hub = Hub::new(Arc::new(settings), answers);
        hub.set_head(EventId { epoch: Epoch(1), position: Position::default() });
        Self { hub, next: 1 }
    }

    fn member(&mut self, subscriptions: Vec<(Option<&str>, SubscriptionKey)>) -> Member {
        let conn = ConnId(self.next);
        self.next += 1;
        let subscriptions =
            subscriptions.into_iter().map(|(name, key)| (name.map(Into::into), Arc::new(key))).collect();
        let (outbox, ended) = (Arc::new(Outbox::new(4096)), CancellationToken::new());
        Member {
            conn,
            outbox,
            ended,
            behind: Arc::default(),
            principal: principal(),
            subscriptions,
            wire: Wire::Events,
        }
    }

    fn join(&mut self, subscriptions: Vec<(Option<&str>, SubscriptionKey)>) -> Member {
        let member = self.member(subscriptions);
        self.hub.attach(member.clone()).expect("its sets are loaded");
        member
    }

    fn deliver(&mut self, batch: &Batch) -> Delivered {
        self.hub.deliver(&Arc::new(batch.clone()), &Answers::default())
    }
}

fn received(member: &Member) -> Vec<SseEvent> {
    let mut parser = SseParser::default();
    match member.outbox.poll_take(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(bytes)) => parser.push(&bytes),
        Poll::Ready(None) | Poll::Pending => Vec::new(),
    }
}

fn data(member: &Member) -> Vec<Value> {
    received(member).iter().map(|event| serde_json::from_str(&event.data).expect("JSON")).collect()
}

fn ids(member: &Member) -> Vec<i64> {
    data(member).iter().map(|data| data["new"]["id"].as_i64().expect("id")).collect()
}
