//! The groups of one table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use reactor_model::Relation;
use smallvec::SmallVec;

use super::compiled::{CompiledSubscription, Unfit};
use super::index::{ColumnsId, Entry, GroupId, Index};
use super::key::{ConnId, MatchSettings, SubscriptionKey};
use super::member::{Cause, Member};
use super::sets::{Family, LaneSets, SetId, SetRows};
use super::shape::Shape;
use crate::error::ApiError;

/// Sets of columns, and shapes, that are told apart; groups beyond them share less work.
const MAX_KINDS: usize = 4096;

/// Subscriptions that ask for the same, and what they get prepared once.
#[derive(Debug)]
pub(super) struct Group {
    key: Arc<SubscriptionKey>,
    sets: Arc<[Arc<SetRows>]>,
    set_ids: Box<[(SetId, Option<Family>)]>,
    /// Prepared for the table's relation version; `None` until a batch has shown it.
    pub(super) compiled: Option<CompiledSubscription>,
    entry: Entry,
    /// Connections with this as their only, unnamed subscription, by their id.
    pub(super) single: SmallVec<[Arc<Member>; 1]>,
    /// Named subscriptions, by connection and index in its list.
    pub(super) named: Vec<(Arc<Member>, usize)>,
}

impl Group {
    /// Its connections; one with several equal subscriptions comes several times.
    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.single.iter().chain(self.named.iter().map(|(member, _)| member))
    }

    /// Adds a subscription of a connection. Connections usually come in the order of their ids.
    pub(super) fn join(&mut self, member: &Arc<Member>, index: usize, is_named: bool) {
        if is_named {
            let place = self.named.partition_point(|(other, at)| (other.conn, *at) < (member.conn, index));
            self.named.insert(place, (Arc::clone(member), index));
        } else {
            let place = self.single.partition_point(|other| other.conn < member.conn);
            self.single.insert(place, Arc::clone(member));
        }
    }

    fn leave(&mut self, conn: ConnId) {
        let from = self.single.partition_point(|other| other.conn < conn);
        let upto = self.single.partition_point(|other| other.conn <= conn);
        self.single.drain(from..upto);
        let from = self.named.partition_point(|(other, _)| other.conn < conn);
        let upto = self.named.partition_point(|(other, _)| other.conn <= conn);
        self.named.drain(from..upto);
    }
}

/// What groups with the same one share.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Columns {
    /// The columns on whose values alone a verdict depends; `None` when it depends on the row itself.
    pub(super) read: Option<Box<[usize]>>,
    /// Whether a row that leaves concerns them.
    pub(super) leave: bool,
}

/// Why a group cannot be served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its connections must be closed.
    Close(ApiError),
    /// Its connections must go and come again.
    Leave(Cause),
}

/// The groups of one table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) groups: HashMap<GroupId, Group>,
    by_key: HashMap<Arc<SubscriptionKey>, GroupId>,
    next_id: GroupId,
    relation: Option<(u64, Arc<Relation>)>,
    pub(super) index: Index,
    /// By their ids.
    columns: Vec<Arc<Columns>>,
    column_ids: HashMap<Arc<Columns>, ColumnsId>,
    shapes: HashSet<Arc<Shape>>,
    /// Groups that are not prepared for `relation`; the next batch prepares or refuses them.
    unprepared: Vec<GroupId>,
    /// Whether what only Postgres knows can be asked here.
    answers: bool,
}

impl Table {
    pub(super) fn new(answers: bool) -> Self {
        let mut table = Self {
            groups: HashMap::new(),
            by_key: HashMap::new(),
            next_id: 0,
            relation: None,
            index: Index::default(),
            columns: Vec::new(),
            column_ids: HashMap::new(),
            shapes: HashSet::new(),
            unprepared: Vec::new(),
            answers,
        };
        table.reset_kinds();
        table
    }

    /// The first kind is for groups that share no work between changes.
    fn reset_kinds(&mut self) {
        let own = Arc::new(Columns { read: None, leave: true });
        self.columns = vec![Arc::clone(&own)];
        self.column_ids = HashMap::from([(own, ColumnsId(0))]);
        self.shapes.clear();
    }

    pub(super) fn columns(&self, id: ColumnsId) -> Option<&Columns> {
        self.columns.get(id.0 as usize).map(|columns| &**columns)
    }

    fn columns_id(&mut self, compiled: &CompiledSubscription) -> ColumnsId {
        let read = compiled.columns().map(|columns| columns.into_iter().collect());
        let columns = Columns { read, leave: compiled.leave };
        if let Some(id) = self.column_ids.get(&columns) {
            return *id;
        }
        let next = self.columns.len();
        let Some(id) = u32::try_from(next).ok().filter(|_| next < MAX_KINDS) else { return ColumnsId(0) };
        let columns = Arc::new(columns);
        self.columns.push(Arc::clone(&columns));
        self.column_ids.insert(columns, ColumnsId(id));
        ColumnsId(id)
    }

    /// Finds or makes the group of a key; `None` when a set that it needs is not loaded. One that does not fit the relation
    /// version seen last waits for the next batch: the table may have been changed since.
    pub(super) fn group(
        &mut self,
        key: &Arc<SubscriptionKey>,
        settings: &MatchSettings,
        sets: &LaneSets,
    ) -> Option<GroupId> {
        let found = key.policy.sets().iter().map(|set| sets.ready(set)).collect::<Option<Vec<_>>>()?;
        if let Some(id) = self.by_key.get(key) {
            return Some(*id);
        }
        let id = self.next_id;
        self.next_id += 1;
        let group = Group {
            key: Arc::clone(key),
            sets: found.iter().map(|(_, rows)| Arc::clone(rows)).collect(),
            set_ids: found.iter().map(|(set, _)| (*set, sets.family(*set))).collect(),
            compiled: None,
            entry: Entry::default(),
            single: SmallVec::new(),
            named: Vec::new(),
        };
        self.by_key.insert(Arc::clone(key), id);
        self.groups.insert(id, group);
        if self.prepare(id, settings).is_some() {
            self.unprepared.push(id);
        }
        Some(id)
    }

    /// Prepares a group for the relation version seen last and enters it in the index; or says why not.
    fn prepare(&mut self, id: GroupId, settings: &MatchSettings) -> Option<Refusal> {
        let group = self.groups.get(&id)?;
        let Some((_, relation)) = &self.relation else { return Some(Refusal::Leave(Cause::Decision)) };
        let mut compiled = match CompiledSubscription::new(&group.key, Arc::clone(&group.sets), relation, settings) {
            Ok(compiled) => compiled,
            Err(Unfit::Subscription(error)) => return Some(Refusal::Close(error)),
            Err(Unfit::Decision(_)) => return Some(Refusal::Leave(Cause::Decision)),
        };
        if compiled.may_ask() && !self.answers {
            return Some(Refusal::Leave(Cause::Asks));
        }
        if let Some(known) = self.shapes.get(&compiled.shape) {
            compiled.shape = Arc::clone(known);
        } else if self.shapes.len() < MAX_KINDS {
            self.shapes.insert(Arc::clone(&compiled.shape));
        }
        let columns = self.columns_id(&compiled);
        let group = self.groups.get_mut(&id)?;
        group.entry = self.index.insert(id, columns, compiled.index_options(), &group.set_ids);
        group.compiled = Some(compiled);
        None
    }

    /// Removes a connection from a group, and the group with its last member.
    pub(super) fn leave(&mut self, id: GroupId, conn: ConnId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.leave(conn);
        if group.single.is_empty()
            && group.named.is_empty()
            && let Some(group) = self.groups.remove(&id)
        {
            self.by_key.remove(&group.key);
            self.index.remove(id, &group.entry);
        }
    }

    /// Prepares the groups for the relation version of a batch. Returns those that cannot be served on it and why.
    pub(super) fn adopt(
        &mut self,
        fingerprint: u64,
        relation: &Arc<Relation>,
        settings: &MatchSettings,
    ) -> Vec<(GroupId, Refusal)> {
        if self.relation.as_ref().is_none_or(|(known, _)| *known != fingerprint) {
            self.relation = Some((fingerprint, Arc::clone(relation)));
            self.index = Index::default();
            self.reset_kinds();
            for group in self.groups.values_mut() {
                group.compiled = None;
                group.entry = Entry::default();
            }
            self.unprepared = self.groups.keys().copied().collect();
        }
        let unprepared = std::mem::take(&mut self.unprepared);
        unprepared.into_iter().filter_map(|id| Some((id, self.prepare(id, settings)?))).collect()
    }
}
