//! One lane: its connections, its sets, and the position up to which they have been served.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use reactor_model::{Batch, Code, EventId, Position};
use reactor_policy_engine::MemberRow;
use reactor_protocol::sse;

use super::answers::{Answers, Questions};
use super::index::GroupId;
use super::key::{ConnId, MatchSettings, SharedSet};
use super::matching::{Matcher, Withheld};
use super::member::{Cause, Left, Member, Resync, Wire};
use super::sets::{Broken, LaneSets, SetId, SetRows};
use super::table::{Refusal, Table};
use crate::error::ApiError;
use crate::outbox::Push;

/// Bytes of one transaction's batches that are held until its end is seen. Of a larger one, changes are judged by the sets as
/// they were at that place in it.
const HELD_BYTES: usize = 16 * 1024 * 1024;

/// What one batch did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Frames put into outboxes.
    pub frames: u64,
    /// Changes that at least one subscription got.
    pub matched: u64,
    /// Connections closed with a code.
    pub closed: Vec<Code>,
    /// Connections that were left behind, and why.
    pub behind: Vec<Cause>,
    /// Changes that policy withheld from a group of equal subscriptions.
    pub withheld: Withheld,
}

impl Delivered {
    /// Adds what another batch did.
    pub fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.matched += other.matched;
        self.closed.extend(other.closed);
        self.behind.extend(other.behind);
        self.withheld.raised += other.withheld.raised;
        self.withheld.missing += other.withheld.missing;
        self.withheld.unanswered += other.withheld.unanswered;
    }
}

/// The subscriptions of one tenant and lane, and the position up to which they have been served.
#[derive(Debug)]
pub struct Hub {
    pub(super) settings: Arc<MatchSettings>,
    /// Whether what only Postgres knows can be asked here.
    answers: bool,
    pub(super) head: Option<EventId>,
    pub(super) members: HashMap<ConnId, Joined>,
    pub(super) tables: HashMap<TableName, Table>,
    sets: LaneSets,
    /// Batches of a transaction whose end has not been seen.
    held: Vec<Arc<Batch>>,
}

pub(super) type TableName = (String, String);

/// The table of a batch.
pub(super) fn table_of(batch: &Batch) -> Option<TableName> {
    batch.relation.as_ref().map(|relation| (relation.schema.clone(), relation.table.clone()))
}

/// A member and the group of each of its subscriptions.
pub(super) type Joined = (Arc<Member>, Vec<(TableName, GroupId)>);

/// A connection needs a set that is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a set is not loaded")]
pub struct NotLoaded;

impl Hub {
    /// A hub without members; `answers`: whether what only Postgres knows can be asked here.
    #[must_use]
    pub fn new(settings: Arc<MatchSettings>, answers: bool) -> Self {
        Self {
            settings,
            answers,
            head: None,
            members: HashMap::new(),
            tables: HashMap::new(),
            sets: LaneSets::default(),
            held: Vec::new(),
        }
    }

    /// Position up to which members have been served.
    #[must_use]
    pub fn head(&self) -> Option<EventId> {
        self.head
    }

    /// Position of the newest batch that was taken; see [`Hub::take`].
    #[must_use]
    pub fn taken(&self) -> Option<EventId> {
        match (self.held.last(), self.head) {
            (Some(batch), Some(head)) => Some(EventId { epoch: batch.epoch, position: batch.last.max(head.position) }),
            (_, head) => head,
        }
    }

    /// Whether batches are held of which it is not known whether their transaction has ended; see [`Hub::take`].
    #[must_use]
    pub fn holds_a_part(&self) -> bool {
        !self.held.is_empty()
    }

    /// Moves the head without delivering, when a lane starts.
    pub fn set_head(&mut self, head: EventId) {
        self.head = Some(head);
        self.held.clear();
        self.sets.lose_all(head.position);
    }

    /// Whether nobody is subscribed or about to be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.sets.is_empty()
    }

    /// Holds a set for a connection that is about to join. `recent` gives the newest batches of a table up to the head.
    pub fn hold_set(
        &mut self,
        set: &SharedSet,
        recent: impl FnOnce(&str, &str) -> Vec<Arc<Batch>>,
    ) -> (SetId, Arc<SetRows>) {
        self.sets.hold(set, self.taken().map_or_else(Position::default, |at| at.position), recent)
    }

    /// Ends a hold.
    pub fn release_set(&mut self, id: SetId) {
        self.sets.release(id);
    }

    /// Whether a set still has to be loaded.
    #[must_use]
    pub fn is_loading(&self, id: SetId) -> bool {
        self.sets.is_loading(id)
    }

    /// Takes what was read of a set; a second time it is passed over.
    ///
    /// # Errors
    /// Why the set cannot be kept.
    pub fn install_set(&mut self, id: SetId, rows: &[MemberRow]) -> Result<(), Broken> {
        self.sets.install(id, rows)
    }

    /// Adds a connection: it gets everything after the head.
    ///
    /// # Errors
    /// [`NotLoaded`] when a set of its policies is not: then nothing was done.
    pub fn attach(&mut self, member: Member) -> Result<(), NotLoaded> {
        self.attach_after(member, || {})
    }

    /// The same, after `greet` was called.
    ///
    /// # Errors
    /// As for [`Hub::attach`]; `greet` was not called then.
    pub fn attach_after(&mut self, member: Member, greet: impl FnOnce()) -> Result<(), NotLoaded> {
        let member = Arc::new(member);
        let has_several = member.subscriptions.len() > 1;
        let is_loaded = |set: &SharedSet| self.sets.ready(set).is_some();
        if !member.subscriptions.iter().all(|(_, key)| key.policy.sets().iter().all(is_loaded)) {
            return Err(NotLoaded);
        }
        greet();
        let mut groups = Vec::with_capacity(member.subscriptions.len());
        for (index, (name, key)) in member.subscriptions.iter().enumerate() {
            let table_name = (key.schema.clone(), key.table.clone());
            let table = self.tables.entry(table_name.clone()).or_insert_with(|| Table::new(self.answers));
            let Some(id) = table.group(key, &self.settings, &self.sets) else { continue };
            groups.push((table_name, id));
            if let Some(group) = table.groups.get_mut(&id) {
                group.join(&member, index, name.is_some() || has_several);
            }
        }
        self.members.insert(member.conn, (member, groups));
        Ok(())
    }

    /// Removes a connection; whether it was there.
    pub fn detach(&mut self, conn: ConnId) -> bool {
        let Some((_, groups)) = self.members.remove(&conn) else { return false };
        for (name, id) in groups {
            if let Some(table) = self.tables.get_mut(&name) {
                table.leave(id, conn);
                if table.groups.is_empty() {
                    self.tables.remove(&name);
                }
            }
        }
        true
    }

    /// Removes a connection and says up to where it was served.
    pub fn leave(&mut self, conn: ConnId) -> Option<EventId> {
        let head = self.head?;
        self.detach(conn).then_some(head)
    }

    /// Puts a heartbeat with the head's position behind what a member has queued.
    pub fn heartbeat(&self, conn: ConnId, data: &str) {
        if let (Some((member, _)), Some(head)) = (self.members.get(&conn), self.head) {
            let mut out = BytesMut::new();
            sse::write_event(&mut out, "heartbeat", Some(&head), data.as_bytes());
            // A heartbeat never closes a slow connection: the next change, or the write deadline, does.
            let _ = member.outbox.push(out.freeze());
        }
    }

    /// Tells every member that history was lost, and goes on from `resync.newest`. The sets have missed what was lost.
    pub fn resync(&mut self, resync: &Resync) -> Delivered {
        let members = self.members.values().map(|(member, _)| Arc::clone(member)).collect();
        let mut delivered = self.tell(members, resync);
        self.set_head(resync.newest);
        self.leave_without_sets(&mut delivered);
        delivered
    }

    /// Tells only members with a subscription that needs an answer which could not be had.
    pub fn resync_asking(&mut self, resync: &Resync) -> Delivered {
        let asking = self.tables.values().flat_map(|table| table.groups.values());
        let asking = asking.filter(|group| group.compiled.as_ref().is_some_and(super::CompiledSubscription::may_ask));
        let mut members: Vec<Arc<Member>> = asking.flat_map(super::table::Group::members).cloned().collect();
        members.sort_unstable_by_key(|member| member.conn);
        members.dedup_by_key(|member| member.conn);
        self.tell(members, resync)
    }

    /// A member that has no room even for this is closed: it comes back with an old position, and is told then.
    fn tell(&mut self, members: Vec<Arc<Member>>, resync: &Resync) -> Delivered {
        let frame = resync.frame();
        let mut delivered = Delivered::default();
        for member in members {
            if let Wire::Socket(_) = member.wire {
                self.detach(member.conn);
                member.behind.leave(Left { after: resync.newest, cause: Cause::Lost(resync.reason) });
                continue;
            }
            match member.outbox.push(frame.clone()) {
                Push::Queued => delivered.frames += 1,
                Push::Closed => {}
                Push::Full => self.close(&member, &ApiError::of(Code::SlowConsumer), &mut delivered),
            }
        }
        delivered
    }

    /// Whether a batch is of another history than the head: what it belongs to was lost while answers were waited for.
    #[must_use]
    pub fn is_of_other_history(&self, batch: &Batch) -> bool {
        self.head.is_some_and(|head| head.epoch != batch.epoch)
    }

    /// Takes the next batch of the log and returns those that can be delivered now. A transaction's changes are judged by the
    /// sets as they are at its end, so that while there are sets, batches are held until that is seen.
    pub fn take(&mut self, batch: &Arc<Batch>) -> Vec<Arc<Batch>> {
        if self.sets.is_empty() && self.held.is_empty() {
            return vec![Arc::clone(batch)];
        }
        self.held.push(Arc::clone(batch));
        let bytes: usize = self.held.iter().map(|batch| batch.encoded_bytes).sum();
        if batch.ends_transaction || bytes > HELD_BYTES { std::mem::take(&mut self.held) } else { Vec::new() }
    }

    /// Keeps the sets by batches of one transaction, before the first of them is delivered.
    pub fn foresee(&mut self, batches: &[Arc<Batch>]) -> Delivered {
        let mut delivered = Delivered::default();
        if batches.len() > 1 {
            let apply = |batch: &&Arc<Batch>| {
                table_of(batch).is_some_and(|table| self.sets.apply(batch, 0..batch.changes.len(), &table))
            };
            let lost = batches.iter().filter(apply).count();
            if lost > 0 {
                self.leave_without_sets(&mut delivered);
            }
        }
        delivered
    }

    /// The parts in which a batch is delivered: transaction by transaction where it changes both a set and what is seen by it.
    #[must_use]
    pub fn parts(&self, batch: &Batch) -> Vec<Range<usize>> {
        let is_both = |table: &TableName| self.sets.are_over(table) && self.tables.contains_key(table);
        if self.sets.is_empty() || !table_of(batch).as_ref().is_some_and(is_both) {
            return std::iter::once(0..batch.changes.len()).collect();
        }
        let mut from = 0;
        let transactions = batch.changes.chunk_by(|left, right| left.position.lsn == right.position.lsn);
        transactions
            .map(|changes| {
                let part = from..from + changes.len();
                from = part.end;
                part
            })
            .collect()
    }

    /// Prepares groups and sets for a part of a batch.
    pub(super) fn prepare(&mut self, batch: &Arc<Batch>, part: Range<usize>, name: Option<&TableName>) -> Delivered {
        let mut delivered = Delivered::default();
        let (Some(relation), Some(name)) = (&batch.relation, name) else { return delivered };
        if self.sets.apply(batch, part, name) {
            self.leave_without_sets(&mut delivered);
        }
        let Some(table) = self.tables.get_mut(name) else { return delivered };
        for (id, refusal) in table.adopt(batch.fingerprint, relation, &self.settings) {
            let group = self.tables.get(name).and_then(|table| table.groups.get(&id));
            let members: Vec<Arc<Member>> = group.into_iter().flat_map(super::table::Group::members).cloned().collect();
            for member in members {
                match &refusal {
                    Refusal::Close(error) => self.close(&member, error, &mut delivered),
                    Refusal::Leave(cause) => self.leave_behind(&member, *cause, &mut delivered),
                }
            }
        }
        delivered
    }

    /// What Postgres must be asked before a part of a batch can be delivered.
    pub fn questions(&mut self, batch: &Arc<Batch>, part: Range<usize>, answers: &Answers) -> (Questions, Delivered) {
        let mut questions = Questions::default();
        if self.is_of_other_history(batch) {
            return (questions, Delivered::default());
        }
        let name = table_of(batch);
        let delivered = self.prepare(batch, part.clone(), name.as_ref());
        if let Some(table) = name.and_then(|name| self.tables.get(&name)) {
            Matcher::new(table, &self.sets, batch, answers, Some(&mut questions)).run(part);
        }
        (questions, delivered)
    }

    pub(super) fn sets(&self) -> &LaneSets {
        &self.sets
    }

    /// Members whose sets are lost leave: they load them anew.
    fn leave_without_sets(&mut self, delivered: &mut Delivered) {
        let without = |(member, _): &Joined| {
            let mut sets = member.subscriptions.iter().flat_map(|(_, key)| key.policy.sets());
            sets.any(|set| self.sets.ready(set).is_none()).then(|| Arc::clone(member))
        };
        let members: Vec<Arc<Member>> = self.members.values().filter_map(without).collect();
        for member in members {
            self.leave_behind(&member, Cause::Sets, delivered);
        }
    }

    /// Removes a member and tells it up to where it was served.
    pub(super) fn leave_behind(&mut self, member: &Member, cause: Cause, delivered: &mut Delivered) {
        if let Some(after) = self.leave(member.conn) {
            member.behind.leave(Left { after, cause });
            delivered.behind.push(cause);
        }
    }

    fn close(&mut self, member: &Member, error: &ApiError, delivered: &mut Delivered) {
        member.close(error, None);
        delivered.closed.push(error.code);
        self.detach(member.conn);
    }
}
