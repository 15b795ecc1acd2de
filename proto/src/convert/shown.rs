//! `Debug` of the messages that hold claims or row values: it shows none.

use std::fmt;

use crate::policy::v1;

impl fmt::Debug for v1::Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("role", &self.role).finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comparison").field("table", &self.table).field("column", &self.column).finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Literal").field("type_oid", &self.type_oid).finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::CheckedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedValue").finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::NullableText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NullableText").finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::ChannelRightsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelRightsRequest").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::StoredMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredMessage").field("id", &self.id).finish_non_exhaustive()
    }
}
