//! Names on the bus: channels, owners, entries.

use std::fmt;
use std::sync::Arc;

use reactor_model::TenantId;

/// Public and private channels of one topic have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Anybody of the tenant may join.
    Public,
    /// Policies decide who may.
    Private,
}

/// What messages and presences are addressed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// Whose it is.
    pub tenant: TenantId,
    /// Public or private.
    pub scope: Scope,
    /// Any text.
    pub topic: Arc<str>,
}

impl Channel {
    /// The channel of these three.
    #[must_use]
    pub fn new(tenant: TenantId, scope: Scope, topic: impl Into<Arc<str>>) -> Self {
        Self { tenant, scope, topic: topic.into() }
    }
}

/// One run of one process that has presences. Never used again by another run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(Arc<str>);

impl OwnerId {
    /// Of the name, only so much is kept, so that an identifier stays one short token.
    const MAX_NAME_BYTES: usize = 40;

    /// A new identifier that begins with a name for people, such as a host's. What is not a letter, digit, `-` or `_`
    /// becomes `-`.
    #[must_use]
    pub fn unique(name: &str) -> Self {
        let kept = |c: char| if is_allowed(c) { c } else { '-' };
        let name: String = name.chars().map(kept).take(Self::MAX_NAME_BYTES).collect();
        Self(format!("{name}-{:016x}", rand::random::<u64>()).into())
    }

    /// The identifier that this token is; `None` when it cannot be one.
    pub(crate) fn from_token(token: &str) -> Option<Self> {
        (!token.is_empty() && token.chars().all(is_allowed)).then(|| Self(token.into()))
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which presence entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Where it is.
    pub channel: Channel,
    /// Whose it is.
    pub owner: OwnerId,
    /// Tells the owner's entries in the channel apart; any text.
    pub key: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_short_tokens_and_never_equal() {
        let owner = OwnerId::unique("gateway.7 ä");
        assert!(owner.as_str().starts_with("gateway-7---"), "{owner}");
        assert_ne!(owner, OwnerId::unique("gateway.7 ä"));
        assert_eq!(OwnerId::from_token(owner.as_str()), Some(owner));
        assert!(OwnerId::unique(&"x".repeat(500)).as_str().len() < 64);
        assert_eq!(OwnerId::from_token("a.b"), None);
        assert_eq!(OwnerId::from_token(""), None);
    }
}
