//! Row policies as data: what travels from the policy service to the gateways, never code.
//!
//! The policy service reads a table's policies for a role, parses and types them once, and binds them for each principal:
//! every part without a column of the row is evaluated by Postgres itself, as that role with those claims, and becomes a
//! literal. What is left is a tree over the row's columns. Whatever is not provably judged as Postgres would is
//! [`Predicate::Ask`]: then Postgres is asked about the row.

use reactor_model::filter::Truth;

/// The policy of one table for one principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowPolicy {
    /// Which rows it may see.
    pub predicate: Predicate,
    /// The sets that [`Predicate::Member`] names by their index.
    pub sets: Vec<MemberSet>,
    /// Present unless `predicate` is constant: principals with equal keys get equal answers for equal rows, so that one
    /// question serves all of them. Opaque; holds no claim in clear.
    pub check_key: Option<String>,
}

/// A truth value over the columns of a row, in SQL's three-valued logic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Predicate {
    /// The same for every row.
    Const(Truth),
    /// `a AND b …`, evaluated from the left; empty is true.
    And(Vec<Predicate>),
    /// `a OR b …`, evaluated from the left; empty is false.
    Or(Vec<Predicate>),
    /// `NOT a`.
    Not(Box<Predicate>),
    /// `a IS [NOT] TRUE`, `FALSE` or `UNKNOWN`.
    Is {
        /// What is tested.
        operand: Box<Predicate>,
        /// The value that it is tested for.
        value: Truth,
        /// `IS NOT`.
        negated: bool,
    },
    /// `left <operator> right`, both of types that compare with each other in Postgres without a cast.
    Compare {
        /// The operator.
        operator: Comparator,
        /// Left operand.
        left: Scalar,
        /// Right operand.
        right: Scalar,
    },
    /// `operand IS NULL`.
    IsNull(Scalar),
    /// `left <operator> ANY (array)` or `ALL (array)`.
    Quantified {
        /// The operator.
        operator: Comparator,
        /// Left operand.
        left: Scalar,
        /// An expression of an array type.
        array: Scalar,
        /// `ALL` instead of `ANY`.
        all: bool,
    },
    /// `text LIKE pattern` with the default escape.
    Like {
        /// The text.
        text: Scalar,
        /// The pattern.
        pattern: Scalar,
        /// `ILIKE`.
        insensitive: bool,
    },
    /// A boolean expression.
    Bool(Scalar),
    /// Whether a set holds these values, one for each of its keys.
    Member {
        /// Index into [`RowPolicy::sets`].
        set: usize,
        /// The row's values.
        values: Vec<Scalar>,
        /// How NULLs count.
        mode: MemberMode,
    },
    /// Raises an error, as a binding that raised for these claims does.
    Raise,
    /// Only Postgres knows. Also what a node of a newer version is read as.
    Ask,
}

/// How membership treats NULLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberMode {
    /// `EXISTS (… where m.a = value …)`: true or false; NULL equals nothing. Without keys: whether the set has any row.
    Exists,
    /// `value IN (select m.a …)`: NULL on either side of a comparison that is not otherwise decided makes it unknown.
    In,
}

/// Comparisons of two values of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparator {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `IS DISTINCT FROM`
    Distinct,
    /// `IS NOT DISTINCT FROM`
    NotDistinct,
}

/// An expression over the columns of a row. Types are Postgres's oids, domains looked through.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// A column of the row.
    Column {
        /// Its name.
        name: String,
        /// Its type when the policy was read; a relation version with another type cannot use the predicate.
        type_oid: u32,
    },
    /// A value as its type prints it; `None` is NULL.
    Literal {
        /// The type.
        type_oid: u32,
        /// The text.
        text: Option<String>,
    },
    /// In a template only: the value of a binding, by index.
    Bound {
        /// Index into the template's bindings.
        index: usize,
        /// The type.
        type_oid: u32,
    },
    /// `operand::type`.
    Cast {
        /// What is cast.
        operand: Box<Scalar>,
        /// Type cast to.
        type_oid: u32,
    },
    /// `left || right` of texts.
    Concat(Box<Scalar>, Box<Scalar>),
    /// `coalesce(…)`, all of one type.
    Coalesce(Vec<Scalar>),
    /// `lower(text)`.
    Lower(Box<Scalar>),
    /// `upper(text)`.
    Upper(Box<Scalar>),
    /// `json -> key`, `json ->> key`; the key is a text or an integer.
    JsonGet {
        /// A `jsonb`.
        json: Box<Scalar>,
        /// Field name (text) or index (int4).
        key: Box<Scalar>,
        /// `->>`: text instead of `jsonb`.
        as_text: bool,
    },
    /// `json #> path`, `json #>> path`; the path is a `text[]`.
    JsonPath {
        /// A `jsonb`.
        json: Box<Scalar>,
        /// A `text[]`.
        path: Box<Scalar>,
        /// `#>>`: text instead of `jsonb`.
        as_text: bool,
    },
    /// A truth value as a boolean.
    Truth(Box<Predicate>),
}

/// Values of one table that a policy looks rows up in: `select keys from table where condition`, for one principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberSet {
    /// Names the subquery within the policies of its table, so that the policy service finds it again.
    pub id: String,
    /// Schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Its oid.
    pub table_oid: u32,
    /// The columns that rows are looked up by, in the order of [`Predicate::Member`]'s values; their values are equal exactly
    /// when their texts are. May be empty.
    pub keys: Vec<String>,
    /// Columns that identify a row of the table in an old image (its replica identity; all for FULL).
    pub identity: Vec<String>,
    /// Which of its rows count, its own policies for the role included. Has neither `Member` nor `Ask` in it.
    pub condition: Predicate,
}

impl RowPolicy {
    /// Every row.
    #[must_use]
    pub const fn everything() -> Self {
        Self { predicate: Predicate::Const(Truth::True), sets: Vec::new(), check_key: None }
    }

    /// Whether every row may be seen, whatever is in it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.predicate == Predicate::Const(Truth::True)
    }
}

impl std::fmt::Debug for Scalar {
    /// Leaves literals out: they hold claims and row values, which never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Column { name, .. } => write!(f, "Column({name})"),
            Self::Literal { type_oid, text } => {
                write!(f, "Literal({type_oid}{})", if text.is_none() { ", null" } else { "" })
            }
            Self::Bound { index, .. } => write!(f, "Bound({index})"),
            Self::Cast { operand, type_oid } => write!(f, "Cast({operand:?}, {type_oid})"),
            Self::Concat(left, right) => write!(f, "Concat({left:?}, {right:?})"),
            Self::Coalesce(parts) => f.debug_tuple("Coalesce").field(parts).finish(),
            Self::Lower(text) => write!(f, "Lower({text:?})"),
            Self::Upper(text) => write!(f, "Upper({text:?})"),
            Self::JsonGet { json, key, .. } => write!(f, "JsonGet({json:?}, {key:?})"),
            Self::JsonPath { json, path, .. } => write!(f, "JsonPath({json:?}, {path:?})"),
            Self::Truth(predicate) => write!(f, "Truth({predicate:?})"),
        }
    }
}
