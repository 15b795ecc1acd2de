//! Input: frames of the client.

use bytes::Bytes;
use serde_json::Value;

use super::output::{Answered, reason};
use super::{Now, Session};
use crate::texts::{Close, UNMATCHED_TOPIC};
use crate::wire::{Frame, FrameRefusal, MAX_FRAME_BYTES, Payload};

/// The topic of heartbeats.
pub(super) const PHOENIX: &str = "phoenix";

impl<I: Clone> Session<I> {
    /// A text frame came. An error says why it was dropped, for logs and counters; the connection goes on.
    ///
    /// # Errors
    /// [`FrameRefusal`], which the client is not told of.
    pub fn handle_text(&mut self, text: &Bytes, now: Now) -> Result<(), FrameRefusal> {
        self.check_frame(text, now)?;
        let frame = self.out.version().wire().decode_text(text)?;
        self.on_frame(frame, now)
    }

    /// A binary frame came.
    ///
    /// # Errors
    /// As for [`Self::handle_text`].
    pub fn handle_binary(&mut self, bytes: &Bytes, now: Now) -> Result<(), FrameRefusal> {
        self.check_frame(bytes, now)?;
        let frame = self.out.version().wire().decode_binary(bytes)?;
        self.on_frame(frame, now)
    }

    /// A control frame came: the connection is not idle.
    pub fn handle_activity(&mut self, now: Now) {
        self.last_heard = now.instant;
    }

    fn check_frame(&mut self, bytes: &Bytes, now: Now) -> Result<(), FrameRefusal> {
        self.handle_activity(now);
        if bytes.len() > MAX_FRAME_BYTES {
            self.out.close(Close::FrameTooLarge);
        }
        if self.out.is_closed() { Err(FrameRefusal::Closed) } else { Ok(()) }
    }

    /// Matches on the topic only: frames with a stale or no join reference are taken, but for `phx_leave`.
    pub(super) fn on_frame(&mut self, frame: Frame, now: Now) -> Result<(), FrameRefusal> {
        match (frame.topic.as_str(), frame.event.as_str()) {
            (PHOENIX, "heartbeat") => {
                self.on_heartbeat(&frame, now);
                return Ok(());
            }
            (_, "phx_join") => return self.on_join(&frame, now),
            _ => {}
        }
        let Some(index) = self.index_of_topic(&frame.topic) else {
            self.on_unmatched(&frame);
            return Ok(());
        };
        if frame.event == "phx_leave" {
            self.on_leave(index, &frame, now);
            return Ok(());
        }
        if let Some(joining) = self.channels.get_mut(index).and_then(|channel| channel.joining.as_mut()) {
            return if joining.keep(frame) { Ok(()) } else { Err(FrameRefusal::TooEarly) };
        }
        match frame.event.as_str() {
            "broadcast" => self.on_broadcast(index, &frame),
            "presence" => self.on_presence(index, &frame, now),
            "presence_diff" => self.on_bare_presence(index, &frame, now),
            "access_token" => {
                self.on_access_token(index, &frame);
                Ok(())
            }
            _ => Err(FrameRefusal::UnknownEvent),
        }
    }

    /// Tokens are looked at with heartbeats, as older servers promised.
    fn on_heartbeat(&mut self, frame: &Frame, now: Now) {
        let to = Answered { join_ref: None, reference: frame.reference.as_ref(), topic: PHOENIX };
        self.out.reply_ok(to, &[b"{}"]);
        self.end_expired(now);
        self.verify_with_heartbeat(now);
    }

    fn on_unmatched(&mut self, frame: &Frame) {
        let mut to = Answered { join_ref: None, reference: frame.reference.as_ref(), topic: &frame.topic };
        if frame.event == "phx_leave" {
            to.join_ref = frame.join_ref.as_ref();
            self.out.reply_ok(to, &[b"{}"]);
        } else {
            self.out.reply_error(to, &reason(&UNMATCHED_TOPIC));
        }
    }

    fn on_leave(&mut self, index: usize, frame: &Frame, now: Now) {
        let Some(channel) = self.channels.get(index) else { return };
        let is_stale = matches!((&frame.join_ref, &channel.join_ref), (Some(left), Some(joined)) if left != joined);
        if is_stale {
            let join_ref = frame.join_ref.as_ref();
            let to = Answered { join_ref, reference: frame.reference.as_ref(), topic: &frame.topic };
            self.out.reply_ok(to, &[b"{}"]);
            return;
        }
        self.out.reply_ok(channel.answering(frame.reference.as_ref()), &[b"{}"]);
        self.out.phx_close(channel);
        self.remove(index, now);
    }
}

/// The payload as a tree; `None` for what is no JSON, or nested deeper than is read.
pub(super) fn tree(frame: &Frame) -> Option<Value> {
    match &frame.payload {
        Payload::Json(json) => serde_json::from_slice(json).ok(),
        Payload::Binary(_) | Payload::Broadcast { .. } => None,
    }
}
