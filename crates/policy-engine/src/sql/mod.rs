//! Reads the SQL of policies: expressions as `pg_get_expr` prints them, written by hand, and the bodies of SQL functions.
//!
//! It is Postgres's own grammar of expressions with Postgres's own precedences, as far as policies need it. Every group in
//! parentheses that is not understood becomes [`Expr::Opaque`], so that only what contains it is left to Postgres. Length,
//! nesting and height of the tree are bounded: no text overflows the stack here or in whatever walks the tree.

mod ast;
mod keywords;
mod lexer;
mod parser;
mod query;
mod type_name;

pub(crate) use ast::{Expr, FromItem, Query, Test, TypeName};
pub(crate) use type_name::quote_identifier;

use lexer::Token;
use parser::Parser;

/// Longer texts are left to Postgres: the largest policies in use are a few kilobytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The text is not understood; Postgres has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotUnderstood;

/// Reads an expression.
pub(crate) fn parse_expression(text: &str) -> Result<Expr, NotUnderstood> {
    let tokens = tokens(text)?;
    let mut parser = Parser::new(&tokens);
    let expr = parser.expression()?;
    parser.end()?;
    Ok(expr)
}

/// Reads the body of an SQL function that is one query or expression, in any of the three ways to write it.
pub(crate) fn parse_body(text: &str) -> Result<Expr, NotUnderstood> {
    let tokens = tokens(text)?;
    let mut parser = Parser::new(&tokens);
    let expr = parser.body()?;
    parser.end()?;
    Ok(expr)
}

fn tokens(text: &str) -> Result<Vec<Token>, NotUnderstood> {
    if text.len() > MAX_TEXT_BYTES { Err(NotUnderstood) } else { lexer::tokens(text) }
}

#[cfg(test)]
mod tests;
