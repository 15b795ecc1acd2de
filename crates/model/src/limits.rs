//! Hard bounds, each with its reason. Those that an operator may change are defaults here.

/// Conditions of an `in` filter: the bound of the protocol that we are compatible with.
pub const MAX_IN_VALUES: usize = 100;

/// Conditions of one filter. Each costs an evaluation per change; no real filter comes near.
pub const MAX_FILTER_CONDITIONS: usize = 64;

/// Nesting of `or=(…)`/`and(…)` in a filter, so that recursion is bounded.
pub const MAX_FILTER_DEPTH: usize = 8;

/// Bytes of one filter's text, the longest request line that proxies pass on.
pub const MAX_FILTER_BYTES: usize = 16 * 1024;

/// Default bytes of one event's data before it is truncated to its key columns.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// Default subscriptions of one connection.
pub const MAX_SUBSCRIPTIONS: usize = 20;
