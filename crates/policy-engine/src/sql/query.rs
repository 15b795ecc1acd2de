//! Queries and the bodies of functions.

use super::NotUnderstood;
use super::ast::{Expr, FromItem, Query, SelectItem};
use super::keywords::is_alias;
use super::lexer::Token;
use super::parser::Parser;

/// The height that a query adds to that of its parts.
const QUERY_HEIGHT: usize = 2;

impl Parser<'_> {
    /// `SELECT …` and the height of its tallest part.
    pub(super) fn query_tree(&mut self) -> Result<(Query, usize), NotUnderstood> {
        let outer = std::mem::take(&mut self.tallest);
        let query = self.query();
        let tallest = std::mem::replace(&mut self.tallest, outer);
        Ok((query?, tallest + QUERY_HEIGHT))
    }

    /// The body of an SQL function.
    pub(super) fn body(&mut self) -> Result<Expr, NotUnderstood> {
        if self.take_word("return") {
            return self.expression();
        }
        let atomic = self.take_word("begin");
        if atomic {
            self.expect_word("atomic")?;
        }
        let (query, _) = self.query_tree()?;
        self.take_punctuation(';');
        if atomic {
            self.expect_word("end")?;
            self.take_punctuation(';');
        }
        Ok(Expr::Query(Box::new(query)))
    }

    fn part(&mut self) -> Result<Expr, NotUnderstood> {
        let tree = self.any()?;
        self.tallest = self.tallest.max(tree.height);
        Ok(tree.expr)
    }

    fn query(&mut self) -> Result<Query, NotUnderstood> {
        self.expect_word("select")?;
        let distinct = self.take_word("distinct");
        if !distinct {
            self.take_word("all");
        }
        if self.peek_word(0) == Some("on") {
            return Err(NotUnderstood);
        }
        let mut items = Vec::new();
        if self.peek_word(0) != Some("from") {
            items.push(self.item()?);
        }
        while self.take_punctuation(',') {
            items.push(self.item()?);
        }
        let mut from = Vec::new();
        if self.take_word("from") {
            from.push(self.item_of_from()?);
            while self.take_punctuation(',') {
                from.push(self.item_of_from()?);
            }
        }
        let filter = if self.take_word("where") { Some(self.part()?) } else { None };
        let limit = if self.take_word("limit") { Some(self.part()?) } else { None };
        Ok(Query { distinct, items, from, filter, limit })
    }

    fn item(&mut self) -> Result<SelectItem, NotUnderstood> {
        if let Some(Token::Operator(operator)) = self.peek()
            && operator == "*"
        {
            self.next();
            return Ok(SelectItem { expr: Expr::Star(Vec::new()), alias: None });
        }
        Ok(SelectItem { expr: self.part()?, alias: self.alias(false)? })
    }

    fn alias(&mut self, of_table: bool) -> Result<Option<String>, NotUnderstood> {
        let explicit = self.take_word("as");
        match self.peek() {
            Some(Token::Quoted(name)) => {
                self.next();
                Ok(Some(name.clone()))
            }
            Some(Token::Word(word)) if (explicit && !of_table) || is_alias(word) => {
                self.next();
                Ok(Some(word.clone()))
            }
            _ if explicit => Err(NotUnderstood),
            _ => Ok(None),
        }
    }

    fn item_of_from(&mut self) -> Result<FromItem, NotUnderstood> {
        if self.peek_word(0).is_some_and(|word| !is_alias(word)) {
            return Err(NotUnderstood);
        }
        let (name, star) = self.name()?;
        if star {
            return Err(NotUnderstood);
        }
        if !matches!(self.peek(), Some(Token::Punctuation('('))) {
            let alias = self.alias(true)?;
            // Column aliases, sampling.
            return match self.peek() {
                Some(Token::Punctuation('(')) => Err(NotUnderstood),
                _ => Ok(FromItem::Table { name, alias }),
            };
        }
        let Some((arguments, tallest)) = self.arguments()? else { return Err(NotUnderstood) };
        self.tallest = self.tallest.max(tallest + 1);
        let alias = self.alias(true)?;
        let mut columns = Vec::new();
        if alias.is_some() && self.take_punctuation('(') {
            loop {
                match self.next() {
                    Some(Token::Word(column) | Token::Quoted(column)) => columns.push(column.clone()),
                    _ => return Err(NotUnderstood),
                }
                if self.take_punctuation(')') {
                    break;
                }
                self.expect_punctuation(',')?;
            }
        }
        Ok(FromItem::Function { call: Expr::Call { name, arguments }, alias, columns })
    }
}
