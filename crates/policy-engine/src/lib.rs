//! The question that a gateway asks before it delivers, and the answer.
//!
//! Pure: the trait is implemented by the policy service (local) and by the gateway's gRPC client (remote).

mod channels;
mod eval;
mod program;
mod sql;
mod syntax;
mod template;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use reactor_model::filter::{BoundFilter, Filter, Operation, Truth};
use reactor_model::{Code, TenantId};

pub use channels::{
    ChannelAccess, ChannelRequest, ChannelRights, PersistRequest, PublishedTable, ReplayRequest, StoredMessage,
    StoredPayload, TablesRequest,
};
pub use eval::{CompiledPredicate, IndexKey, Lookup, RowImage, Sets, Verdict};
pub use program::{Comparator, MemberMode, MemberSet, Predicate, RowPolicy, Scalar};
pub use syntax::is_condition;
pub use template::{
    Argument, Binding, BoundValue, Fact, FunctionInfo, Knowledge, MAX_ROUNDS, Need, PolicySource, RowPolicies,
    SetTemplate, Setting, SqlType, Standalone, TableInfo, Template, Volatility, compile, compile_by_settings,
    compile_with_what_is_known,
};

/// Who asks: the parts of a verified token that decisions depend on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The database role (`role` claim).
    pub role: String,
    /// The `permissions` claim.
    pub permissions: BTreeSet<String>,
    /// All claims as JSON text. Never logged.
    pub claims_json: String,
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("role", &self.role).finish_non_exhaustive()
    }
}

/// May this principal read these columns of this table, and what does its filter mean there?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuthorizeRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// Who.
    pub principal: Principal,
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// Columns asked for; empty for all that may be read.
    pub select: Vec<String>,
    /// The filter as parsed, not yet bound to column types.
    pub filter: Filter,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "denials are few and short-lived")]
pub enum Decision {
    /// Yes, within the grant.
    Allow(Grant),
    /// No, with a reason for the client.
    Deny(Denial),
}

/// What an allowed subscription may see.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The rule that allowed it (`grant:select`, `grant:columns`, `permission:data:<table>:read`, `rule:<n>`).
    pub rule: String,
    /// Columns that may leave the gateway.
    pub columns: ColumnMask,
    /// The filter with its values as the column types print them.
    pub filter: BoundFilter,
    /// Which rows.
    pub policy: RowPolicy,
    /// Whether some rows can only be judged by Postgres: by the filter or by the policy.
    pub asks_postgres: bool,
    /// Whether the table has the tenant's org column, so that an active organisation must be known.
    pub org_scoped: bool,
    /// Whether row-level security was enabled on the table when it was decided on: if not, the decision is about no version
    /// of the table that has it.
    pub row_security: bool,
    /// Oid of the table that was decided on; 0 when not told. The decision is about no other table of the same name.
    pub table_oid: u32,
    /// The [`PolicyVersion`] of the catalog that was read.
    pub policy_version: PolicyVersion,
    /// After this the question must be asked again.
    pub recheck_after: Duration,
}

/// Columns that may leave the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ColumnMask {
    /// All, and those added later (a grant on the table).
    All,
    /// Only these (grants on columns).
    Only(BTreeSet<String>),
}

/// Why not, for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Catalogue code.
    pub code: Code,
    /// What is wrong, naming the part.
    pub message: String,
    /// How to mend it.
    pub hint: String,
}

/// One comparison that only Postgres can make: `value <operator> operand` in the column's type.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Comparison {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// The column, whose type and collation are used.
    pub column: String,
    /// The operator and operand.
    pub operation: Operation,
    /// The row's value in text form.
    pub value: String,
}

impl fmt::Debug for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comparison").field("table", &self.table).field("column", &self.column).finish_non_exhaustive()
    }
}

/// Rows of one table to be judged by Postgres as one principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// Who.
    pub principal: Principal,
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// Oid of the table; rows of another of the same name are not visible.
    pub table_oid: u32,
    /// Names of the columns that the rows' values are of.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<CheckedRow>,
}

/// One row image.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CheckedRow {
    /// Values in the order of [`CheckRequest::columns`].
    pub values: Vec<CheckedValue>,
    /// Whether the row must still be there and be visible now: so for INSERT and UPDATE. An image of a removed row is judged
    /// by its values alone.
    pub must_exist: bool,
}

/// One value of a row image.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum CheckedValue {
    /// Not known.
    Missing,
    /// SQL NULL.
    Null,
    /// The text form.
    Text(String),
}

impl fmt::Debug for CheckedValue {
    /// Leaves the value out: it never reaches logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "Missing",
            Self::Null => "Null",
            Self::Text(_) => "Text",
        })
    }
}

impl fmt::Debug for CheckedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckedRow({} columns)", self.values.len())
    }
}

/// The rows of a set for one principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// Who.
    pub principal: Principal,
    /// Schema of the table whose policy has the set.
    pub schema: String,
    /// Name of that table.
    pub table: String,
    /// The set.
    pub set: MemberSet,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// All of its rows, as of a moment after the request was made.
    Rows(Vec<MemberRow>),
    /// More rows or bytes than are kept, or a query that raises: Postgres is asked row by row.
    TooMany,
    /// The table's policies have no such set any more: the decision must be asked again.
    Changed,
}

/// One row of a set.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MemberRow {
    /// Values of [`MemberSet::identity`].
    pub identity: Vec<Option<String>>,
    /// Values of [`MemberSet::keys`].
    pub keys: Vec<Option<String>>,
}

impl fmt::Debug for MemberRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberRow({} keys)", self.keys.len())
    }
}

/// Names the state of everything that decisions depend on: another one whenever a policy, grant, role or function changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyVersion(pub u64);

/// Answers who may read what. No answer is a deny.
pub trait Authorizer: Send + Sync + fmt::Debug {
    /// Decides on a subscription.
    fn authorize(&self, request: AuthorizeRequest) -> BoxFuture<'_, Result<Decision, AuthorizerError>>;

    /// Makes comparisons in Postgres, in the order given.
    fn compare(
        &self,
        tenant: TenantId,
        comparisons: Vec<Comparison>,
    ) -> BoxFuture<'_, Result<Vec<Truth>, AuthorizerError>>;

    /// Has Postgres judge rows: whether each is visible to the principal. A row for which the policy raises is not.
    fn check_rows(&self, request: CheckRequest) -> BoxFuture<'_, Result<Vec<bool>, AuthorizerError>>;

    /// Reads a set.
    fn members(&self, request: MembersRequest) -> BoxFuture<'_, Result<Members, AuthorizerError>>;

    /// The published tables that match, in order.
    fn tables(&self, _request: TablesRequest) -> BoxFuture<'_, Result<Vec<PublishedTable>, AuthorizerError>> {
        unanswered()
    }

    /// What a principal may do in a private channel; nothing when the policies raise an error.
    fn channel_rights(&self, _request: ChannelRequest) -> BoxFuture<'_, Result<ChannelRights, AuthorizerError>> {
        unanswered()
    }

    /// The newest stored broadcasts of a private channel, in the order in which they were committed.
    fn replay(&self, _request: ReplayRequest) -> BoxFuture<'_, Result<Vec<StoredMessage>, AuthorizerError>> {
        unanswered()
    }

    /// Stores a broadcast; false when the policies do not allow it.
    fn persist(&self, _request: PersistRequest) -> BoxFuture<'_, Result<bool, AuthorizerError>> {
        unanswered()
    }

    /// The version, at once and then again at least every second while it is known to be the present one. Ends when the
    /// source is lost; it is then watched again by another call.
    fn watch(&self, tenant: TenantId) -> BoxStream<'static, PolicyVersion>;

    /// Why no answer can be had right now, for `/ready`; `None` when it can.
    fn unavailable(&self) -> Option<String>;
}

/// The answer of one that does not know the question.
fn unanswered<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, AuthorizerError>> {
    Box::pin(std::future::ready(Err(AuthorizerError::Unavailable("it does not answer such questions".to_owned()))))
}

/// No answer could be had.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizerError {
    /// Not reachable, or its database is not.
    #[error("policy is unavailable: {0}")]
    Unavailable(String),
    /// No answer within the deadline.
    #[error("policy did not answer in time")]
    Timeout,
    /// The tenant is not known to it.
    #[error("policy does not know the tenant")]
    UnknownTenant,
}
