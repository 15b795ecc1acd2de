//! Identifiers that are part of every key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The isolation unit: one tenant is one database. Part of every key, subject and cache entry.
///
/// 1 to 63 characters of `a-z`, `A-Z`, `0-9`, `-` and `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The longest identifier, in bytes: that of a DNS label, since hosts name tenants.
    pub const MAX_BYTES: usize = 63;

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A tenant identifier has a character that is not allowed, or a wrong length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tenant ids have 1 to 63 characters of a-z, A-Z, 0-9, '-' and '_'")]
pub struct InvalidTenantId;

impl FromStr for TenantId {
    type Err = InvalidTenantId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.bytes().all(allowed) {
            return Err(InvalidTenantId);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one unbroken history of a tenant. Positions of two epochs cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_are_checked() {
        assert!("acme".parse::<TenantId>().is_ok());
        assert!("realtime-dev_1".parse::<TenantId>().is_ok());
        for wrong in ["", "a.b", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(wrong.parse::<TenantId>(), Err(InvalidTenantId), "{wrong}");
        }
    }
}
