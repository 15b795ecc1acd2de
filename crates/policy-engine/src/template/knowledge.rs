//! What the compiler must know from the catalog, and how it asks for it.

use std::collections::{BTreeMap, BTreeSet};

use reactor_model::Relation;

/// Something that the compiler must know. Answered with the [`Fact`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Every function of this name, whatever its arguments.
    Function {
        /// Its schema; `None`: all schemas of the search path with which policies are evaluated, `pg_catalog` included.
        schema: Option<String>,
        /// Its name.
        name: String,
    },
    /// A type that is not of Postgres's grammar.
    Type {
        /// As SQL, with its quotes, perhaps with `[]`, as `to_regtype` reads it.
        name: String,
    },
    /// A table that a subquery reads.
    Table {
        /// Its schema; `None`: found by the search path with which policies are evaluated.
        schema: Option<String>,
        /// Its name.
        name: String,
        /// Whose rights and row policies count: the owner of a `SECURITY DEFINER` function; `None` for the policy's own role.
        reader: Option<String>,
    },
    /// The type of an expression that depends on no row.
    TypeOf {
        /// The expression.
        sql: String,
    },
}

/// The answer to a [`Need`].
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// The functions found.
    Functions(Vec<FunctionInfo>),
    /// The type.
    Type(SqlType),
    /// The table.
    Table(Box<TableInfo>),
    /// The expression's type, domains looked through.
    TypeOf(u32),
    /// There is no such thing, or it cannot be told: what needs it is left to Postgres.
    Unknown,
}

/// All that is known from the catalog at one moment for one role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knowledge {
    facts: BTreeMap<Need, Fact>,
}

impl Knowledge {
    /// Records an answer.
    pub fn learn(&mut self, need: Need, fact: Fact) {
        self.facts.insert(need, fact);
    }

    /// What is known of it.
    #[must_use]
    pub fn fact(&self, need: &Need) -> Option<&Fact> {
        self.facts.get(need)
    }
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionInfo {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its language (`sql`, `plpgsql`, `internal` …).
    pub language: String,
    /// For a function in SQL: `pg_get_function_sqlbody`, or else `prosrc`.
    pub body: Option<String>,
    /// Whether `body` is from `pg_get_function_sqlbody`: its names were resolved when the function was made.
    pub parsed_body: bool,
    /// The arguments that are passed in.
    pub arguments: Vec<Argument>,
    /// How many of the last arguments have defaults.
    pub defaults: usize,
    /// Whether the last argument is `VARIADIC`.
    pub variadic: bool,
    /// Oid of the result's type.
    pub result: u32,
    /// Whether `STRICT`.
    pub strict: bool,
    /// Whether it returns a set.
    pub returns_set: bool,
    /// `provolatile`.
    pub volatility: Volatility,
    /// Whether `SECURITY DEFINER`.
    pub security_definer: bool,
    /// Its owner's name.
    pub owner: String,
    /// Its `SET` clauses, as `proconfig` has them.
    pub settings: Vec<String>,
    /// Whether the role may execute it. That alone counts where a policy or a body that was parsed calls it.
    pub executable: bool,
    /// Whether the role has `USAGE` of its schema, which a text that calls it needs: a function's body, or a rule.
    pub usable: bool,
    /// Whether it is a plain function: no aggregate, no window function, no procedure.
    pub plain: bool,
}

impl FunctionInfo {
    /// The search path that it sets, as `proconfig` has it.
    pub(super) fn search_path(&self) -> Option<&str> {
        self.settings.iter().find_map(|setting| setting.strip_prefix("search_path="))
    }
}

/// One argument of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Oid of its type.
    pub type_oid: u32,
    /// The type as `format_type` prints it.
    pub type_name: String,
}

/// How much a function's result may vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Never.
    Immutable,
    /// Not within one statement.
    Stable,
    /// Any time.
    Volatile,
}

/// A type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlType {
    /// Its oid, that of the base type for a domain.
    pub oid: u32,
    /// Whether it is a domain.
    pub domain: bool,
    /// Whether it is an enum, or a domain over one.
    pub is_enum: bool,
    /// For an array: the oid of its elements' type.
    pub element: Option<u32>,
    /// Whether the role has `USAGE` of its schema, which a function's body or a rule that names it needs.
    pub usable: bool,
}

/// A table that a subquery reads.
#[derive(Clone, Debug, PartialEq)]
pub struct TableInfo {
    /// It as its changes reach the gateways: published columns only.
    pub relation: Relation,
    /// Whether its changes do reach the gateways, all of them (no row filter, all operations) and under this name. Never so
    /// for views, foreign tables, and tables with children that are not partitions.
    pub published: bool,
    /// Names of all of its columns, published or not.
    pub columns: BTreeSet<String>,
    /// The columns that the reader may select.
    pub readable: BTreeSet<String>,
    /// Whether the reader has `USAGE` of the schema, which a function's body or a rule that names the table needs, but not
    /// a policy. Where the table has row security, Postgres reads a query of it again as the reader: then that needs it too.
    pub usable: bool,
    /// What its row policies say for the reader; `None` when they do not apply to it.
    pub policies: Option<RowPolicies>,
}

/// The row policies of a table for a role, as texts of `pg_get_expr`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowPolicies {
    /// One of these must hold; none: no row.
    pub permissive: Vec<String>,
    /// All of these must hold.
    pub restrictive: Vec<String>,
}
