//! The options of a connection URL that the driver's own parser does not know.

use std::path::PathBuf;

use crate::target::{PgUrlError, RootCertificates, TlsMode};

/// Options of libpq that change nothing here.
const IGNORED: &[&str] = &[
    "gssencmode",
    "krbsrvname",
    "gsslib",
    "client_encoding",
    "fallback_application_name",
    "sslcompression",
    "sslsni",
    "passfile",
    "requirepeer",
];

/// Options of libpq that would weaken the connection if they were passed over.
const UNSUPPORTED: &[&str] =
    &["sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir", "service", "ssl_min_protocol_version", "require_auth"];

/// What the driver's own parser does not know: taken out of the URL before it sees it.
#[derive(Default)]
pub(crate) struct TlsOptions {
    pub(crate) mode: Option<TlsMode>,
    pub(crate) roots: Option<RootCertificates>,
}

impl TlsOptions {
    /// Our options, and the text without them.
    pub(crate) fn take_out_of(text: &str) -> Result<(Self, String), PgUrlError> {
        let mut taken = Self::default();
        let rest = if is_url(text) { taken.take_from_url(text)? } else { taken.take_from_pairs(text)? };
        Ok((taken, rest))
    }

    /// Whether the option was ours to take.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, PgUrlError> {
        match key {
            "sslmode" => self.mode = Some(TlsMode::parse(value).ok_or(PgUrlError::SslMode)?),
            "sslrootcert" if value == "system" => self.roots = Some(RootCertificates::Public),
            "sslrootcert" => self.roots = Some(RootCertificates::File(PathBuf::from(value))),
            _ if IGNORED.contains(&key) => {}
            _ => {
                return match UNSUPPORTED.iter().find(|name| **name == key) {
                    Some(name) => Err(PgUrlError::Unsupported(name)),
                    None => Ok(false),
                };
            }
        }
        Ok(true)
    }

    fn take_from_url(&mut self, url: &str) -> Result<String, PgUrlError> {
        // A password may hold a '?', so the query is looked for behind the credentials.
        let credentials = url.find('@').map_or(0, |at| at + 1);
        let Some(mark) = url.get(credentials..).and_then(|rest| rest.find('?')) else {
            return Ok(url.to_owned());
        };
        let (head, query) = url.split_at(credentials + mark);
        let mut kept = Vec::new();
        for pair in query.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(PgUrlError::Malformed)?;
            if !self.take(key, &percent_decode(value).ok_or(PgUrlError::Malformed)?)? {
                kept.push(pair);
            }
        }
        Ok(if kept.is_empty() { head.to_owned() } else { format!("{head}?{}", kept.join("&")) })
    }

    fn take_from_pairs(&mut self, text: &str) -> Result<String, PgUrlError> {
        let mut kept = String::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=').ok_or(PgUrlError::Malformed)?;
            let (value, raw, after) = split_value(after.trim_start()).ok_or(PgUrlError::Malformed)?;
            if !self.take(key.trim(), &value)? {
                kept.push_str(key.trim());
                kept.push('=');
                kept.push_str(raw);
                kept.push(' ');
            }
            rest = after.trim_start();
        }
        Ok(kept)
    }
}

/// Splits a libpq value, quoted or not, from what follows: its meaning, its spelling, the rest.
fn split_value(text: &str) -> Option<(String, &str, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.push(chars.next()?.1),
            '\'' if quoted => return Some((value, text.get(..=at)?, text.get(at + 1..)?)),
            _ if !quoted && char.is_whitespace() => return Some((value, text.get(..at)?, text.get(at..)?)),
            _ => value.push(char),
        }
    }
    (!quoted && !value.is_empty()).then_some((value, text, ""))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}
