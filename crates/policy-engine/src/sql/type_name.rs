//! Names of types after `::` and in `CAST`.

use super::NotUnderstood;
use super::ast::TypeName;
use super::lexer::Token;
use super::parser::Parser;

/// Names of the grammar and of `pg_catalog`, and how `format_type` prints them.
const BUILTIN: &[(&str, &str)] = &[
    ("bigint", "bigint"),
    ("bool", "boolean"),
    ("boolean", "boolean"),
    ("bpchar", "bpchar"),
    ("bytea", "bytea"),
    ("character", "character"),
    ("char", "character"),
    ("character varying", "character varying"),
    ("date", "date"),
    ("dec", "numeric"),
    ("decimal", "numeric"),
    ("double precision", "double precision"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("inet", "inet"),
    ("int", "integer"),
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("integer", "integer"),
    ("interval", "interval"),
    ("json", "json"),
    ("jsonb", "jsonb"),
    ("name", "name"),
    ("numeric", "numeric"),
    ("oid", "oid"),
    ("real", "real"),
    ("smallint", "smallint"),
    ("text", "text"),
    ("time", "time without time zone"),
    ("time with time zone", "time with time zone"),
    ("time without time zone", "time without time zone"),
    ("timestamp", "timestamp without time zone"),
    ("timestamp with time zone", "timestamp with time zone"),
    ("timestamp without time zone", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("timetz", "time with time zone"),
    ("uuid", "uuid"),
    ("varchar", "character varying"),
];

impl Parser<'_> {
    /// A type.
    pub(super) fn type_name(&mut self) -> Result<TypeName, NotUnderstood> {
        let mut parts = Vec::new();
        let first_is_word = matches!(self.peek(), Some(Token::Word(_)));
        loop {
            parts.push(self.type_part()?);
            if !self.take_punctuation('.') {
                break;
            }
        }
        let mut modifiers = Vec::new();
        let single = match parts.as_slice() {
            [word] if first_is_word => Some(self.builtin_words(word, &mut modifiers)?),
            [schema, word] if schema == "pg_catalog" => Some(word.clone()),
            _ => None,
        };
        if modifiers.is_empty() {
            modifiers = self.modifiers()?;
        }
        let array = self.array_suffix()?;
        let known = single.as_deref().and_then(|word| BUILTIN.iter().find(|(name, _)| *name == word));
        // In `pg_catalog.char` the name is that of the one-byte type.
        let is_qualified_char = parts.len() == 2 && matches!(single.as_deref(), Some("char"));
        if let Some((_, name)) = known.filter(|_| !is_qualified_char) {
            if *name == "character" && modifiers.is_empty() {
                modifiers.push("1".to_owned());
            }
            return Ok(TypeName { name: (*name).to_owned(), builtin: true, modifiers, array });
        }
        let name = parts.iter().map(|part| quote_identifier(part)).collect::<Vec<_>>().join(".");
        Ok(TypeName { name, builtin: false, modifiers, array })
    }

    fn type_part(&mut self) -> Result<String, NotUnderstood> {
        match self.next() {
            Some(Token::Quoted(name)) => Ok(name.clone()),
            Some(Token::Word(word)) if !super::keywords::is_no_function(word) && word != "setof" => Ok(word.clone()),
            _ => Err(NotUnderstood),
        }
    }

    /// Names of several words; modifiers stand in the middle of some.
    fn builtin_words(&mut self, first: &str, modifiers: &mut Vec<String>) -> Result<String, NotUnderstood> {
        match first {
            "double" => self.expect_word("precision").map(|()| "double precision".to_owned()),
            "character" | "char" if self.take_word("varying") => Ok("character varying".to_owned()),
            "time" | "timestamp" => {
                *modifiers = self.modifiers()?;
                let with = self.take_word("with");
                if with || self.take_word("without") {
                    self.expect_word("time")?;
                    self.expect_word("zone")?;
                }
                Ok(if with { format!("{first} with time zone") } else { first.to_owned() })
            }
            "bit" | "national" | "float" => Err(NotUnderstood),
            _ => Ok(first.to_owned()),
        }
    }

    fn modifiers(&mut self) -> Result<Vec<String>, NotUnderstood> {
        let mut modifiers = Vec::new();
        if self.take_punctuation('(') {
            loop {
                match self.next() {
                    Some(Token::Number(number)) => modifiers.push(number.clone()),
                    _ => return Err(NotUnderstood),
                }
                if self.take_punctuation(')') {
                    break;
                }
                self.expect_punctuation(',')?;
            }
        }
        Ok(modifiers)
    }

    /// `[]`, `[3]`, `[][]`: all the same to Postgres.
    fn array_suffix(&mut self) -> Result<bool, NotUnderstood> {
        let mut array = false;
        while self.take_punctuation('[') {
            if let Some(Token::Number(_)) = self.peek() {
                self.next();
            }
            self.expect_punctuation(']')?;
            array = true;
        }
        Ok(array)
    }
}

/// The identifier, quoted unless it need not be.
pub(crate) fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !super::keywords::is_keyword(name)
        && !BUILTIN.iter().any(|(builtin, _)| *builtin == name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
