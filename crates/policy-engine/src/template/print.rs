//! Prints expressions as SQL again, with every name qualified and every part in parentheses.

use std::fmt::Write as _;

use super::compiler::{Compiler, Function};
use super::scope::{Meaning, Names, Scope, Source, Table};
use crate::sql::{Expr, FromItem, Query, Test, TypeName, quote_identifier};

/// The alias that a set's table has in its query.
pub(super) const SET_ALIAS: &str = "m";

/// Longer expressions are left to Postgres as they are.
const MAX_BYTES: usize = 64 * 1024;

struct Printer<'c, 'k> {
    compiler: &'c mut Compiler<'k>,
    out: String,
    /// Names that mean nothing here are printed as they are, and tables may be read.
    whole: bool,
}

impl Compiler<'_> {
    /// An expression that depends on the claims or a set's table alone.
    pub(super) fn print(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<String> {
        self.print_as(expr, scope, false)
    }

    /// A whole rule, over the row.
    pub(super) fn print_whole(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<String> {
        self.print_as(expr, scope, true)
    }

    fn print_as(&mut self, expr: &Expr, scope: &Scope<'_>, whole: bool) -> Option<String> {
        let mut printer = Printer { compiler: self, out: String::new(), whole };
        printer.expr(expr, scope)?;
        Some(printer.out)
    }
}

/// A string literal.
pub(super) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A type.
pub(super) fn type_sql(name: &TypeName) -> String {
    let modifiers = if name.modifiers.is_empty() { String::new() } else { format!("({})", name.modifiers.join(",")) };
    let mut sql = match name.name.split_once(" with") {
        // Modifiers of times stand before the zone.
        Some((first, rest)) if name.builtin => format!("{first}{modifiers} with{rest}"),
        _ => format!("{}{modifiers}", name.name),
    };
    if name.array {
        sql.push_str("[]");
    }
    sql
}

fn qualified(parts: &[String]) -> String {
    parts.iter().map(|part| quote_identifier(part)).collect::<Vec<_>>().join(".")
}

impl Printer<'_, '_> {
    fn text(&mut self, text: &str) -> Option<()> {
        self.out.push_str(text);
        (self.out.len() <= MAX_BYTES).then_some(())
    }

    fn expr(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<()> {
        // The bounds on depth and work are the compiler's.
        self.compiler.enter(|_| Some(()))?;
        match expr {
            Expr::Name(name) => self.name(name, scope),
            Expr::Parameter(number) => {
                let call = scope.call()?;
                self.parameter(call, number.checked_sub(1)?)
            }
            Expr::Null => self.text("NULL"),
            Expr::Bool(value) => self.text(if *value { "true" } else { "false" }),
            Expr::Number(number) => self.text(number),
            Expr::Text(text) => self.text(&quote_text(text)),
            Expr::Cast { operand, to } => {
                self.group(operand, scope)?;
                self.text("::")?;
                self.text(&type_sql(to))
            }
            Expr::Prefix { operator, operand } => {
                self.text(operator)?;
                self.text(" ")?;
                self.group(operand, scope)
            }
            Expr::Binary { operator, left, right } => self.infix(left, operator, right, scope),
            Expr::Distinct { left, right, negated } => {
                self.infix(left, if *negated { "IS NOT DISTINCT FROM" } else { "IS DISTINCT FROM" }, right, scope)
            }
            Expr::And(parts) => self.joined(parts, " AND ", scope),
            Expr::Or(parts) => self.joined(parts, " OR ", scope),
            Expr::Not(operand) => {
                self.text("NOT ")?;
                self.group(operand, scope)
            }
            Expr::Is { operand, test, negated } => self.is(operand, *test, *negated, scope),
            Expr::InList { operand, list, negated } => {
                self.group(operand, scope)?;
                self.text(if *negated { " NOT IN (" } else { " IN (" })?;
                self.joined(list, ", ", scope)?;
                self.text(")")
            }
            Expr::Between { operand, low, high, negated } => {
                self.group(operand, scope)?;
                self.text(if *negated { " NOT BETWEEN " } else { " BETWEEN " })?;
                self.infix(low, "AND", high, scope)
            }
            Expr::Array(parts) => {
                self.text("ARRAY[")?;
                self.joined(parts, ", ", scope)?;
                self.text("]")
            }
            Expr::Subscript { operand, index } => {
                self.group(operand, scope)?;
                self.text("[")?;
                self.expr(index, scope)?;
                self.text("]")
            }
            Expr::Special { name, arguments } => {
                self.text(name)?;
                self.arguments(arguments, scope)
            }
            Expr::Keyword(word) => self.text(word),
            Expr::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref(), scope)
            }
            Expr::Call { name, arguments } => self.call(name, arguments, scope),
            Expr::InQuery { .. } | Expr::Quantified { .. } | Expr::Exists(_) | Expr::Query(_) | Expr::ArrayQuery(_) => {
                self.subquery(expr, scope)
            }
            Expr::Star(name) if self.whole => {
                self.text(&qualified(name))?;
                self.text(if name.is_empty() { "*" } else { ".*" })
            }
            Expr::Star(_) | Expr::Unfit(_) | Expr::Opaque => None,
        }
    }

    fn subquery(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<()> {
        match expr {
            Expr::InQuery { operand, query, negated } => {
                self.group(operand, scope)?;
                self.text(if *negated { " NOT IN (" } else { " IN (" })?;
                self.query(query, scope)?;
            }
            Expr::Quantified { operator, left, right, all } => {
                self.group(left, scope)?;
                self.text(&format!(" {operator} {} (", if *all { "ALL" } else { "ANY" }))?;
                match &**right {
                    Expr::Query(query) => self.query(query, scope)?,
                    right => self.expr(right, scope)?,
                }
            }
            Expr::Exists(query) => {
                self.text("EXISTS (")?;
                self.query(query, scope)?;
            }
            Expr::ArrayQuery(query) => {
                self.text("ARRAY(")?;
                self.query(query, scope)?;
            }
            Expr::Query(query) => {
                self.text("(")?;
                self.query(query, scope)?;
            }
            _ => return None,
        }
        self.text(")")
    }

    fn group(&mut self, expr: &Expr, scope: &Scope<'_>) -> Option<()> {
        let alone = matches!(
            expr,
            Expr::Name(_)
                | Expr::Null
                | Expr::Bool(_)
                | Expr::Number(_)
                | Expr::Text(_)
                | Expr::Call { .. }
                | Expr::Keyword(_)
        );
        if alone {
            return self.expr(expr, scope);
        }
        self.text("(")?;
        self.expr(expr, scope)?;
        self.text(")")
    }

    fn infix(&mut self, left: &Expr, operator: &str, right: &Expr, scope: &Scope<'_>) -> Option<()> {
        self.group(left, scope)?;
        self.text(" ")?;
        self.text(operator)?;
        self.text(" ")?;
        self.group(right, scope)
    }

    fn joined(&mut self, parts: &[Expr], separator: &str, scope: &Scope<'_>) -> Option<()> {
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                self.text(separator)?;
            }
            self.group(part, scope)?;
        }
        Some(())
    }

    fn arguments(&mut self, arguments: &[Expr], scope: &Scope<'_>) -> Option<()> {
        self.text("(")?;
        self.joined(arguments, ", ", scope)?;
        self.text(")")
    }

    fn is(&mut self, operand: &Expr, test: Test, negated: bool, scope: &Scope<'_>) -> Option<()> {
        self.group(operand, scope)?;
        self.text(if negated { " IS NOT " } else { " IS " })?;
        self.text(match test {
            Test::Null => "NULL",
            Test::True => "TRUE",
            Test::False => "FALSE",
            Test::Unknown => "UNKNOWN",
        })
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        branches: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        scope: &Scope<'_>,
    ) -> Option<()> {
        self.text("CASE ")?;
        if let Some(operand) = operand {
            self.group(operand, scope)?;
        }
        for (condition, value) in branches {
            self.text(" WHEN ")?;
            self.group(condition, scope)?;
            self.text(" THEN ")?;
            self.group(value, scope)?;
        }
        if let Some(otherwise) = otherwise {
            self.text(" ELSE ")?;
            self.group(otherwise, scope)?;
        }
        self.text(" END")
    }

    fn name(&mut self, name: &[String], scope: &Scope<'_>) -> Option<()> {
        match scope.meaning(name) {
            Meaning::Column { source: Source::Set, column, .. } => {
                self.text(&format!("{SET_ALIAS}.{}", quote_identifier(&column.name)))
            }
            Meaning::Parameter(call, index) => self.parameter(call, index),
            Meaning::Local => self.text(&qualified(name)),
            Meaning::Column { source: Source::Row, .. } | Meaning::Unknown if self.whole => self.text(&qualified(name)),
            Meaning::Column { source: Source::Row, .. } | Meaning::Unknown => None,
        }
    }

    fn parameter(&mut self, call: &super::scope::Call<'_>, index: usize) -> Option<()> {
        let argument = call.function.arguments.get(index)?;
        let type_name = argument.type_name.clone();
        self.text("(")?;
        self.expr(call.arguments.get(index)?, call.caller)?;
        self.text(")::")?;
        self.text(&type_name)
    }

    fn call(&mut self, name: &[String], arguments: &[Expr], scope: &Scope<'_>) -> Option<()> {
        let function = match self.compiler.function(name, arguments.len(), scope.names) {
            Function::Claims(claim) => return self.text(claim.sql),
            Function::Catalog { .. } => {
                format!("pg_catalog.{}", quote_identifier(name.last()?))
            }
            Function::User(function) => {
                format!("{}.{}", quote_identifier(&function.schema), quote_identifier(&function.name))
            }
            Function::Unknown if self.whole => qualified(name),
            Function::Unknown => return None,
        };
        self.text(&function)?;
        self.arguments(arguments, scope)
    }

    fn query(&mut self, query: &Query, scope: &Scope<'_>) -> Option<()> {
        match query.from.as_slice() {
            [FromItem::Function { call, alias, columns }] => {
                let name = match call {
                    Expr::Call { name, .. } => name.last().map(String::as_str),
                    _ => None,
                };
                let inner = scope.inner(Table::Function { alias: alias.as_deref().or(name), columns });
                self.query_parts(query, scope, &inner)
            }
            [] => self.query_parts(query, scope, scope),
            // Every name in it is printed as it is.
            _ if self.whole => {
                let inner = scope.inner(Table::Function { alias: None, columns: &[] });
                self.query_parts(query, scope, &inner)
            }
            _ => None,
        }
    }

    fn query_parts(&mut self, query: &Query, outer: &Scope<'_>, inner: &Scope<'_>) -> Option<()> {
        self.text(if query.distinct { "SELECT DISTINCT " } else { "SELECT " })?;
        for (index, item) in query.items.iter().enumerate() {
            if index > 0 {
                self.text(", ")?;
            }
            self.expr(&item.expr, inner)?;
            if let Some(alias) = &item.alias {
                self.text(&format!(" AS {}", quote_identifier(alias)))?;
            }
        }
        for (index, item) in query.from.iter().enumerate() {
            self.text(if index == 0 { " FROM " } else { ", " })?;
            self.item_of_from(item, outer)?;
        }
        if let Some(filter) = &query.filter {
            self.text(" WHERE ")?;
            self.expr(filter, inner)?;
        }
        if let Some(limit) = &query.limit {
            self.text(" LIMIT ")?;
            self.expr(limit, inner)?;
        }
        Some(())
    }

    fn item_of_from(&mut self, item: &FromItem, scope: &Scope<'_>) -> Option<()> {
        let mut suffix = String::new();
        match item {
            FromItem::Table { name, alias } => {
                let printable = self.whole && !matches!(scope.names, Names::Path(_) | Names::Either(_));
                self.text(&printable.then(|| qualified(name))?)?;
                if let Some(alias) = alias {
                    write!(suffix, " {}", quote_identifier(alias)).ok()?;
                }
            }
            FromItem::Function { call, alias, columns } => {
                self.expr(call, scope)?;
                if let Some(alias) = alias {
                    write!(suffix, " AS {}", quote_identifier(alias)).ok()?;
                }
                if !columns.is_empty() {
                    write!(
                        suffix,
                        "({})",
                        columns.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>().join(", ")
                    )
                    .ok()?;
                }
            }
        }
        self.text(&suffix)
    }
}
