//! Any bytes as a frame of each version, as a frame of the server, and as an envelope between gateways: what is read is read again
//! of what is written of it.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use reactor_protocol::audience::{Audience, Style};
use reactor_protocol::broadcast::{Broadcast, Envelope};
use reactor_protocol::client;
use reactor_protocol::wire::{Encoded, Frame, FrameRefusal, WireVersion};

const VERSIONS: [WireVersion; 2] = [WireVersion::V1, WireVersion::V2];

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    for version in VERSIONS {
        for sent in [Encoded::Text(bytes.clone()), Encoded::Binary(bytes.clone())] {
            if let Ok(frame) = read(version, &sent) {
                let written = client::encode_frame(version, &frame).expect("it had a form");
                assert_eq!(read(version, &written), Ok(frame));
            }
            let _ = client::decode(version, &sent);
        }
    }
    if let Ok(envelope) = Envelope::decode(&bytes) {
        deliver(&envelope.broadcast);
        assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
    }
});

fn read(version: WireVersion, frame: &Encoded) -> Result<Frame, FrameRefusal> {
    match frame {
        Encoded::Text(text) => version.wire().decode_text(text),
        Encoded::Binary(bytes) => version.wire().decode_binary(bytes),
    }
}

/// The payload is trusted to be JSON where it says so; the rest of it reaches clients as it is.
fn deliver(broadcast: &Broadcast) {
    for version in VERSIONS {
        let audience = Audience { version, style: Style::Standard, topic: "realtime:a".into() };
        let Some(frame) = audience.encode_broadcast(broadcast) else { continue };
        if let Ok(seen) = client::decode(version, &frame) {
            assert_eq!((seen.topic.as_str(), seen.event.as_str()), ("realtime:a", "broadcast"));
        }
    }
}
