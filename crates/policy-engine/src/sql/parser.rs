//! Expressions by precedence, as in Postgres's `gram.y`.

use super::NotUnderstood;
use super::ast::{Expr, Test, TypeName};
use super::keywords::{is_no_function, is_reserved, is_special_call};
use super::lexer::Token;

/// How deep groups may nest.
const MAX_NESTING: usize = 64;
/// How high the tree may be: whatever walks it recurses so deep.
const MAX_HEIGHT: usize = 64;

/// Binding strengths, weakest first. Those of comparisons, `IS` and `LIKE` do not associate.
mod level {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const IS: u8 = 4;
    pub(super) const COMPARISON: u8 = 5;
    pub(super) const LIKE: u8 = 6;
    pub(super) const OPERATOR: u8 = 7;
    pub(super) const SUM: u8 = 8;
    pub(super) const PRODUCT: u8 = 9;
    pub(super) const POWER: u8 = 10;
    pub(super) const AT: u8 = 11;
    pub(super) const COLLATE: u8 = 12;
    pub(super) const SIGN: u8 = 13;
}

/// Words whose value depends on who asks or when.
const KEYWORDS: &[&str] = &[
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

/// A tree and how high it is.
pub(super) struct Tree {
    pub(super) expr: Expr,
    pub(super) height: usize,
}

pub(super) type Parsed = Result<Tree, NotUnderstood>;

impl Tree {
    pub(super) const fn leaf(expr: Expr) -> Self {
        Self { expr, height: 1 }
    }

    fn over(expr: Expr, tallest: usize) -> Parsed {
        if tallest < MAX_HEIGHT { Ok(Self { expr, height: tallest + 1 }) } else { Err(NotUnderstood) }
    }
}

pub(super) struct Parser<'a> {
    tokens: &'a [Token],
    position: usize,
    nesting: usize,
    /// The tallest tree of the query that is being read.
    pub(super) tallest: usize,
}

impl<'a> Parser<'a> {
    pub(super) const fn new(tokens: &'a [Token]) -> Self {
        Self { tokens, position: 0, nesting: 0, tallest: 0 }
    }

    pub(super) fn expression(&mut self) -> Result<Expr, NotUnderstood> {
        self.any().map(|tree| tree.expr)
    }

    /// Any expression.
    pub(super) fn any(&mut self) -> Parsed {
        self.above(level::OR)
    }

    pub(super) fn end(&self) -> Result<(), NotUnderstood> {
        if self.position == self.tokens.len() { Ok(()) } else { Err(NotUnderstood) }
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.position)
    }

    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.position)?;
        self.position += 1;
        Some(token)
    }

    pub(super) fn peek_word(&self, ahead: usize) -> Option<&'a str> {
        match self.tokens.get(self.position + ahead) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn peek_punctuation(&self, ahead: usize, c: char) -> bool {
        matches!(self.tokens.get(self.position + ahead), Some(Token::Punctuation(found)) if *found == c)
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word(0) == Some(word);
        self.position += usize::from(found);
        found
    }

    pub(super) fn take_punctuation(&mut self, c: char) -> bool {
        let found = self.peek_punctuation(0, c);
        self.position += usize::from(found);
        found
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), NotUnderstood> {
        if self.take_word(word) { Ok(()) } else { Err(NotUnderstood) }
    }

    pub(super) fn expect_punctuation(&mut self, c: char) -> Result<(), NotUnderstood> {
        if self.take_punctuation(c) { Ok(()) } else { Err(NotUnderstood) }
    }

    /// An expression of operators that bind at least as strongly as `lowest`.
    fn above(&mut self, lowest: u8) -> Parsed {
        if self.nesting == MAX_NESTING {
            return Err(NotUnderstood);
        }
        self.nesting += 1;
        let tree = self.operators(lowest);
        self.nesting -= 1;
        tree
    }

    fn operators(&mut self, lowest: u8) -> Parsed {
        let mut left = self.prefix()?;
        // Once an operator that does not associate was read, only weaker ones may follow.
        let mut strongest = u8::MAX;
        while let Some(level) = self.operator_level() {
            if level < lowest || level > strongest {
                break;
            }
            let associates = !matches!(level, level::IS | level::COMPARISON | level::LIKE);
            strongest = if associates { level } else { level - 1 };
            left = match level {
                level::OR | level::AND => self.connective(left, level)?,
                level::IS => self.is(left)?,
                level::LIKE => self.like(left)?,
                level::AT => self.at_time_zone(left)?,
                level::COLLATE => self.collate(left)?,
                _ => self.binary(left, level)?,
            };
        }
        Ok(left)
    }

    /// How strongly the operator that comes next binds.
    fn operator_level(&self) -> Option<u8> {
        match self.peek()? {
            Token::Operator(operator) => Some(match operator.as_str() {
                "<" | ">" | "=" | "<=" | ">=" | "<>" => level::COMPARISON,
                "+" | "-" => level::SUM,
                "*" | "/" | "%" => level::PRODUCT,
                "^" => level::POWER,
                _ => level::OPERATOR,
            }),
            Token::Word(word) => match word.as_str() {
                "or" => Some(level::OR),
                "and" => Some(level::AND),
                "is" | "isnull" | "notnull" => Some(level::IS),
                "like" | "ilike" | "in" | "between" => Some(level::LIKE),
                "not" => matches!(self.peek_word(1), Some("like" | "ilike" | "in" | "between")).then_some(level::LIKE),
                "operator" if self.peek_punctuation(1, '(') => Some(level::OPERATOR),
                "at" => Some(level::AT),
                "collate" => Some(level::COLLATE),
                _ => None,
            },
            _ => None,
        }
    }

    fn connective(&mut self, left: Tree, level: u8) -> Parsed {
        let word = if level == level::OR { "or" } else { "and" };
        let mut tallest = left.height;
        let mut parts = vec![left.expr];
        while self.take_word(word) {
            let part = self.above(level + 1)?;
            tallest = tallest.max(part.height);
            parts.push(part.expr);
        }
        Tree::over(if level == level::OR { Expr::Or(parts) } else { Expr::And(parts) }, tallest)
    }

    fn is(&mut self, operand: Tree) -> Parsed {
        let word = match self.next() {
            Some(Token::Word(word)) => word.as_str(),
            _ => return Err(NotUnderstood),
        };
        let negated = word == "notnull" || (word == "is" && self.take_word("not"));
        if word == "is" && self.take_word("distinct") {
            self.expect_word("from")?;
            let right = self.above(level::COMPARISON)?;
            let tallest = operand.height.max(right.height);
            let (left, right) = (Box::new(operand.expr), Box::new(right.expr));
            return Tree::over(Expr::Distinct { left, right, negated }, tallest);
        }
        let test = match word {
            "is" => match self.next() {
                Some(Token::Word(word)) if word == "null" => Test::Null,
                Some(Token::Word(word)) if word == "true" => Test::True,
                Some(Token::Word(word)) if word == "false" => Test::False,
                Some(Token::Word(word)) if word == "unknown" => Test::Unknown,
                _ => return Err(NotUnderstood),
            },
            _ => Test::Null,
        };
        let tallest = operand.height;
        Tree::over(Expr::Is { operand: Box::new(operand.expr), test, negated }, tallest)
    }

    /// `LIKE`, `IN` and `BETWEEN`.
    fn like(&mut self, operand: Tree) -> Parsed {
        let negated = self.take_word("not");
        let word = match self.next() {
            Some(Token::Word(word)) => word.as_str(),
            _ => return Err(NotUnderstood),
        };
        let Tree { expr, height } = operand;
        let operand = Box::new(expr);
        match word {
            "in" => self.membership(operand, height, negated),
            "between" => {
                if self.take_word("symmetric") {
                    return Err(NotUnderstood);
                }
                self.take_word("asymmetric");
                let low = self.above(level::OPERATOR)?;
                self.expect_word("and")?;
                let high = self.above(level::OPERATOR)?;
                let tallest = height.max(low.height).max(high.height);
                let (low, high) = (Box::new(low.expr), Box::new(high.expr));
                Tree::over(Expr::Between { operand, low, high, negated }, tallest)
            }
            _ => {
                let pattern = self.above(level::OPERATOR)?;
                let mut height = height.max(pattern.height);
                let mut pattern = pattern.expr;
                if self.take_word("escape") {
                    let escape = self.above(level::OPERATOR)?;
                    height = height.max(escape.height).max(1) + 1;
                    let name = vec!["pg_catalog".to_owned(), "like_escape".to_owned()];
                    pattern = Expr::Call { name, arguments: vec![pattern, escape.expr] };
                }
                let operator = match (word, negated) {
                    ("like", false) => "~~",
                    ("like", true) => "!~~",
                    (_, false) => "~~*",
                    (_, true) => "!~~*",
                };
                let right = Box::new(pattern);
                Tree::over(Expr::Binary { operator: operator.to_owned(), left: operand, right }, height)
            }
        }
    }

    fn membership(&mut self, operand: Box<Expr>, height: usize, negated: bool) -> Parsed {
        self.expect_punctuation('(')?;
        let start = self.position;
        if self.peek_word(0) == Some("select") {
            return Ok(match self.group(Self::query_tree) {
                Ok((query, tallest)) => {
                    Tree::over(Expr::InQuery { operand, query: Box::new(query), negated }, height.max(tallest))?
                }
                Err(NotUnderstood) => {
                    self.skip_group(start)?;
                    Tree::over(Expr::Unfit(vec![*operand, Expr::Opaque]), height)?
                }
            });
        }
        match self.group(Self::list) {
            Ok((list, tallest)) => Tree::over(Expr::InList { operand, list, negated }, height.max(tallest)),
            Err(NotUnderstood) => {
                self.skip_group(start)?;
                Tree::over(Expr::Unfit(vec![*operand, Expr::Opaque]), height)
            }
        }
    }

    fn at_time_zone(&mut self, left: Tree) -> Parsed {
        self.next();
        if self.take_word("local") {
            let tallest = left.height;
            return Tree::over(Expr::Unfit(vec![left.expr]), tallest);
        }
        self.expect_word("time")?;
        self.expect_word("zone")?;
        let right = self.above(level::COLLATE)?;
        let tallest = left.height.max(right.height);
        Tree::over(Expr::Unfit(vec![left.expr, right.expr]), tallest)
    }

    fn collate(&mut self, left: Tree) -> Parsed {
        self.next();
        self.name()?;
        let tallest = left.height;
        Tree::over(Expr::Unfit(vec![left.expr]), tallest)
    }

    fn binary(&mut self, left: Tree, level: u8) -> Parsed {
        let operator = self.operator()?;
        let all = match self.peek_word(0) {
            Some("any" | "some") => Some(false),
            Some("all") => Some(true),
            _ => None,
        };
        if let Some(all) = all {
            self.next();
            let right = self.parenthesised()?;
            let tallest = left.height.max(right.height);
            let (left, right) = (Box::new(left.expr), Box::new(right.expr));
            return match operator {
                Some(operator) => Tree::over(Expr::Quantified { operator, left, right, all }, tallest),
                None => Tree::over(Expr::Unfit(vec![*left, *right]), tallest),
            };
        }
        let right = self.above(level + 1)?;
        let tallest = left.height.max(right.height);
        let (left, right) = (Box::new(left.expr), Box::new(right.expr));
        match operator {
            Some(operator) => Tree::over(Expr::Binary { operator, left, right }, tallest),
            None => Tree::over(Expr::Unfit(vec![*left, *right]), tallest),
        }
    }

    /// An operator; `None` for one that is not of `pg_catalog`.
    fn operator(&mut self) -> Result<Option<String>, NotUnderstood> {
        match self.next() {
            Some(Token::Operator(operator)) => Ok(Some(operator.clone())),
            Some(Token::Word(word)) if word == "operator" => {
                self.expect_punctuation('(')?;
                let Some(Token::Word(schema) | Token::Quoted(schema)) = self.next() else { return Err(NotUnderstood) };
                self.expect_punctuation('.')?;
                let Some(Token::Operator(operator)) = self.next() else { return Err(NotUnderstood) };
                self.expect_punctuation(')')?;
                Ok((schema == "pg_catalog").then(|| operator.clone()))
            }
            _ => Err(NotUnderstood),
        }
    }

    fn prefix(&mut self) -> Parsed {
        if self.take_word("not") {
            let operand = self.above(level::NOT)?;
            return Tree::over(Expr::Not(Box::new(operand.expr)), operand.height);
        }
        let strength = match self.peek() {
            Some(Token::Operator(operator)) if matches!(operator.as_str(), "+" | "-") => level::SIGN,
            Some(Token::Operator(_)) if self.operator_level() == Some(level::OPERATOR) => level::OPERATOR,
            _ => return self.postfix(),
        };
        let Some(Token::Operator(operator)) = self.next() else { return Err(NotUnderstood) };
        let operand = self.above(strength + u8::from(strength == level::OPERATOR))?;
        let height = operand.height;
        Tree::over(Expr::Prefix { operator: operator.clone(), operand: Box::new(operand.expr) }, height)
    }

    fn postfix(&mut self) -> Parsed {
        let mut tree = self.primary()?;
        loop {
            let height = tree.height;
            if matches!(self.peek(), Some(Token::DoubleColon)) {
                self.next();
                let to = self.type_name()?;
                tree = Tree::over(Expr::Cast { operand: Box::new(tree.expr), to }, height)?;
            } else if self.take_punctuation('[') {
                let index = self.above(level::OR)?;
                self.expect_punctuation(']')?;
                let tallest = height.max(index.height);
                let (operand, index) = (Box::new(tree.expr), Box::new(index.expr));
                tree = Tree::over(Expr::Subscript { operand, index }, tallest)?;
            } else if self.take_punctuation('.') {
                // A field of a composite.
                self.next();
                tree = Tree::over(Expr::Unfit(vec![tree.expr]), height)?;
            } else {
                return Ok(tree);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        match self.peek() {
            Some(Token::Text(text)) => {
                self.next();
                // Literals that are continued on another line.
                if matches!(self.peek(), Some(Token::Text(_))) {
                    return Err(NotUnderstood);
                }
                Ok(Tree::leaf(Expr::Text(text.clone())))
            }
            Some(Token::Number(number)) => {
                self.next();
                Ok(Tree::leaf(Expr::Number(number.clone())))
            }
            Some(Token::Parameter(number)) => {
                self.next();
                Ok(Tree::leaf(Expr::Parameter(*number)))
            }
            Some(Token::Punctuation('(')) => self.parenthesised(),
            Some(Token::Quoted(_)) => self.named(None),
            Some(Token::Word(word)) => self.worded(word),
            _ => Err(NotUnderstood),
        }
    }

    fn worded(&mut self, word: &str) -> Parsed {
        let leaf = match word {
            "null" => Some(Expr::Null),
            "true" => Some(Expr::Bool(true)),
            "false" => Some(Expr::Bool(false)),
            _ if KEYWORDS.contains(&word) && !self.peek_punctuation(1, '(') => Some(Expr::Keyword(word.to_owned())),
            _ => None,
        };
        if let Some(leaf) = leaf {
            self.next();
            return Ok(Tree::leaf(leaf));
        }
        match word {
            "case" => self.case(),
            "cast" => self.cast(),
            "array" => self.array(),
            "exists" => {
                self.next();
                let tree = self.parenthesised()?;
                let height = tree.height;
                Ok(match tree.expr {
                    Expr::Query(query) => Tree { expr: Expr::Exists(query), height },
                    _ => Tree::leaf(Expr::Opaque),
                })
            }
            "coalesce" | "nullif" | "greatest" | "least" if self.peek_punctuation(1, '(') => {
                self.next();
                let call = self.arguments()?;
                Ok(match call {
                    Some((arguments, tallest)) => {
                        Tree::over(Expr::Special { name: word.to_owned(), arguments }, tallest)?
                    }
                    None => Tree::leaf(Expr::Opaque),
                })
            }
            "select" => Err(NotUnderstood),
            _ => self.named(Some(word)),
        }
    }

    /// A column, a call, or a literal with its type before it; `word` when it begins with an unquoted one.
    fn named(&mut self, word: Option<&str>) -> Parsed {
        if word.is_some_and(is_special_call) && self.peek_punctuation(1, '(') {
            self.next();
            self.arguments()?;
            return Ok(Tree::leaf(Expr::Opaque));
        }
        let start = self.position;
        let (name, star) = self.name()?;
        if star {
            return Ok(Tree::leaf(Expr::Star(name)));
        }
        let single = word.filter(|_| name.len() == 1);
        if self.peek_punctuation(0, '(') {
            if single.is_some_and(is_no_function) {
                return Err(NotUnderstood);
            }
            let call = self.arguments()?;
            if matches!(self.peek_word(0), Some("over" | "filter" | "within")) {
                return Err(NotUnderstood);
            }
            return match call {
                Some((arguments, tallest)) => Tree::over(Expr::Call { name, arguments }, tallest),
                None => Ok(Tree::leaf(Expr::Opaque)),
            };
        }
        if let Some(Token::Text(text)) = self.peek() {
            let after = self.position;
            self.position = start;
            let to = self.type_name()?;
            if self.position != after {
                return Err(NotUnderstood);
            }
            self.next();
            return Tree::over(Expr::Cast { operand: Box::new(Expr::Text(text.clone())), to }, 1);
        }
        if single.is_some_and(is_reserved) { Err(NotUnderstood) } else { Ok(Tree::leaf(Expr::Name(name))) }
    }

    /// A name with its qualifiers, and whether `.*` follows.
    pub(super) fn name(&mut self) -> Result<(Vec<String>, bool), NotUnderstood> {
        let mut parts = Vec::new();
        loop {
            match self.next() {
                Some(Token::Word(part) | Token::Quoted(part)) => parts.push(part.clone()),
                Some(Token::Operator(operator)) if operator == "*" && !parts.is_empty() => return Ok((parts, true)),
                _ => return Err(NotUnderstood),
            }
            if !self.take_punctuation('.') {
                return Ok((parts, false));
            }
        }
    }

    /// What is in parentheses, which may be a query. What is not understood is opaque.
    fn parenthesised(&mut self) -> Parsed {
        self.expect_punctuation('(')?;
        let start = self.position;
        let inner = if self.peek_word(0) == Some("select") {
            self.group(Self::query_tree).and_then(|(query, tallest)| Tree::over(Expr::Query(Box::new(query)), tallest))
        } else {
            self.group(|parser| parser.above(level::OR))
        };
        match inner {
            Ok(tree) => Ok(tree),
            Err(NotUnderstood) => {
                self.skip_group(start)?;
                Ok(Tree::leaf(Expr::Opaque))
            }
        }
    }

    /// Reads up to the parenthesis that closes the group.
    fn group<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, NotUnderstood>) -> Result<T, NotUnderstood> {
        let nesting = self.nesting;
        let inner = read(self);
        self.nesting = nesting;
        let inner = inner?;
        self.expect_punctuation(')')?;
        Ok(inner)
    }

    /// Goes on behind the group that began at `start`.
    fn skip_group(&mut self, start: usize) -> Result<(), NotUnderstood> {
        self.position = start;
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next() {
                Some(Token::Punctuation('(')) => depth += 1,
                Some(Token::Punctuation(')')) => depth -= 1,
                Some(_) => {}
                None => return Err(NotUnderstood),
            }
        }
        Ok(())
    }

    /// The arguments of a call; `None` when they are not understood.
    pub(super) fn arguments(&mut self) -> Result<Option<(Vec<Expr>, usize)>, NotUnderstood> {
        self.expect_punctuation('(')?;
        if self.take_punctuation(')') {
            return Ok(Some((Vec::new(), 1)));
        }
        let start = self.position;
        if let Ok(list) = self.group(Self::list) {
            return Ok(Some(list));
        }
        self.skip_group(start)?;
        Ok(None)
    }

    /// Expressions with commas between them, and the height of the tallest.
    pub(super) fn list(&mut self) -> Result<(Vec<Expr>, usize), NotUnderstood> {
        let mut list = Vec::new();
        let mut tallest = 1;
        loop {
            let tree = self.above(level::OR)?;
            tallest = tallest.max(tree.height);
            list.push(tree.expr);
            if !self.take_punctuation(',') {
                return Ok((list, tallest));
            }
        }
    }

    fn cast(&mut self) -> Parsed {
        self.next();
        self.expect_punctuation('(')?;
        let start = self.position;
        let inner = self.group(|parser| {
            let operand = parser.above(level::OR)?;
            parser.expect_word("as")?;
            let to: TypeName = parser.type_name()?;
            Tree::over(Expr::Cast { operand: Box::new(operand.expr), to }, operand.height)
        });
        match inner {
            Ok(tree) => Ok(tree),
            Err(NotUnderstood) => {
                self.skip_group(start)?;
                Ok(Tree::leaf(Expr::Opaque))
            }
        }
    }

    fn array(&mut self) -> Parsed {
        self.next();
        if self.take_punctuation('[') {
            if self.take_punctuation(']') {
                return Ok(Tree::leaf(Expr::Array(Vec::new())));
            }
            let (list, tallest) = self.list()?;
            self.expect_punctuation(']')?;
            return Tree::over(Expr::Array(list), tallest);
        }
        let tree = self.parenthesised()?;
        let height = tree.height;
        Ok(match tree.expr {
            Expr::Query(query) => Tree { expr: Expr::ArrayQuery(query), height },
            _ => Tree::leaf(Expr::Opaque),
        })
    }

    fn case(&mut self) -> Parsed {
        self.next();
        let mut tallest = 1;
        let mut part = |parser: &mut Self| -> Result<Expr, NotUnderstood> {
            let tree = parser.above(level::OR)?;
            tallest = tallest.max(tree.height);
            Ok(tree.expr)
        };
        let operand = if self.peek_word(0) == Some("when") { None } else { Some(Box::new(part(self)?)) };
        let mut branches = Vec::new();
        while self.take_word("when") {
            let condition = part(self)?;
            self.expect_word("then")?;
            branches.push((condition, part(self)?));
        }
        let otherwise = if self.take_word("else") { Some(Box::new(part(self)?)) } else { None };
        self.expect_word("end")?;
        if branches.is_empty() {
            return Err(NotUnderstood);
        }
        Tree::over(Expr::Case { operand, branches, otherwise }, tallest)
    }
}
