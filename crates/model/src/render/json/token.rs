//! JSON's tokens, and nothing that is not one.

use super::super::number;

/// A token; strings and numbers with their text as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `{`, `}`, `[`, `]`, `,` or `:`.
    Mark(u8),
    /// With its quotes, its escapes well-formed.
    String(&'a [u8]),
    /// A number.
    Number(&'a [u8]),
    /// `true`, `false` or `null`.
    Word(&'a [u8]),
}

/// Reads the tokens of a text.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { rest: text.as_bytes() }
    }

    /// The next token: `Some(None)` at the end, `None` when there is no token.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Option<Token<'a>>> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        let Some((first, rest)) = self.rest.split_first() else { return Some(None) };
        let token = match first {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => {
                self.rest = rest;
                Token::Mark(*first)
            }
            b'"' => Token::String(self.take(string_len(self.rest)?)?),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &&u8| matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let text = self.take(self.rest.iter().take_while(is_part).count())?;
                number::is_number(text).then_some(Token::Number(text))?
            }
            b't' => Token::Word(self.take_word(b"true")?),
            b'f' => Token::Word(self.take_word(b"false")?),
            b'n' => Token::Word(self.take_word(b"null")?),
            _ => return None,
        };
        Some(Some(token))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (token, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(token)
    }

    fn take_word(&mut self, word: &[u8]) -> Option<&'a [u8]> {
        self.take(word.len()).filter(|text| *text == word)
    }
}

/// Length of the string that the text begins with, quotes included.
fn string_len(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        at += match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match text.get(at + 1)? {
                b'u' => text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit).then_some(6)?,
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                _ => return None,
            },
            _ => return None,
        };
    }
}
