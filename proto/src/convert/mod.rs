//! Wire messages to domain types and back. Prost structs stop here.
//!
//! From the domain to the wire cannot fail. From the wire it can: a node that this version does not know, or a part
//! that is missing, is [`NotUnderstood`], which callers treat as no answer. Never is an unknown part left out, as a
//! filter without one of its conditions would let more rows through. In a row policy such a node is a question for
//! Postgres, which knows all of them.

mod channels;
mod filter;
mod policy;
mod requests;
mod rows;
mod shown;

use reactor_model::TenantId;
use reactor_model::filter::Truth;
use reactor_policy_engine::Principal;

use crate::policy::v1;

pub use policy::MAX_POLICY_BYTES;
pub use requests::decision;
pub use rows::{MAX_SET_BYTES, MembersReader, member_parts};

/// A message that this version cannot read, with the part that it stumbled over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side sent a {0} that this version does not understand")]
pub struct NotUnderstood(pub &'static str);

type Result<T> = std::result::Result<T, NotUnderstood>;

fn required<T>(part: Option<T>, name: &'static str) -> Result<T> {
    part.ok_or(NotUnderstood(name))
}

/// A tenant's name from the wire.
///
/// # Errors
/// [`NotUnderstood`] when it is not a tenant's name.
pub fn tenant(text: &str) -> Result<TenantId> {
    text.parse().map_err(|_| NotUnderstood("tenant"))
}

impl From<Principal> for v1::Principal {
    fn from(principal: Principal) -> Self {
        Self {
            role: principal.role,
            permissions: principal.permissions.into_iter().collect(),
            claims_json: principal.claims_json,
        }
    }
}

fn principal(principal: Option<v1::Principal>) -> Result<Principal> {
    let principal = required(principal, "principal")?;
    Ok(Principal {
        role: principal.role,
        permissions: principal.permissions.into_iter().collect(),
        claims_json: principal.claims_json,
    })
}

impl From<Truth> for v1::Truth {
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::True => Self::True,
            Truth::False => Self::False,
            Truth::Unknown => Self::Unknown,
        }
    }
}

/// The result of a comparison from the wire. One that is not known here is unknown, so nothing is delivered on its account.
#[must_use]
pub fn truth(number: i32) -> Truth {
    known_truth(number).unwrap_or(Truth::Unknown)
}

fn known_truth(number: i32) -> Option<Truth> {
    match v1::Truth::try_from(number) {
        Ok(v1::Truth::True) => Some(Truth::True),
        Ok(v1::Truth::False) => Some(Truth::False),
        Ok(v1::Truth::Unknown) => Some(Truth::Unknown),
        Ok(v1::Truth::Unspecified) | Err(_) => None,
    }
}
