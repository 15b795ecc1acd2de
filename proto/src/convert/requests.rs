//! Questions about a subscription and their decisions; comparisons.

use std::fmt::Write as _;
use std::time::Duration;

use reactor_model::Code;
use reactor_policy_engine::{AuthorizeRequest, ColumnMask, Comparison, Decision, Denial, Grant, PolicyVersion};
use sha2::{Digest, Sha256};

use super::{NotUnderstood, Result, policy, principal, required, tenant};
use crate::policy::v1;

impl From<AuthorizeRequest> for v1::AuthorizeRequest {
    fn from(request: AuthorizeRequest) -> Self {
        Self {
            tenant: request.tenant.to_string(),
            principal: Some(request.principal.into()),
            schema: request.schema,
            table: request.table,
            select: request.select,
            filter: Some(request.filter.into()),
        }
    }
}

impl TryFrom<v1::AuthorizeRequest> for AuthorizeRequest {
    type Error = NotUnderstood;

    fn try_from(request: v1::AuthorizeRequest) -> Result<Self> {
        Ok(Self {
            tenant: tenant(&request.tenant)?,
            principal: principal(request.principal)?,
            schema: request.schema,
            table: request.table,
            select: request.select,
            filter: required(request.filter, "filter")?.try_into()?,
        })
    }
}

impl From<Decision> for v1::AuthorizeResponse {
    fn from(decision: Decision) -> Self {
        let decision = match decision {
            Decision::Allow(grant) if grant.policy.is_everything() => {
                v1::authorize_response::Decision::Allow(grant.into())
            }
            Decision::Allow(grant) => v1::authorize_response::Decision::AllowRows(grant.into()),
            Decision::Deny(denial) => v1::authorize_response::Decision::Deny(v1::Denial {
                code: denial.code.as_str().to_owned(),
                message: denial.message,
                hint: denial.hint,
            }),
        };
        Self { decision: Some(decision) }
    }
}

/// The decision on this request, from the wire.
///
/// # Errors
/// [`NotUnderstood`], which is no answer.
pub fn decision(response: v1::AuthorizeResponse, request: &AuthorizeRequest) -> Result<Decision> {
    use v1::authorize_response::Decision::{Allow, AllowRows, Deny};
    Ok(match required(response.decision, "decision")? {
        Allow(granted) | AllowRows(granted) => Decision::Allow(grant(granted, request)?),
        Deny(denial) => Decision::Deny(Denial {
            // A newer service may have reasons that this version has no code for. It is a deny all the same.
            code: Code::from_wire(&denial.code).unwrap_or(Code::PermissionDenied),
            message: denial.message,
            hint: denial.hint,
        }),
    })
}

impl From<Grant> for v1::Grant {
    fn from(grant: Grant) -> Self {
        let mask = match grant.columns {
            ColumnMask::All => v1::column_mask::Mask::All(v1::AllColumns {}),
            ColumnMask::Only(names) => {
                v1::column_mask::Mask::Only(v1::ColumnNames { names: names.into_iter().collect() })
            }
        };
        Self {
            rule: grant.rule,
            columns: Some(v1::ColumnMask { mask: Some(mask) }),
            filter: Some(grant.filter.into()),
            policy: Some(grant.policy.into()),
            asks_postgres: grant.asks_postgres,
            org_scoped: grant.org_scoped,
            row_security: grant.row_security,
            table_oid: grant.table_oid,
            policy_version: grant.policy_version.0,
            recheck_after_ms: u64::try_from(grant.recheck_after.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn grant(grant: v1::Grant, request: &AuthorizeRequest) -> Result<Grant> {
    let columns = match required(grant.columns.and_then(|columns| columns.mask), "column mask")? {
        v1::column_mask::Mask::All(v1::AllColumns {}) => ColumnMask::All,
        v1::column_mask::Mask::Only(only) => ColumnMask::Only(only.names.into_iter().collect()),
    };
    let (mut policy, asks) = policy::read(required(grant.policy, "grant without a row policy")?);
    if asks {
        // The service may know no node that asks, and then gave no key.
        policy.check_key.get_or_insert_with(|| unshared_key(request, grant.table_oid));
    }
    Ok(Grant {
        rule: grant.rule,
        columns,
        filter: required(grant.filter, "filter")?.try_into()?,
        policy,
        asks_postgres: grant.asks_postgres || asks,
        org_scoped: grant.org_scoped,
        row_security: grant.row_security,
        table_oid: grant.table_oid,
        policy_version: PolicyVersion(grant.policy_version),
        recheck_after: Duration::from_millis(grant.recheck_after_ms),
    })
}

/// A check key that only those share who are the same principal to Postgres: same role, same claims, same table. It is the same
/// whenever the question is asked again, so that an unchanged subscription stays where it is.
fn unshared_key(request: &AuthorizeRequest, table_oid: u32) -> String {
    let mut hash = Sha256::new();
    let principal = &request.principal;
    let texts = [request.tenant.as_str(), &request.schema, &request.table, &principal.role, &principal.claims_json];
    for text in texts.into_iter().chain(principal.permissions.iter().map(String::as_str)) {
        // Its length first, so that no two lists of texts are the same bytes.
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    hash.update(table_oid.to_le_bytes());
    hash.finalize().iter().fold("unshared:".to_owned(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    })
}

impl From<Comparison> for v1::Comparison {
    fn from(comparison: Comparison) -> Self {
        Self {
            schema: comparison.schema,
            table: comparison.table,
            column: comparison.column,
            operation: Some(comparison.operation.into()),
            value: comparison.value,
        }
    }
}

impl TryFrom<v1::Comparison> for Comparison {
    type Error = NotUnderstood;

    fn try_from(comparison: v1::Comparison) -> Result<Self> {
        Ok(Self {
            schema: comparison.schema,
            table: comparison.table,
            column: comparison.column,
            operation: required(comparison.operation, "operation")?.try_into()?,
            value: comparison.value,
        })
    }
}
