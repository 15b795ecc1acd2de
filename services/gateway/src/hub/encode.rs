//! Changes as the data of SSE events and of WebSocket channels. Each distinct shape of a change is encoded once.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use reactor_model::render::render_name;
use reactor_model::{Batch, Change, ChangeKind, Datum, EventId, Relation, Tuple};
use reactor_protocol::audience::Style;
use reactor_protocol::changes::{self, ChangeError, ChangeShape, MAX_RECORD_BYTES, OldRow};
use reactor_protocol::sse;

use super::compiled::CompiledSubscription;
use super::member::SocketWire;
use super::shape::{Form, Shape};
use crate::timestamp;

/// The encoded changes of one batch, by change, shape and form.
#[derive(Debug, Default)]
pub struct FrameCache {
    data: HashMap<(usize, Arc<Shape>, Form), Bytes>,
    /// For WebSocket clients; `None` for what their protocol does not have.
    socket_data: HashMap<(usize, Arc<Shape>, Form, Style), Option<Bytes>>,
}

/// A change for a channel: its index, the id of the binding that it matches, what of it is shown and in which form.
pub(crate) type SocketHit = (usize, u32, Arc<Shape>, Form);

impl FrameCache {
    /// The data of a change in a shape and form.
    fn data(&mut self, batch: &Batch, index: usize, shape: &Arc<Shape>, form: Form, max_bytes: usize) -> Bytes {
        let key = (index, Arc::clone(shape), form);
        if let Some(data) = self.data.get(&key) {
            return data.clone();
        }
        let (Some(change), Some(relation)) = (batch.changes.get(index), &batch.relation) else { return Bytes::new() };
        let data = encode(change, relation, shape, form, max_bytes);
        self.data.insert(key, data.clone());
        data
    }

    /// Writes the frame of a change for a connection with one unnamed subscription.
    pub(super) fn write_one(
        &mut self,
        out: &mut BytesMut,
        batch: &Batch,
        index: usize,
        shape: &Arc<Shape>,
        form: Form,
        max_bytes: usize,
    ) {
        let data = self.data(batch, index, shape, form, max_bytes);
        if let Some(change) = batch.changes.get(index) {
            write_frame(out, batch, change, form, true, &data);
        }
    }

    /// Writes a change for a connection, whichever of its subscriptions match it, and returns the number of frames.
    ///
    /// One change is one frame, so that its id stands for all of it when the client resumes: subscriptions with
    /// different columns get the union (the role's column mask is the same for all of them). Only where a row leaves some
    /// subscriptions and stays in others there are two, of which the first has no id.
    pub(crate) fn write<'a>(
        &mut self,
        out: &mut BytesMut,
        batch: &Batch,
        index: usize,
        matched: impl Iterator<Item = (Option<&'a str>, &'a CompiledSubscription, Form)>,
        max_bytes: usize,
    ) -> u64 {
        let mut left = Frame::default();
        let mut told = Frame::default();
        for (name, compiled, form) in matched {
            if form == Form::Leave { &mut left } else { &mut told }.add(name, &compiled.shape, form);
        }
        let mut frames = 0;
        let has_more = told.shape.is_some();
        for (frame, has_id) in [(left, !has_more), (told, true)] {
            let (Some((shape, form)), Some(change)) = (frame.shape, batch.changes.get(index)) else { continue };
            let data = self.data(batch, index, &shape, form, max_bytes);
            let data = if frame.names.is_empty() { data } else { named(&data, &frame.names) };
            write_frame(out, batch, change, form, has_id, &data);
            frames += 1;
        }
        frames
    }
}

impl FrameCache {
    /// Writes the frames of changes for a channel and returns their number. A change that several bindings match is one frame
    /// with all their ids, but for bindings that show other columns.
    pub(crate) fn write_socket(
        &mut self,
        out: &mut BytesMut,
        batch: &Batch,
        wire: &SocketWire,
        hits: &[SocketHit],
    ) -> u64 {
        let mut frames = 0;
        for same_change in hits.chunk_by(|left, right| left.0 == right.0) {
            let mut rest: Vec<&SocketHit> = same_change.iter().collect();
            while let Some((index, _, shape, form)) = rest.first().copied() {
                let (same, others): (Vec<_>, Vec<_>) =
                    rest.into_iter().partition(|(_, _, other, told)| other == shape && told == form);
                rest = others;
                let mut ids: Vec<u32> = Vec::with_capacity(same.len());
                for (_, id, ..) in same {
                    if !ids.contains(id) {
                        ids.push(*id);
                    }
                }
                let data = self.socket_data(batch, *index, shape, *form, wire.audience.style);
                let (Some(data), Some(change)) = (data, batch.changes.get(*index)) else { continue };
                let message = wire.audience.encode_change(&ids, change.kind, &data);
                crate::ws::frame::write(out, &message, wire.compression);
                frames += 1;
            }
        }
        frames
    }

    fn socket_data(
        &mut self,
        batch: &Batch,
        index: usize,
        shape: &Arc<Shape>,
        form: Form,
        style: Style,
    ) -> Option<Bytes> {
        let key = (index, Arc::clone(shape), form, style);
        if let Some(data) = self.socket_data.get(&key) {
            return data.clone();
        }
        let (change, relation) = (batch.changes.get(index)?, batch.relation.as_ref()?);
        let keys = relation.columns.iter().filter(|column| column.primary_key).count();
        let data = if keys > shape.keys.len() {
            changes::encode_error(batch.epoch, change, relation, style, ChangeError::Unauthorized)
        } else {
            // Of a protected row that is gone, this protocol tells the key.
            let is_guarded = change.kind == ChangeKind::Delete && relation.row_security;
            let old = if form == Form::Whole && !is_guarded { OldRow::Whole } else { OldRow::Keys };
            let (shown, keys) = (shape.shown.clone(), shape.keys.clone());
            let shape = ChangeShape { shown, keys, old, leave: form == Form::Leave };
            changes::encode(batch.epoch, change, relation, &shape, style, MAX_RECORD_BYTES)
        };
        self.socket_data.insert(key, data.clone());
        data
    }
}

/// A frame for several subscriptions of one connection.
#[derive(Default)]
struct Frame<'a> {
    names: Vec<&'a str>,
    shape: Option<(Arc<Shape>, Form)>,
}

impl<'a> Frame<'a> {
    /// Policy is the same for all of them, so that the least that one may see is what all may see.
    fn add(&mut self, name: Option<&'a str>, shape: &Arc<Shape>, form: Form) {
        self.names.extend(name);
        self.shape = Some(match self.shape.take() {
            None => (Arc::clone(shape), form),
            Some((known, other)) if known == *shape => (known, form.min(other)),
            Some((known, other)) => (Arc::new(known.union(shape)), form.min(other)),
        });
    }
}

fn write_frame(out: &mut BytesMut, batch: &Batch, change: &Change, form: Form, has_id: bool, data: &[u8]) {
    let id = EventId { epoch: batch.epoch, position: change.position };
    let event = if form == Form::Leave { "leave" } else { change.kind.event_name() };
    sse::write_event(out, event, has_id.then_some(&id as _), data);
}

/// The shared data with `"subscriptions":[…]` put in front.
fn named(data: &[u8], names: &[&str]) -> Bytes {
    let mut named = Vec::with_capacity(data.len() + 32);
    named.extend_from_slice(b"{\"subscriptions\":[");
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            named.push(b',');
        }
        render_name(&mut named, name);
    }
    named.extend_from_slice(b"],");
    named.extend_from_slice(data.get(1..).unwrap_or_default());
    named.into()
}

fn encode(change: &Change, relation: &Relation, shape: &Shape, form: Form, max_bytes: usize) -> Bytes {
    let columns = if form == Form::Leave { &shape.keys } else { &shape.shown };
    let old_columns = if form == Form::Whole { columns } else { &shape.keys };
    let whole = Event { change, relation, shape, form, columns, old_columns, truncated: false };
    if !whole.has_omitted() {
        let data = whole.json();
        if data.len() <= max_bytes {
            return data;
        }
    }
    Event { columns: &shape.keys, old_columns: &shape.keys, truncated: true, ..whole }.json()
}

/// One event about to be written, whole or cut down to its key columns.
struct Event<'a> {
    change: &'a Change,
    relation: &'a Relation,
    shape: &'a Shape,
    form: Form,
    columns: &'a [usize],
    old_columns: &'a [usize],
    truncated: bool,
}

impl Event<'_> {
    /// Whether a value that would be shown was left out on the way.
    fn has_omitted(&self) -> bool {
        let new = |index| changes::new_value(self.change, index);
        let old = self.change.old.tuple();
        (self.shown_new().is_some() && changes::has_omitted(self.columns, new))
            || old.is_some_and(|old| changes::has_omitted(self.old_columns, |index| old.get(index)))
    }

    fn shown_new(&self) -> Option<&Tuple> {
        self.change.new.as_ref().filter(|_| self.form != Form::Leave)
    }

    fn json(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"{\"table\":");
        render_name(&mut out, &self.relation.table);
        out.extend_from_slice(b",\"schema\":");
        render_name(&mut out, &self.relation.schema);
        if self.change.kind != ChangeKind::Truncate {
            out.extend_from_slice(b",\"commit_timestamp\":\"");
            timestamp::write(&mut out, self.change.commit_time_us);
            out.push(b'"');
        }
        if matches!(self.change.kind, ChangeKind::Update | ChangeKind::Delete) {
            out.extend_from_slice(b",\"old\":");
            changes::write_old_row(&mut out, self.change, self.relation, self.old_columns, usize::MAX);
        }
        if self.shown_new().is_some() {
            out.extend_from_slice(b",\"new\":");
            let value = |index| changes::new_value(self.change, index);
            changes::write_row(&mut out, self.relation, self.columns.iter().copied(), usize::MAX, value);
        }
        if self.truncated {
            out.extend_from_slice(b",\"truncated\":true");
            if let Some(new) = self.shown_new() {
                self.write_fetch(&mut out, new);
            }
        }
        out.push(b'}');
        out.into()
    }

    /// Where the whole row can be had: only when it has a key that may be shown.
    fn write_fetch(&self, out: &mut Vec<u8>, new: &Tuple) {
        let mut url = format!("/data/v1/{}", Escaped(self.relation.table.as_bytes()));
        let mut separator = '?';
        if self.relation.schema != "public" {
            let _ = write!(url, "?schema={}", Escaped(self.relation.schema.as_bytes()));
            separator = '&';
        }
        for index in &self.shape.keys {
            let (Some(column), Some(Datum::Text(text))) = (self.relation.columns.get(*index), new.get(*index)) else {
                return;
            };
            let _ = write!(url, "{separator}{}=eq.{}", Escaped(column.name.as_bytes()), Escaped(text));
            separator = '&';
        }
        if !self.shape.keys.is_empty() {
            out.extend_from_slice(b",\"fetch\":");
            render_name(out, &url);
        }
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
struct Escaped<'a>(&'a [u8]);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0 {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                f.write_char(char::from(*byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}
