//! The tree of an SQL expression.

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    /// A name, perhaps qualified: a column, a parameter, a table.
    Name(Vec<String>),
    /// `*` or `name.*`.
    Star(Vec<String>),
    /// `$1`
    Parameter(usize),
    /// `NULL`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An unsigned number as written.
    Number(String),
    /// A string literal.
    Text(String),
    /// `operand::type`
    Cast {
        operand: Box<Expr>,
        to: TypeName,
    },
    /// An operator before its operand.
    Prefix {
        operator: String,
        operand: Box<Expr>,
    },
    /// An operator of `pg_catalog` between its operands. `LIKE` and its like are `~~` etc., `!=` is `<>`.
    Binary {
        operator: String,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// `operand IS [NOT] …`
    Is {
        operand: Box<Expr>,
        test: Test,
        negated: bool,
    },
    /// `left IS [NOT] DISTINCT FROM right`
    Distinct {
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    },
    /// `operand [NOT] IN (…)`
    InList {
        operand: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    /// `operand [NOT] IN (select …)`
    InQuery {
        operand: Box<Expr>,
        query: Box<Query>,
        negated: bool,
    },
    /// `operand [NOT] BETWEEN low AND high`
    Between {
        operand: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
    },
    /// `left <operator> ANY|ALL (right)`; the right may be a query.
    Quantified {
        operator: String,
        left: Box<Expr>,
        right: Box<Expr>,
        all: bool,
    },
    Exists(Box<Query>),
    /// A query as a value.
    Query(Box<Query>),
    /// `ARRAY(select …)`
    ArrayQuery(Box<Query>),
    /// `ARRAY[…]`
    Array(Vec<Expr>),
    Case {
        operand: Option<Box<Expr>>,
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    /// A plain call of a function.
    Call {
        name: Vec<String>,
        arguments: Vec<Expr>,
    },
    /// `coalesce`, `nullif`, `greatest`, `least`: they look like calls, and no function can take their names.
    Special {
        name: String,
        arguments: Vec<Expr>,
    },
    /// `current_user`, `current_date` …
    Keyword(String),
    /// `operand[index]`
    Subscript {
        operand: Box<Expr>,
        index: Box<Expr>,
    },
    /// Understood, but nothing can be done with it here but to see what is in it.
    Unfit(Vec<Expr>),
    /// Not understood.
    Opaque,
}

/// What `IS` tests for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Null,
    True,
    False,
    Unknown,
}

/// A type as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeName {
    /// As SQL, without modifiers and `[]`: `character varying`, `public.status`, `"Odd"`.
    pub(crate) name: String,
    /// Whether it is a name of `pg_catalog`'s grammar or explicitly of `pg_catalog`.
    pub(crate) builtin: bool,
    /// Numbers in parentheses.
    pub(crate) modifiers: Vec<String>,
    /// Whether it is an array of that.
    pub(crate) array: bool,
}

/// `SELECT items FROM from WHERE filter LIMIT limit`, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) distinct: bool,
    pub(crate) items: Vec<SelectItem>,
    pub(crate) from: Vec<FromItem>,
    pub(crate) filter: Option<Expr>,
    pub(crate) limit: Option<Expr>,
}

/// One output column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelectItem {
    pub(crate) expr: Expr,
    pub(crate) alias: Option<String>,
}

/// What a query reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FromItem {
    /// A table, view or the like.
    Table { name: Vec<String>, alias: Option<String> },
    /// A function's rows.
    Function { call: Expr, alias: Option<String>, columns: Vec<String> },
}
