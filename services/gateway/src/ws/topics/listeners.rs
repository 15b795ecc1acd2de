//! Who gets a channel's broadcasts. Clients with equal audiences get the same bytes, encoded once.

use std::collections::BTreeMap;
use std::sync::Arc;

use reactor_protocol::audience::Audience;
use reactor_protocol::broadcast::{Broadcast, Origin};
use reactor_protocol::replay::{Pass, ReplayGate};
use reactor_protocol::session::{ChannelId, ReplayRefused};

use crate::ws::frame::Shared;
use crate::ws::inbox::{Port, Told};

/// A client that listens to broadcasts.
#[derive(Debug)]
pub struct Listener {
    /// Its connection.
    pub port: Arc<Port>,
    /// Its channel there.
    pub channel: ChannelId,
    /// Whether it gets what it sent itself.
    pub own: bool,
    /// Holds broadcasts back while the past is read.
    pub gate: Option<Box<ReplayGate>>,
    /// Whether more has come meanwhile than is held back: its join is refused.
    pub is_lost: bool,
}

/// By audience the clients.
#[derive(Debug, Default)]
pub(super) struct Listeners(BTreeMap<Audience, BTreeMap<Origin, Listener>>);

impl Listeners {
    pub(super) fn add(&mut self, origin: Origin, audience: &Audience, listener: Listener) {
        match self.0.get_mut(audience) {
            Some(members) => members.insert(origin, listener),
            None => self.0.entry(audience.clone()).or_default().insert(origin, listener),
        };
    }

    pub(super) fn remove(&mut self, origin: Origin, audience: &Audience) {
        if let Some(members) = self.0.get_mut(audience) {
            members.remove(&origin);
            if members.is_empty() {
                self.0.remove(audience);
            }
        }
    }

    /// Returns how many got it.
    pub(super) fn deliver(&mut self, origin: Option<Origin>, broadcast: &Broadcast) -> u64 {
        let mut delivered = 0;
        for (audience, members) in &mut self.0 {
            let mut encoded = None;
            for (member, listener) in members {
                if (origin == Some(*member) && !listener.own) || !listener.passes(broadcast) {
                    continue;
                }
                let encode = || audience.encode_broadcast(broadcast).map(Shared::new);
                let Some(shared) = encoded.get_or_insert_with(encode) else { break };
                delivered += u64::from(listener.port.send_shared(shared));
            }
        }
        delivered
    }

    pub(super) fn open(&mut self, origin: Origin, audience: &Audience, replayed: Vec<String>) {
        let listener = self.0.get_mut(audience).and_then(|members| members.get_mut(&origin));
        let Some(listener) = listener else { return };
        let Some(gate) = &mut listener.gate else { return };
        for broadcast in gate.open(replayed) {
            if let Some(message) = audience.encode_broadcast(&broadcast) {
                listener.port.send_message(&message);
            }
        }
    }
}

impl Listener {
    fn passes(&mut self, broadcast: &Broadcast) -> bool {
        match self.gate.as_mut().map_or(Pass::Deliver, |gate| gate.offer(broadcast)) {
            Pass::Deliver => true,
            Pass::Hold => false,
            Pass::Overflow => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    self.port.tell(Told::Replayed(self.channel, Err(ReplayRefused)));
                }
                false
            }
        }
    }
}
