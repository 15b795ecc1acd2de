//! Compiles the row policies of a table into a template, once per role, and binds it for each principal.
//!
//! Every largest part that mentions no column becomes a [`Binding`]: Postgres evaluates it, as the role with the claims.
//! That is allowed only where it provably depends on nothing but settings, role and claims. Parts over columns are
//! translated where the evaluation outside Postgres has exactly its results. What is neither is [`Predicate::Ask`].
//!
//! What must be known from the catalog is asked for: [`compile`] returns [`Need`]s until all are known.

mod bind;
mod compare;
mod compiler;
mod facts;
mod fixed;
mod fold;
mod inline;
mod knowledge;
mod predicate;
mod print;
mod raising;
mod scalar;
mod scope;
mod sets;
mod settings;
mod settled;
mod standalone;
mod types;

use reactor_model::Relation;

use crate::program::{MemberSet, Predicate};

pub use knowledge::{Argument, Fact, FunctionInfo, Knowledge, Need, RowPolicies, SqlType, TableInfo, Volatility};
pub use settings::Setting;
pub use standalone::Standalone;

/// [`compile`] is called again with what it asked for; a policy that still needs more after so many rounds is taken with
/// what is known ([`compile_with_what_is_known`]).
pub const MAX_ROUNDS: usize = 16;

/// What the policies of a table say for a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// The table: its published columns.
    pub relation: Relation,
    /// Whether row policies apply to the role; if not, only the rules count.
    pub row_security: bool,
    /// Texts of `pg_get_expr`, of which one must hold; none: no row.
    pub permissive: Vec<String>,
    /// Texts of `pg_get_expr`, which all must hold.
    pub restrictive: Vec<String>,
    /// Predicates of configured rules, of which one must hold as well; none: no restriction.
    pub rules: Vec<String>,
}

/// The policies of a table for a role, compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    /// Which rows, with [`Scalar::Bound`](crate::Scalar::Bound) for what depends on the principal.
    pub predicate: Predicate,
    /// What Postgres evaluates for each principal.
    pub bindings: Vec<Binding>,
    /// The sets that the predicate names.
    pub sets: Vec<SetTemplate>,
    /// The whole policy as one boolean expression over the row, whose table is in scope under its own name.
    pub sql: String,
    /// That part of it which the table does not have itself: the configured rules.
    pub rules: Option<String>,
    /// Whether what is left to Postgres may read claims that no binding holds.
    pub opaque: bool,
}

/// An expression without columns, evaluated as the role with the claims.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The expression.
    pub sql: String,
    /// Its type; 0 when only its text matters.
    pub type_oid: u32,
    /// Of [`compile_by_settings`]: what it is instead of an expression.
    pub setting: Option<Setting>,
}

/// A set and how it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SetTemplate {
    /// The set, with bindings in its condition.
    pub set: MemberSet,
    /// Its query: the identity's columns, then the keys. Values are wanted as plain output prints them, not cast to text.
    pub sql: String,
    /// The role that it runs as; `None` for the policy's own. The claims are the principal's in any case.
    pub reader: Option<String>,
}

/// What a binding came to.
#[derive(Clone, PartialEq, Eq)]
pub enum BoundValue {
    /// Its text; `None` is NULL.
    Value(Option<String>),
    /// It raises an error.
    Raised,
}

impl std::fmt::Debug for BoundValue {
    /// Leaves the value out: it never reaches logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Value(_) => "Value",
            Self::Raised => "Raised",
        })
    }
}

/// Compiles the policies of a table.
///
/// # Errors
/// When something must be known from the catalog first: the answers are to be added, and the call made again.
pub fn compile(source: &PolicySource, knowledge: &Knowledge) -> Result<Template, Vec<Need>> {
    compiler::compile(source, knowledge)
}

/// As [`compile`], with what is known: whatever is not is left to Postgres.
#[must_use]
pub fn compile_with_what_is_known(source: &PolicySource, knowledge: &Knowledge) -> Template {
    compiler::compile_known(source, knowledge)
}

/// As [`compile`], for who knows the settings: each of them is a binding by itself, and what is made of it is compiled. What
/// the other bindings come to is the same for all settings that are read. No part is looked up in sets.
///
/// # Errors
/// As of [`compile`].
pub fn compile_by_settings(source: &PolicySource, knowledge: &Knowledge) -> Result<Template, Vec<Need>> {
    compiler::compile_by_settings(source, knowledge)
}

#[cfg(test)]
mod tests;
