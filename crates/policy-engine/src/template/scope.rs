//! What names mean where they stand.

use reactor_model::relation::{Column, Relation, TypeKind};

use super::knowledge::{FunctionInfo, TableInfo};
use crate::sql::Expr;

/// Where a column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The row that is judged.
    Row,
    /// The table of the set that is being built.
    Set,
}

/// Where unqualified functions and tables are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Only in `pg_catalog`: all others were printed with their schema.
    Catalog,
    /// By the search path with which policies are evaluated.
    Session,
    /// In these schemas, `pg_catalog` before all.
    Path(Vec<String>),
    /// In these schemas or by the search path of the session: only what both have, which is in `pg_catalog` alone.
    Either(Vec<String>),
}

/// One table in scope.
#[derive(Debug)]
pub(super) enum Table<'a> {
    /// The row that is judged.
    Row(&'a Relation),
    /// The table of the set that is being built, under its alias.
    Set { table: &'a TableInfo, alias: &'a str },
    /// A function's rows, under its alias.
    Function { alias: Option<&'a str>, columns: &'a [String] },
}

/// A scope, with those around it.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) table: Option<Table<'a>>,
    pub(super) outer: Option<&'a Scope<'a>>,
    pub(super) names: &'a Names,
    /// The function whose body this is.
    pub(super) call: Option<Call<'a>>,
    /// Whose rights count: a `SECURITY DEFINER` function's owner.
    pub(super) reader: Option<&'a str>,
}

/// The call that a body is evaluated for.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) function: &'a FunctionInfo,
    pub(super) arguments: &'a [Expr],
    pub(super) caller: &'a Scope<'a>,
}

/// What a name means.
pub(super) enum Meaning<'a> {
    Column {
        source: Source,
        relation: &'a Relation,
        column: &'a Column,
    },
    /// A column of a function's rows.
    Local,
    /// A parameter, by its index.
    Parameter(&'a Call<'a>, usize),
    Unknown,
}

const SYSTEM_COLUMNS: &[&str] = &["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

impl<'a> Scope<'a> {
    /// A scope within this one.
    pub(super) fn inner(&'a self, table: Table<'a>) -> Scope<'a> {
        Scope { table: Some(table), outer: Some(self), names: self.names, call: None, reader: self.reader }
    }

    pub(super) fn meaning(&'a self, name: &[String]) -> Meaning<'a> {
        let (qualifier, column) = match name {
            [column] => (None, column),
            [table, column] => (Some((None, table)), column),
            [schema, table, column] => (Some((Some(schema), table)), column),
            _ => return Meaning::Unknown,
        };
        let mut scope = Some(self);
        while let Some(here) = scope {
            if let Some(meaning) = here.own_meaning(qualifier, column) {
                return meaning;
            }
            scope = here.outer;
        }
        Meaning::Unknown
    }

    pub(super) fn call(&'a self) -> Option<&'a Call<'a>> {
        let mut scope = self;
        loop {
            match (&scope.call, scope.outer) {
                (Some(call), _) => return Some(call),
                (None, Some(outer)) => scope = outer,
                (None, None) => return None,
            }
        }
    }

    /// Whether this is within the body of the function.
    pub(super) fn is_within(&self, function: &FunctionInfo) -> bool {
        let mut scope = Some(self);
        while let Some(here) = scope {
            if here.call.as_ref().is_some_and(|call| call.function == function) {
                return true;
            }
            scope = here.outer.or(here.call.as_ref().map(|call| call.caller));
        }
        false
    }

    /// The search path that the innermost function around this which sets one sets; `None` when that of the session counts.
    pub(super) fn search_path(&self) -> Option<&str> {
        let mut scope = Some(self);
        while let Some(here) = scope {
            if let Some(path) = here.call.as_ref().and_then(|call| call.function.search_path()) {
                return Some(path);
            }
            scope = here.outer.or(here.call.as_ref().map(|call| call.caller));
        }
        None
    }

    fn own_meaning(&'a self, qualifier: Option<(Option<&String>, &String)>, column: &str) -> Option<Meaning<'a>> {
        let (source, relation) = match &self.table {
            Some(Table::Row(relation)) => {
                let is_its = match qualifier {
                    None => true,
                    Some((None, table)) => *table == relation.table,
                    Some((Some(schema), table)) => *table == relation.table && *schema == relation.schema,
                };
                (is_its.then_some(Source::Row), Some(*relation))
            }
            Some(Table::Set { table, alias }) => match qualifier {
                // A column that is not published hides one of the same name further out.
                None if table.columns.contains(column) || SYSTEM_COLUMNS.contains(&column) => {
                    (Some(Source::Set), Some(&table.relation))
                }
                None => (None, None),
                Some((None, name)) if name == alias => (Some(Source::Set), Some(&table.relation)),
                Some((Some(schema), name))
                    if *alias == table.relation.table && name == alias && *schema == table.relation.schema =>
                {
                    (Some(Source::Set), Some(&table.relation))
                }
                Some(_) => (None, None),
            },
            Some(Table::Function { alias, columns }) => match qualifier {
                // Whether it is one of its columns is known only if they are named.
                None if columns.iter().any(|name| name == column) || *alias == Some(column) => {
                    return Some(Meaning::Local);
                }
                None => return Some(Meaning::Unknown),
                Some((None, name)) if *alias == Some(name.as_str()) => return Some(Meaning::Local),
                Some(_) => return None,
            },
            None => (None, None),
        };
        if let (Some(source), Some(relation)) = (source, relation) {
            return match relation.columns.iter().find(|candidate| candidate.name == column) {
                Some(column) => Some(Meaning::Column { source, relation, column }),
                None if source == Source::Row && qualifier.is_none() => None,
                None => Some(Meaning::Unknown),
            };
        }
        let call = self.call.as_ref()?;
        let is_its = match qualifier {
            None => true,
            Some((None, function)) => *function == call.function.name,
            Some(_) => false,
        };
        let named = |argument: &super::knowledge::Argument| argument.name.as_deref() == Some(column);
        let index = call.function.arguments.iter().position(named).filter(|_| is_its)?;
        Some(Meaning::Parameter(call, index))
    }
}

/// The column's type with domains looked through, unless it is not described.
pub(super) fn base_type(relation: &Relation, column: &Column) -> Option<(u32, bool)> {
    let (oid, info) = relation.base_type(column.type_oid)?;
    match info.kind {
        TypeKind::Extension | TypeKind::Composite { .. } | TypeKind::Range { .. } | TypeKind::Domain { .. } => {
            Some((oid, false))
        }
        TypeKind::Builtin | TypeKind::Array { .. } | TypeKind::Enum { .. } => Some((oid, true)),
    }
}
