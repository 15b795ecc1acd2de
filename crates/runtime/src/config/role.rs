//! What a process is, which says what it must be told.

use std::fmt;

/// The part that a process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// All services in one process, without NATS.
    Serve,
    /// Holds the clients' connections.
    Gateway,
    /// Owns the replication slot.
    Replicator,
    /// Says who may read what.
    Policy,
    /// A command of the CLI: knows every setting and requires none.
    Tool,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Self] = &[Self::Serve, Self::Gateway, Self::Replicator, Self::Policy, Self::Tool];

    /// In the documentation and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Gateway => "gateway",
            Self::Replicator => "replicator",
            Self::Policy => "policy",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
