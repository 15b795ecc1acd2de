//! The fan-out of a batch: frames into outboxes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use reactor_model::{Batch, EventId, Position};

use super::answers::Answers;
use super::encode::{FrameCache, SocketHit};
use super::fanout::{Delivered, Hub, table_of};
use super::key::ConnId;
use super::matching::{Classes, Matcher, Matches};
use super::member::{Cause, Member, SocketWire, Wire};
use super::shape::{Form, Shape};
use super::table::Table;
use crate::outbox::Push;

/// Changes by their index, each with the form in which it comes.
type Told = Rc<[(usize, Form)]>;

/// By connection the changes that its named subscriptions match: index of the change, index of the subscription, form.
type NamedHits<'a> = BTreeMap<ConnId, (&'a Arc<Member>, Vec<(usize, usize, Form)>)>;

/// Chunks of frames that groups with the same hits and shape share.
#[derive(Default)]
struct Chunks {
    /// By what a group matched its changes, and their place among all such lists.
    by_classes: HashMap<Classes, (usize, Told)>,
    /// A list is looked at once, however many groups have it.
    places: HashMap<Told, usize>,
    /// By the changes' place and the address of the shape, which the groups keep alive.
    by_changes: HashMap<(usize, usize), Same>,
    /// By what a channel's frames depend on and what it gets of several bindings, shapes by their addresses.
    by_bindings: HashMap<SeveralHits, Chunk>,
}

/// What members with one subscription get of the same changes in the same shape.
#[derive(Default)]
struct Same {
    events: Option<Bytes>,
    sockets: HashMap<Arc<SocketWire>, Chunk>,
}

/// Frames and their number.
type Chunk = (Bytes, u64);

/// What a channel gets of several bindings.
type SeveralHits = (Arc<SocketWire>, Vec<(usize, u32, usize, Form)>);

impl Same {
    fn events(&mut self, write: impl FnOnce() -> Bytes) -> &Bytes {
        self.events.get_or_insert_with(write)
    }

    fn socket(&mut self, wire: &Arc<SocketWire>, write: impl FnOnce() -> Chunk) -> Chunk {
        if let Some((frames, count)) = self.sockets.get(wire) {
            return (frames.clone(), *count);
        }
        let chunk = write();
        self.sockets.insert(Arc::clone(wire), chunk.clone());
        chunk
    }
}

impl Chunks {
    /// The changes of what a group matched, and their place.
    fn told(&mut self, classes: &Classes, matches: &Matches) -> (usize, Told) {
        if let Some((place, changes)) = self.by_classes.get(classes) {
            return (*place, Rc::clone(changes));
        }
        let changes: Told = matches.changes(classes).into();
        let next = self.places.len();
        let place = *self.places.entry(Rc::clone(&changes)).or_insert(next);
        self.by_classes.insert(classes.clone(), (place, Rc::clone(&changes)));
        (place, changes)
    }
}

/// The frames of hits for a channel.
fn socket_chunk(batch: &Batch, wire: &SocketWire, hits: &[SocketHit], cache: &mut FrameCache) -> Chunk {
    let mut chunk = BytesMut::new();
    let frames = cache.write_socket(&mut chunk, batch, wire, hits);
    (chunk.freeze(), frames)
}

impl Hub {
    /// Takes a batch and delivers what can be delivered, without asking anybody.
    pub fn deliver(&mut self, batch: &Arc<Batch>, answers: &Answers) -> Delivered {
        let batches = self.take(batch);
        let mut delivered = self.foresee(&batches);
        for batch in batches {
            for part in self.parts(&batch) {
                delivered.add(self.deliver_part(&batch, part, answers));
            }
        }
        delivered
    }

    /// Delivers a part of a batch and moves the head to its end. Changes at or before the head are passed over. A member whose
    /// queue has no room for its frames is left behind: it is removed and told where.
    pub fn deliver_part(&mut self, batch: &Arc<Batch>, part: Range<usize>, answers: &Answers) -> Delivered {
        if self.is_of_other_history(batch) {
            return Delivered::default();
        }
        let table = table_of(batch);
        let mut delivered = self.prepare(batch, part.clone(), table.as_ref());
        let after = self.head.map_or_else(Position::default, |head| head.position);
        let table = table.and_then(|table| self.tables.get(&table));
        let full = table.map(|table| self.push_part(batch, table, part.clone(), after, answers, &mut delivered));
        for member in full.unwrap_or_default() {
            self.leave_behind(&member, Cause::Slow, &mut delivered);
        }
        let last = batch.changes.get(part.end.wrapping_sub(1)).map(|change| change.position);
        let end = if part.end == batch.changes.len() { Some(batch.last) } else { last };
        self.head = Some(EventId { epoch: batch.epoch, position: end.unwrap_or(after).max(after) });
        delivered
    }

    /// Returns the members that had no room.
    fn push_part(
        &self,
        batch: &Batch,
        table: &Table,
        part: Range<usize>,
        after: Position,
        answers: &Answers,
        delivered: &mut Delivered,
    ) -> Vec<Arc<Member>> {
        let mut full: Vec<Arc<Member>> = Vec::new();
        let changes = batch.changes.get(part.clone()).unwrap_or_default();
        let known = changes.iter().take_while(|change| change.position <= after).count();
        let matches = Matcher::new(table, self.sets(), batch, answers, None).run(part.start + known..part.end);
        delivered.matched += matches.matched();
        delivered.withheld = matches.withheld();
        let mut push = |member: &Arc<Member>, chunk: &Bytes, frames: u64| {
            if frames == 0 {
                return 0;
            }
            match member.outbox.push(chunk.clone()) {
                Push::Queued => frames,
                Push::Closed => 0,
                Push::Full => {
                    full.push(Arc::clone(member));
                    0
                }
            }
        };
        let max_bytes = self.settings.max_payload_bytes;
        let (mut cache, mut chunks, mut named) = (FrameCache::default(), Chunks::default(), NamedHits::new());
        for (id, classes) in &matches.groups {
            let Some(group) = table.groups.get(id) else { continue };
            let Some(compiled) = &group.compiled else { continue };
            let (place, told) = chunks.told(classes, &matches);
            for (member, subscription) in &group.named {
                let (_, hits) = named.entry(member.conn).or_insert_with(|| (member, Vec::new()));
                hits.extend(told.iter().map(|(change, form)| (*change, *subscription, *form)));
            }
            if group.single.is_empty() {
                continue;
            }
            let same = chunks.by_changes.entry((place, Arc::as_ptr(&compiled.shape) as usize)).or_default();
            for member in &group.single {
                delivered.frames += match &member.wire {
                    Wire::Events => {
                        let chunk = same.events(|| write_chunk(batch, &told, &compiled.shape, &mut cache, max_bytes));
                        push(member, chunk, told.len() as u64)
                    }
                    Wire::Socket(wire) => {
                        let (chunk, frames) = same.socket(wire, || {
                            let id = wire.ids.first().copied().unwrap_or_default();
                            let hit =
                                |(change, form): &(usize, Form)| (*change, id, Arc::clone(&compiled.shape), *form);
                            socket_chunk(batch, wire, &told.iter().map(hit).collect::<Vec<_>>(), &mut cache)
                        });
                        push(member, &chunk, frames)
                    }
                };
            }
        }
        for (member, hits) in named.into_values() {
            let (chunk, frames) = match &member.wire {
                Wire::Events => self.named_chunk(member, hits, batch, table, &mut cache),
                Wire::Socket(wire) => {
                    let hits = self.socket_hits(member, wire, hits, table);
                    let alike =
                        |(change, id, shape, form): &SocketHit| (*change, *id, Arc::as_ptr(shape) as usize, *form);
                    let key = (Arc::clone(wire), hits.iter().map(alike).collect());
                    let chunk = chunks.by_bindings.entry(key);
                    chunk.or_insert_with(|| socket_chunk(batch, wire, &hits, &mut cache)).clone()
                }
            };
            delivered.frames += push(member, &chunk, frames);
        }
        full
    }

    /// What a channel with several bindings gets, in the order of the changes.
    fn socket_hits(
        &self,
        member: &Member,
        wire: &SocketWire,
        mut hits: Vec<(usize, usize, Form)>,
        table: &Table,
    ) -> Vec<SocketHit> {
        let groups = self.members.get(&member.conn).map(|(_, groups)| groups.as_slice()).unwrap_or_default();
        hits.sort_unstable();
        let hit = |(change, subscription, form): (usize, usize, Form)| {
            let (_, group) = groups.get(subscription)?;
            let compiled = table.groups.get(group)?.compiled.as_ref()?;
            Some((change, *wire.ids.get(subscription)?, Arc::clone(&compiled.shape), form))
        };
        hits.into_iter().filter_map(hit).collect()
    }

    /// The frames for a connection with named subscriptions, in the order of the changes; a change that several of its
    /// subscriptions match is one frame.
    fn named_chunk(
        &self,
        member: &Member,
        mut hits: Vec<(usize, usize, Form)>,
        batch: &Batch,
        table: &Table,
        cache: &mut FrameCache,
    ) -> (Bytes, u64) {
        let groups = self.members.get(&member.conn).map(|(_, groups)| groups.as_slice()).unwrap_or_default();
        hits.sort_unstable();
        let mut chunk = BytesMut::new();
        let mut frames = 0;
        for same_change in hits.chunk_by(|left, right| left.0 == right.0) {
            let Some((index, ..)) = same_change.first() else { continue };
            let matched = same_change.iter().filter_map(|(_, subscription, form)| {
                let (name, _) = member.subscriptions.get(*subscription)?;
                let (_, id) = groups.get(*subscription)?;
                Some((name.as_deref(), table.groups.get(id)?.compiled.as_ref()?, *form))
            });
            frames += cache.write(&mut chunk, batch, *index, matched, self.settings.max_payload_bytes);
        }
        (chunk.freeze(), frames)
    }
}

fn write_chunk(batch: &Batch, told: &Told, shape: &Arc<Shape>, cache: &mut FrameCache, max_bytes: usize) -> Bytes {
    let mut chunk = BytesMut::new();
    for (index, form) in told.iter() {
        cache.write_one(&mut chunk, batch, *index, shape, *form, max_bytes);
    }
    chunk.freeze()
}
