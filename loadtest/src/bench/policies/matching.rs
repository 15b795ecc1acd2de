//! What it costs to find the one subscriber of a change among many who each may see their own rows.
//!
//! Each cost is measured twice. *Hot*: the changes are of the same few owners however many there are, so that what grows
//! is the index alone. *Cold*: the owners are drawn from all, so that with their number grows what is touched too, and the
//! processor's caches hold less of it. Sizes take turns in each round, and before each timed pass there is one like it that
//! is not timed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Waker};

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
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

/// Changes that are timed together; the fastest round counts.
const CHANGES: u32 = 2_000;
/// Owners of the changes of a hot pass, spread evenly over all.
const HOT_OWNERS: u32 = 1_000;
/// More than what one pass puts into an outbox.
const OUTBOX_BYTES: usize = 8 * 1024 * 1024;

/// The costs among so many subscriptions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    subscriptions: u32,
    /// Of one change, from the batch to the frame in an outbox, in µs.
    hot: f64,
    cold: f64,
    /// Resident memory of one subscription, its outbox included.
    bytes_each: f64,
}

/// The costs by size.
#[derive(Debug)]
pub(crate) struct Matching {
    sizes: Vec<Size>,
}

impl Matching {
    /// The hot cost among the most subscriptions by that among the fewest.
    pub(crate) fn hot_growth(&self) -> f64 {
        self.growth(|size| size.hot)
    }

    /// The same of the cold cost.
    pub(crate) fn cold_growth(&self) -> f64 {
        self.growth(|size| size.cold)
    }

    fn growth(&self, cost: impl Fn(&Size) -> f64) -> f64 {
        match (self.sizes.first(), self.sizes.last()) {
            (Some(fewest), Some(most)) => cost(most) / cost(fewest),
            _ => f64::NAN,
        }
    }

    /// The fewest and the most subscriptions, for people.
    pub(crate) fn ends(&self) -> String {
        let count = |size: Option<&Size>| grouped(size.map_or(0, |size| size.subscriptions).into());
        format!("{} over {} subscriptions", count(self.sizes.last()), count(self.sizes.first()))
    }

    pub(crate) fn json(&self) -> Value {
        let size = |size: &Size| {
            json!({
                "subscriptions": size.subscriptions,
                "hot_us_per_change": rounded(size.hot),
                "cold_us_per_change": rounded(size.cold),
                "bytes_per_subscription": size.bytes_each.round(),
            })
        };
        self.sizes.iter().map(size).collect()
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        let line = |size: &Size| {
            Line::new(
                format!("1 of {} subscriptions matches", grouped(size.subscriptions.into())),
                format!("hot {:.2}, cold {:.2} µs a change", size.hot, size.cold),
                format!("{:.0} bytes a subscription", size.bytes_each),
            )
        };
        self.sizes.iter().map(line).collect()
    }
}

/// Among each of these numbers of subscriptions, fewest first.
pub(crate) fn run(sizes: &[u32], rounds: u32) -> Result<Matching> {
    let mut crowds = sizes.iter().map(|size| Crowd::gather(*size)).collect::<Result<Vec<_>>>()?;
    // Whose the changes are does not depend on the run.
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..rounds {
        for crowd in &mut crowds {
            crowd.measure(&mut random)?;
        }
    }
    Ok(Matching { sizes: crowds.into_iter().map(|crowd| crowd.size).collect() })
}

fn owner(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// A hub with its members, and the best that was measured of it.
struct Crowd {
    hub: Hub,
    members: Vec<Member>,
    relation: Arc<Relation>,
    lsn: u64,
    size: Size,
}

impl Crowd {
    fn gather(subscriptions: u32) -> Result<Self> {
        let settings =
            MatchSettings { org_column: "org_id".to_owned(), max_payload_bytes: 65_536, strict_deletes: false };
        let mut hub = Hub::new(Arc::new(settings), false);
        hub.set_head(EventId { epoch: Epoch(1), position: Position::before(Lsn(1)) });
        let before = process::resident_bytes(std::process::id())?;
        let members: Vec<Member> = (0..subscriptions).map(member).collect();
        for member in &members {
            hub.attach(member.clone())?;
        }
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
        let bytes = process::resident_bytes(std::process::id())?.saturating_sub(before) as f64;
        let bytes_each = bytes / f64::from(subscriptions);
        let size = Size { subscriptions, hot: f64::INFINITY, cold: f64::INFINITY, bytes_each };
        Ok(Self { hub, members, relation: Arc::new(relation()), lsn: 1, size })
    }

    /// One round.
    fn measure(&mut self, random: &mut StdRng) -> Result<()> {
        let all = self.size.subscriptions;
        let few = HOT_OWNERS.min(all);
        let hot: Vec<u32> = (0..CHANGES).map(|number| number % few * (all / few)).collect();
        self.pass(&hot)?;
        self.size.hot = self.pass(&hot)?.min(self.size.hot);
        let mut draw = || -> Vec<u32> { (0..CHANGES).map(|_| random.random_range(0..all)).collect() };
        self.pass(&draw())?;
        self.size.cold = self.pass(&draw())?.min(self.size.cold);
        Ok(())
    }

    /// The µs that one change takes of these owners.
    fn pass(&mut self, owners: &[u32]) -> Result<f64> {
        let mut batches = Vec::with_capacity(owners.len());
        for number in owners {
            self.lsn += 1;
            batches.push(Arc::new(batch(&self.relation, self.lsn, &owner(*number))));
        }
        let begun = clock::now();
        let mut frames = 0;
        for batch in &batches {
            frames += self.hub.deliver(batch, &Answers::default()).frames;
        }
        let seconds = (clock::now() - begun).as_secs_f64();
        ensure!(frames == owners.len() as u64, "{frames} frames for {} changes", owners.len());
        // Only of those who got something: the others would take its place in the caches.
        for member in owners.iter().filter_map(|number| self.members.get(usize::try_from(*number).ok()?)) {
            let _ = member.outbox.poll_take(&mut Context::from_waker(Waker::noop()));
        }
        Ok(seconds * 1e6 / f64::from(CHANGES))
    }
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
