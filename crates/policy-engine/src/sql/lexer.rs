//! Splits a text into tokens by Postgres's rules (with `standard_conforming_strings`).

use super::NotUnderstood;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An unquoted identifier or keyword, in lower case.
    Word(String),
    /// A quoted identifier.
    Quoted(String),
    /// A string literal.
    Text(String),
    /// An unsigned number.
    Number(String),
    /// `$1`
    Parameter(usize),
    /// An operator.
    Operator(String),
    /// `( ) [ ] , ; .`
    Punctuation(char),
    /// `::`
    DoubleColon,
}

/// More tokens are left to Postgres.
const MAX_TOKENS: usize = 8192;

const OPERATOR_CHARACTERS: &str = "+-*/<>=~!@#%^&|`?";
/// An operator ends in `+` or `-` only if it has one of these.
const ALLOW_TRAILING_SIGN: &str = "~!@#%^&|`?";

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, NotUnderstood> {
    let mut lexer = Lexer { rest: text };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next()? {
        if tokens.len() == MAX_TOKENS {
            return Err(NotUnderstood);
        }
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Result<Option<Token>, NotUnderstood> {
        self.skip_blanks()?;
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let token = match first {
            '\'' => Token::Text(self.quoted('\'')?),
            '"' => self.quoted_identifier()?,
            '$' => self.dollar()?,
            '(' | ')' | '[' | ']' | ',' | ';' => self.punctuation(first),
            '.' if !self.starts_with_digit_after(1) => self.punctuation(first),
            ':' if self.rest.starts_with("::") => {
                self.skip(2);
                Token::DoubleColon
            }
            '0'..='9' | '.' => self.number()?,
            _ if OPERATOR_CHARACTERS.contains(first) => self.operator()?,
            _ if is_identifier_start(first) => self.word()?,
            _ => return Err(NotUnderstood),
        };
        Ok(Some(token))
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or("");
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let taken = self.rest.get(..bytes).unwrap_or(self.rest);
        self.skip(bytes);
        taken
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn starts_with_digit_after(&self, bytes: usize) -> bool {
        self.rest.as_bytes().get(bytes).is_some_and(u8::is_ascii_digit)
    }

    fn punctuation(&mut self, c: char) -> Token {
        self.skip(1);
        Token::Punctuation(c)
    }

    fn skip_blanks(&mut self) -> Result<(), NotUnderstood> {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c' | '\x0b'));
            if self.rest.starts_with("--") {
                self.take_while(|c| c != '\n' && c != '\r');
            } else if self.rest.starts_with("/*") {
                self.block_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Comments nest.
    fn block_comment(&mut self) -> Result<(), NotUnderstood> {
        let mut depth = 0_usize;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.skip(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.skip(2);
                if depth == 0 {
                    return Ok(());
                }
            } else {
                let Some(c) = self.rest.chars().next() else { return Err(NotUnderstood) };
                self.skip(c.len_utf8());
            }
        }
    }

    /// What is between quotes, which are doubled inside.
    fn quoted(&mut self, quote: char) -> Result<String, NotUnderstood> {
        self.skip(1);
        let mut value = String::new();
        loop {
            value.push_str(self.take_while(|c| c != quote));
            if self.rest.is_empty() {
                return Err(NotUnderstood);
            }
            self.skip(1);
            if !self.rest.starts_with(quote) {
                return if value.contains('\0') { Err(NotUnderstood) } else { Ok(value) };
            }
            self.skip(1);
            value.push(quote);
        }
    }

    fn quoted_identifier(&mut self) -> Result<Token, NotUnderstood> {
        let name = self.quoted('"')?;
        if name.is_empty() || name.len() > MAX_IDENTIFIER_BYTES { Err(NotUnderstood) } else { Ok(Token::Quoted(name)) }
    }

    /// `E'…'`: the escapes that have only one reading.
    fn escaped(&mut self) -> Result<Token, NotUnderstood> {
        self.skip(2);
        let mut value = String::new();
        loop {
            value.push_str(self.take_while(|c| c != '\'' && c != '\\'));
            let mut following = self.rest.chars();
            let (first, second) = (following.next(), following.next());
            match (first, second) {
                (Some('\''), Some('\'')) => value.push('\''),
                (Some('\''), _) => {
                    self.skip(1);
                    return if value.contains('\0') { Err(NotUnderstood) } else { Ok(Token::Text(value)) };
                }
                (Some('\\'), Some(c @ ('\\' | '\''))) => value.push(c),
                (Some('\\'), Some('n')) => value.push('\n'),
                (Some('\\'), Some('t')) => value.push('\t'),
                (Some('\\'), Some('r')) => value.push('\r'),
                _ => return Err(NotUnderstood),
            }
            self.skip(2);
        }
    }

    /// `$1` or `$tag$…$tag$`.
    fn dollar(&mut self) -> Result<Token, NotUnderstood> {
        if self.starts_with_digit_after(1) {
            self.skip(1);
            let digits = self.take_while(|c| c.is_ascii_digit());
            return match digits.parse() {
                Ok(number) if !self.rest.starts_with(is_identifier_part) => Ok(Token::Parameter(number)),
                _ => Err(NotUnderstood),
            };
        }
        let Some(end) = self.rest.get(1..).and_then(|rest| rest.find('$')) else { return Err(NotUnderstood) };
        let tag = self.take(end + 2);
        let inner = tag.trim_matches('$');
        if !inner.chars().all(|c| c != '$' && is_identifier_part(c)) {
            return Err(NotUnderstood);
        }
        let Some(end) = self.rest.find(tag) else { return Err(NotUnderstood) };
        let value = self.take(end).to_owned();
        self.skip(tag.len());
        if value.contains('\0') { Err(NotUnderstood) } else { Ok(Token::Text(value)) }
    }

    fn number(&mut self) -> Result<Token, NotUnderstood> {
        let all = self.rest;
        self.take_while(|c| c.is_ascii_digit());
        if self.rest.starts_with('.') && !self.rest.starts_with("..") {
            self.skip(1);
            self.take_while(|c| c.is_ascii_digit());
        }
        if self.rest.starts_with(['e', 'E']) {
            self.skip(1);
            if self.rest.starts_with(['+', '-']) {
                self.skip(1);
            }
            if self.take_while(|c| c.is_ascii_digit()).is_empty() {
                return Err(NotUnderstood);
            }
        }
        if self.rest.starts_with(is_identifier_part) {
            return Err(NotUnderstood);
        }
        Ok(Token::Number(all.get(..all.len() - self.rest.len()).unwrap_or("").to_owned()))
    }

    fn operator(&mut self) -> Result<Token, NotUnderstood> {
        let all = self.rest;
        let mut end = all.find(|c| !OPERATOR_CHARACTERS.contains(c)).unwrap_or(all.len());
        for comment in ["--", "/*"] {
            end = all.get(..end).and_then(|operator| operator.find(comment)).unwrap_or(end);
        }
        let mut operator = all.get(..end).unwrap_or("");
        while operator.len() > 1
            && operator.ends_with(['+', '-'])
            && !operator.contains(|c| ALLOW_TRAILING_SIGN.contains(c))
        {
            operator = operator.get(..operator.len() - 1).unwrap_or("");
        }
        self.skip(operator.len());
        match operator {
            "" | "=>" => Err(NotUnderstood),
            "!=" => Ok(Token::Operator("<>".to_owned())),
            operator => Ok(Token::Operator(operator.to_owned())),
        }
    }

    fn word(&mut self) -> Result<Token, NotUnderstood> {
        let mut following = self.rest.chars();
        match (following.next(), following.next(), following.next()) {
            (Some('e' | 'E'), Some('\''), _) => return self.escaped(),
            (Some('b' | 'B' | 'x' | 'X' | 'n' | 'N'), Some('\''), _)
            | (Some('u' | 'U'), Some('&'), Some('\'' | '"')) => return Err(NotUnderstood),
            _ => {}
        }
        let word = self.take_while(is_identifier_part);
        if word.len() > MAX_IDENTIFIER_BYTES { Err(NotUnderstood) } else { Ok(Token::Word(word.to_ascii_lowercase())) }
    }
}

/// Postgres cuts longer ones.
const MAX_IDENTIFIER_BYTES: usize = 63;

const fn is_identifier_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

const fn is_identifier_part(c: char) -> bool {
    is_identifier_start(c) || c.is_ascii_digit() || c == '$'
}
