//! The catalogue of error codes: what clients see, what they should do, and how each is counted.
//!
//! `docs/errors.md` is generated from this table.

use std::fmt;

macro_rules! catalogue {
    ($($variant:ident $text:literal $status:literal $retry:ident $meaning:literal $remedy:literal;)*) => {
        /// A named refusal, close or drop.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it appears on the wire and in metric labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// HTTP status when a request is refused with this code; 0 for codes that only close a connection.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// What a client should do about reconnecting.
            #[must_use]
            pub const fn reconnect(self) -> Reconnect {
                match self { $(Self::$variant => Reconnect::$retry,)* }
            }

            /// What happened, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What to do about it; the default hint of a refusal.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }

            /// The code with this wire text.
            #[must_use]
            pub fn from_wire(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }
    };
}

/// Whether and how a client should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Trying again without a change gives the same answer.
    No,
    /// After a backoff with jitter, with the last event id.
    Backoff,
    /// At once, or after the `retry` that was sent, with the last event id.
    Resume,
}

catalogue! {
    TokenMissing "token_missing" 401 No "No token was sent." "send Authorization: Bearer <token>, or access_token= where headers cannot be set";
    TokenInvalid "token_invalid" 401 No "The token is malformed, its signature does not verify, or a claim is missing or refused." "get a token signed with the configured secret or key, with the claims role and exp";
    TokenExpired "token_expired" 401 No "The token's exp has passed." "refresh the token and reconnect with the last event id";
    KeysUnavailable "keys_unavailable" 503 Backoff "The keys that tokens are verified with cannot be fetched." "retry after the time in Retry-After; check REACTOR_JWKS_URL";
    OrgForbidden "org_forbidden" 403 No "The active organisation is not one of the token's." "send X-Reactor-Org with one of the organisations in the token";
    PermissionDenied "permission_denied" 403 No "The role may not read the table or a named column." "grant SELECT to the role, or put data:<table>:read in the token's permissions, or configure a rule in policy.rules";
    RoleUnusable "role_unusable" 403 No "The policies of the table cannot be evaluated as the token's role." "let the policy service's database user act as the role: GRANT <role> TO <user>";
    PolicyInvalid "policy_invalid" 403 No "A configured rule for the table is no condition that Postgres accepts." "correct `using` of the rule in policy.rules";
    PolicyTooLarge "policy_too_large" 0 No "A subquery in the table's policies has more for the token than is kept, and the policy service, an older one, does not let Postgres be asked row by row." "update the policy service, or let the subquery ask for fewer rows";
    TableUnknown "table_unknown" 404 No "The table does not exist or is not in the publication." "check schema and name, and add the table to the publication";
    TenantUnknown "tenant_unknown" 404 No "No such tenant." "check the host name or the tenant setting";
    NotFound "not_found" 404 No "No such path." "see the list of URLs in the documentation";
    MethodNotAllowed "method_not_allowed" 405 No "The path does not take this method." "use the method that the documentation names";
    BadRequest "bad_request" 400 No "The request is malformed." "see the message";
    PayloadTooLarge "payload_too_large" 413 No "The request's body is too large." "shorten the filters, or open several connections";
    BadFilter "bad_filter" 400 No "A filter cannot be parsed, or names an unknown column, operator or value." "see the message for the part and what is allowed";
    TooManySubscriptions "too_many_subscriptions" 400 No "The request has more subscriptions than one connection may hold." "open another connection for the rest";
    RealtimeDisabled "realtime_disabled" 503 No "Realtime is switched off." "set REACTOR_REALTIME_ENABLED=true";
    TooManyConnections "too_many_connections" 429 Backoff "A limit on connections is reached." "retry after the time in Retry-After";
    NotReady "not_ready" 503 Backoff "The server cannot take subscriptions yet." "retry after the time in Retry-After";
    PolicyUnavailable "policy_unavailable" 503 Backoff "The policy service did not answer; without an answer nothing is delivered." "retry; check the policy service's /ready";
    Draining "draining" 503 Resume "The server is leaving." "reconnect after the retry that was sent, with the last event id";
    SlowConsumer "slow_consumer" 0 Backoff "The connection read too slowly and its queue passed its bound." "reconnect with the last event id; narrow the filter or the columns";
    SchemaChanged "schema_changed" 0 Resume "A column that the filter needs was changed or dropped." "reconnect with the last event id; the filter is checked again";
    Internal "internal" 500 Backoff "An error that should not happen." "retry; report it with the server's log";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_found_by_their_text() {
        for code in Code::ALL {
            assert_eq!(Code::from_wire(code.as_str()), Some(*code));
        }
        assert_eq!(Code::from_wire("no_such_code"), None);
    }
}
