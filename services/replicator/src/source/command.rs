//! The commands of a replication connection.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use reactor_model::Lsn;
use reactor_pg::PgError;

use super::stream::ReplicationStream;
use super::wire::{Message, SourceError, Wire, error_response};

/// An authenticated connection that waits for a command.
#[derive(Debug)]
pub struct ReplicationConnection {
    wire: Wire,
}

/// Who the server says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// End of the server's log.
    pub wal_end: Lsn,
}

/// How a slot is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotOptions {
    /// Major version of the server.
    pub server_version: u32,
    /// Whether standbys keep a copy (from version 17).
    pub failover: bool,
}

/// What is streamed.
#[derive(Clone, Copy, Debug)]
pub struct StartOptions<'a> {
    /// Major version of the server.
    pub server_version: u32,
    /// The publications' names. A change comes once, however many of them have its table.
    pub publications: &'a [&'a str],
    /// Where to begin; the server begins at what the slot has confirmed when that is later.
    pub from: Lsn,
}

impl ReplicationConnection {
    pub(super) const fn new(wire: Wire) -> Self {
        Self { wire }
    }

    /// `IDENTIFY_SYSTEM`.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn identify(&mut self) -> Result<Identity, SourceError> {
        let row = self.row("IDENTIFY_SYSTEM").await?;
        Ok(Identity { wal_end: lsn_column(&row, 2)? })
    }

    /// `CREATE_REPLICATION_SLOT`: a logical slot for `pgoutput`. Gives the point from which it decodes.
    ///
    /// Waits for all transactions that run now.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn create_slot(&mut self, name: &str, options: SlotOptions) -> Result<Lsn, SourceError> {
        let arguments = match options {
            SlotOptions { server_version: ..15, .. } => "NOEXPORT_SNAPSHOT",
            SlotOptions { server_version: 17.., failover: true } => "(SNAPSHOT 'nothing', FAILOVER true)",
            SlotOptions { .. } => "(SNAPSHOT 'nothing')",
        };
        let name = quote_name(name);
        let row = self.row(&format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput {arguments}")).await?;
        lsn_column(&row, 1)
    }

    /// `START_REPLICATION`. When the server refuses, the connection can be used again.
    ///
    /// # Errors
    /// [`SourceError::Pg`] with the server's refusal.
    pub async fn start(&mut self, slot: &str, options: StartOptions<'_>) -> Result<(), SourceError> {
        let protocol = if options.server_version >= 14 { 2 } else { 1 };
        let publications = quote_names(options.publications);
        let (slot, from) = (quote_name(slot), options.from);
        let command = format!(
            "START_REPLICATION SLOT {slot} LOGICAL {from} (proto_version '{protocol}', publication_names {publications})"
        );
        self.send(&command).await?;
        match self.wire.receive().await {
            Ok(Message { tag: b'W', .. }) => Ok(()),
            Ok(_) => Err(SourceError::Protocol("answer to START_REPLICATION")),
            Err(SourceError::Pg(error)) => {
                self.until_ready().await?;
                Err(error.into())
            }
            Err(error) => Err(error),
        }
    }

    /// The stream that [`ReplicationConnection::start`] has begun.
    #[must_use]
    pub fn into_stream(self) -> ReplicationStream {
        ReplicationStream::new(self.wire)
    }

    async fn send(&mut self, command: &str) -> Result<(), SourceError> {
        let mut message = BytesMut::new();
        frontend::query(command, &mut message)?;
        self.wire.send(&message).await
    }

    /// Runs a command that gives one row.
    async fn row(&mut self, command: &str) -> Result<Vec<Option<Bytes>>, SourceError> {
        self.send(command).await?;
        let mut row = None;
        loop {
            match self.wire.receive().await {
                Ok(Message { tag: b'Z', .. }) => return row.ok_or(SourceError::Protocol("no row")),
                Ok(Message { tag: b'D', body }) => row = Some(columns(body)?),
                Ok(_) => {}
                Err(SourceError::Pg(error)) => {
                    self.until_ready().await?;
                    return Err(error.into());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Passes over what follows an error. A server that refuses for good closes the connection instead.
    async fn until_ready(&mut self) -> Result<(), PgError> {
        loop {
            match self.wire.receive().await {
                Ok(Message { tag: b'Z', .. }) => return Ok(()),
                Ok(_) => {}
                Err(SourceError::Pg(error)) => return Err(error),
                // The first error says more than the end of the connection.
                Err(SourceError::Io(_) | SourceError::Protocol(_)) => return Ok(()),
            }
        }
    }
}

fn columns(mut body: Bytes) -> Result<Vec<Option<Bytes>>, SourceError> {
    const SHORT: SourceError = SourceError::Protocol("row");
    let count = body.try_get_u16().map_err(|_| SHORT)?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let len = body.try_get_i32().map_err(|_| SHORT)?;
        columns.push(match usize::try_from(len) {
            Err(_) => None,
            Ok(len) if len <= body.len() => Some(body.split_to(len)),
            Ok(_) => return Err(SHORT),
        });
    }
    Ok(columns)
}

fn lsn_column(row: &[Option<Bytes>], index: usize) -> Result<Lsn, SourceError> {
    let text = row.get(index).and_then(Option::as_ref).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.and_then(|text| text.parse().ok()).ok_or(SourceError::Protocol("log position"))
}

/// `"name"`, as the replication grammar and name lists take it.
fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A list of quoted names, inside a quoted option.
fn quote_names(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| quote_name(name)).collect();
    quote_literal(&names.join(","))
}

/// `'text'`, as the replication grammar takes it: it knows no escapes but the doubled quote.
fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The error that a body of tag `E` holds.
pub(super) fn refusal(body: &[u8]) -> SourceError {
    error_response(body).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_both_grammars() {
        assert_eq!(quote_names(&["plain"]), "'\"plain\"'");
        assert_eq!(quote_names(&["it's \"odd\", x", "b"]), "'\"it''s \"\"odd\"\", x\",\"b\"'");
    }

    #[test]
    fn rows_are_read_and_damaged_ones_refused() {
        let body = Bytes::from_static(b"\x00\x02\xff\xff\xff\xff\x00\x00\x00\x030/5");
        let row = columns(body.clone()).expect("a row");
        assert_eq!(lsn_column(&row, 1).expect("an lsn"), Lsn(5));
        assert!(lsn_column(&row, 0).is_err() && lsn_column(&row, 2).is_err());
        for end in 0..body.len() {
            assert!(columns(body.slice(..end)).is_err(), "{end}");
        }
    }
}
