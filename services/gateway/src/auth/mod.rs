//! Who is asking: tokens are verified here, once per connection, and turned into an [`Identity`].

mod claims;
mod jwks;
mod verify;

pub use claims::{ActiveOrg, Identity, active_org};
pub use jwks::JwksCache;
pub use verify::{AuthError, TokenVerifier, VerifierSettings};
