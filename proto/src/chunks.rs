//! Lists that are too long for one message.

use prost::Message;

/// Bytes of a list in one message, well below the 4 MiB that gRPC takes by default.
pub const MESSAGE_BYTES: usize = 1024 * 1024;

/// Splits a list in order, so that each part takes at most [`MESSAGE_BYTES`] or is one item that is larger by itself.
pub fn chunks<M: Message>(items: impl IntoIterator<Item = M>) -> Vec<Vec<M>> {
    let mut chunks: Vec<Vec<M>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let size = item.encoded_len() + TAG_BYTES;
        match chunks.last_mut() {
            Some(chunk) if bytes + size <= MESSAGE_BYTES => chunk.push(item),
            _ => {
                bytes = 0;
                chunks.push(vec![item]);
            }
        }
        bytes += size;
    }
    chunks
}

/// What an item takes beside itself: its field's number and its length.
const TAG_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::v1::NullableText;

    #[test]
    fn large_items_travel_in_several_messages() {
        let sizes = [MESSAGE_BYTES / 2, MESSAGE_BYTES / 3, MESSAGE_BYTES / 2, 3 * MESSAGE_BYTES, 1, 1];
        let item = |size: usize| NullableText { text: Some("x".repeat(size)) };
        let counts: Vec<usize> = chunks(sizes.map(item)).iter().map(Vec::len).collect();
        assert_eq!(counts, [2, 1, 1, 2]);
        assert!(chunks(Vec::<NullableText>::new()).is_empty());
    }
}
