//! What it costs to find the one subscriber of a change among many who each may see their own rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Waker};

use anyhow::{Result, ensure};
use reactor_gateway::auth::ActiveOrg;
use reactor_gateway::hub::{
    Answers, Behind, ConnId, EventMask, Hub, MatchSettings, Member, SharedPolicy, SubscriptionKey, Wire,
};
use reactor_gateway::outbox::Outbox;
use reactor_model::filter::BoundFilter;
use reactor_model::{Batch, Change, ChangeKind, Epoch, EventId, Lsn, OldImage, Position, Relation};
use reactor_policy_engine::{ColumnMask, Principal, RowPolicy};
use reactor_runtime::clock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::predicate::{owned_by, relation, row};
use crate::measure::process;
use crate::report::{Line, grouped, rounded};

const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
/// Changes that are timed together; the fastest of [`ROUNDS`] counts.
const CHANGES: u32 = 2_000;
const ROUNDS: u32 = 7;
/// More than what one round puts into an outbox.
const OUTBOX_BYTES: usize = 8 * 1024 * 1024;

/// The costs among so many subscriptions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    subscriptions: u32,
    /// Of one change, from the batch to the frame in an outbox.
    micros: f64,
    /// Resident memory of one subscription, its outbox included.
    bytes_each: f64,
}

/// The costs by size.
#[derive(Debug)]
pub(crate) struct Matching {
    pub(crate) sizes: Vec<Size>,
}

impl Matching {
    /// The cost among the most subscriptions by that among the fewest.
    pub(crate) fn growth(&self) -> f64 {
        match (self.sizes.first(), self.sizes.last()) {
            (Some(fewest), Some(most)) => most.micros / fewest.micros,
            _ => f64::NAN,
        }
    }

    pub(crate) fn json(&self) -> Value {
        let size = |size: &Size| {
            json!({
                "subscriptions": size.subscriptions,
                "us_per_change": rounded(size.micros),
                "bytes_per_subscription": size.bytes_each.round(),
            })
        };
        self.sizes.iter().map(size).collect()
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        let line = |size: &Size| {
            Line::new(
                format!("1 of {} subscriptions matches", grouped(size.subscriptions.into())),
                format!("{:.2} µs a change, {:.0} bytes a subscription", size.micros, size.bytes_each),
                "",
            )
        };
        self.sizes.iter().map(line).collect()
    }
}

pub(crate) fn run() -> Result<Matching> {
    let sizes = SIZES.into_iter().map(measure).collect::<Result<_>>()?;
    Ok(Matching { sizes })
}

fn owner(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn measure(subscriptions: u32) -> Result<Size> {
    let settings = MatchSettings { org_column: "org_id".to_owned(), max_payload_bytes: 65_536, strict_deletes: false };
    let mut hub = Hub::new(Arc::new(settings), false);
    let head = Position::before(Lsn(1));
    hub.set_head(EventId { epoch: Epoch(1), position: head });
    let before = process::resident_bytes(std::process::id())?;
    let members: Vec<Member> = (0..subscriptions).map(member).collect();
    for member in &members {
        hub.attach(member.clone())?;
    }
    let bytes = process::resident_bytes(std::process::id())?.saturating_sub(before) as f64;
    let relation = Arc::new(relation());
    let mut best = f64::INFINITY;
    let mut lsn = 1;
    for round in 0..=ROUNDS {
        let batches: Vec<Arc<Batch>> = (0..CHANGES)
            .map(|number| {
                lsn += 1;
                // Spread over all of them, so that no cache has them all.
                Arc::new(batch(&relation, lsn, &owner(number.wrapping_mul(7919) % subscriptions)))
            })
            .collect();
        let begun = clock::now();
        let mut frames = 0;
        for batch in &batches {
            frames += hub.deliver(batch, &Answers::default()).frames;
        }
        let seconds = (clock::now() - begun).as_secs_f64();
        ensure!(frames == u64::from(CHANGES), "{frames} frames for {CHANGES} changes");
        // The first round prepares the groups.
        if round > 0 {
            best = best.min(seconds);
        }
        for member in &members {
            let _ = member.outbox.poll_take(&mut Context::from_waker(Waker::noop()));
        }
    }
    Ok(Size { subscriptions, micros: best * 1e6 / f64::from(CHANGES), bytes_each: bytes / f64::from(subscriptions) })
}

fn member(number: u32) -> Member {
    let key = SubscriptionKey {
        schema: "public".to_owned(),
        table: "rows".to_owned(),
        table_oid: 16_400,
        row_security: true,
        events: EventMask::ALL,
        leave: false,
        filter: BoundFilter::And(Vec::new()),
        policy: SharedPolicy::new(RowPolicy { predicate: owned_by(&owner(number)), sets: Vec::new(), check_key: None }),
        columns: ColumnMask::All,
        select: Vec::new(),
        org: ActiveOrg::Unscoped,
    };
    Member {
        conn: ConnId(number.into()),
        outbox: Arc::new(Outbox::new(OUTBOX_BYTES)),
        ended: CancellationToken::new(),
        wire: Wire::Events,
        behind: Arc::new(Behind::default()),
        principal: Arc::new(Principal {
            role: "authenticated".to_owned(),
            permissions: BTreeSet::new(),
            claims_json: "{}".to_owned(),
        }),
        subscriptions: [(None, Arc::new(key))].into(),
    }
}

fn batch(relation: &Arc<Relation>, lsn: u64, owner: &str) -> Batch {
    let position = Position { lsn: Lsn(lsn), ordinal: 1 };
    let new = Some(row(&lsn.to_string(), owner));
    Batch {
        epoch: Epoch(1),
        previous: Position { lsn: Lsn(lsn - 1), ordinal: 1 },
        last: position,
        ends_transaction: true,
        live_from: Lsn(0),
        relation: Some(Arc::clone(relation)),
        fingerprint: 1,
        changes: vec![Change { position, commit_time_us: 0, kind: ChangeKind::Insert, old: OldImage::None, new }],
        encoded_bytes: 200,
    }
}
