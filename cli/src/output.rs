//! What is printed: results on standard output, everything about them on standard error.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use crate::exit::{Failure, Outcome};

/// Writes to standard output and flushes, so that a reader at the other end of a pipe has it at once. A reader who went
/// away ends the command, quietly.
pub(crate) fn print(text: impl fmt::Display) -> Outcome {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Quiet(0)),
        Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
    }
}

/// Writes a line to standard error; nobody has to read it.
pub(crate) fn note(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A text of somebody else's for a terminal: control characters, which could move the cursor or change colours, are
/// shown instead of sent.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, char| {
        if char.is_control() || is_direction_mark(char) {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
        out
    })
}

/// Characters that reorder what stands around them.
fn is_direction_mark(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(printable("plain ä 漢"), "plain ä 漢");
        assert_eq!(printable("a\u{1b}[31mb\nc"), r"a\u{1b}[31mb\u{a}c");
        assert_eq!(printable("a\u{202e}b\u{9b}"), r"a\u{202e}b\u{9b}");
    }
}
