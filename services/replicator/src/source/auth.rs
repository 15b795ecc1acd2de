//! Authentication: SCRAM-SHA-256, MD5, clear text or none, as the server asks.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use reactor_pg::{PgError, PgErrorKind, PgTarget};

use super::wire::{Message, SourceError, Wire};

/// Kinds of authentication message.
const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// Answers what the server asks until it is ready for commands.
pub(super) async fn authenticate(wire: &mut Wire, target: &PgTarget) -> Result<(), SourceError> {
    loop {
        let Message { tag, mut body } = wire.receive().await?;
        match tag {
            b'Z' => return Ok(()),
            // Key data for cancelling, which is never done here; protocol versions.
            b'K' | b'v' => continue,
            b'R' => {}
            _ => return Err(SourceError::Protocol("message during authentication")),
        }
        match body.try_get_u32().unwrap_or(u32::MAX) {
            OK => {}
            CLEARTEXT => send_password(wire, password(target)?).await?,
            MD5 => {
                let salt = body.first_chunk().copied().ok_or(SourceError::Protocol("salt"))?;
                send_password(wire, md5_hash(target.user().as_bytes(), password(target)?, salt).as_bytes()).await?;
            }
            SASL => scram(wire, &body, password(target)?).await?,
            _ => return Err(refused("the server asks for an authentication method that is not supported").into()),
        }
    }
}

fn password(target: &PgTarget) -> Result<&[u8], PgError> {
    target.password().ok_or_else(|| refused("the server asks for a password, and the database URL has none"))
}

fn refused(message: &str) -> PgError {
    PgError::new(PgErrorKind::AuthFailed, message)
}

async fn send_password(wire: &mut Wire, password: &[u8]) -> Result<(), SourceError> {
    let mut message = BytesMut::new();
    frontend::password_message(password, &mut message)?;
    wire.send(&message).await
}

async fn scram(wire: &mut Wire, mechanisms: &[u8], password: &[u8]) -> Result<(), SourceError> {
    if !mechanisms.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
        return Err(refused("the server asks for a SASL mechanism other than SCRAM-SHA-256").into());
    }
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message)?;
    wire.send(&message).await?;

    let challenge = sasl_part(wire, SASL_CONTINUE).await?;
    scram.update(&challenge).map_err(|_| SourceError::Protocol("SCRAM challenge"))?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message)?;
    wire.send(&message).await?;

    let verdict = sasl_part(wire, SASL_FINAL).await?;
    scram.finish(&verdict).map_err(|_| refused("the server does not know the password that it asked for").into())
}

async fn sasl_part(wire: &mut Wire, expected: u32) -> Result<Bytes, SourceError> {
    let Message { tag, mut body } = wire.receive().await?;
    if tag != b'R' || body.try_get_u32() != Ok(expected) {
        return Err(SourceError::Protocol("message during SCRAM"));
    }
    Ok(body)
}
