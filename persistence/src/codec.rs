//! Payloads: an entry in bincode's format behind a schema version, its secret parts sealed.
//!
//! A new schema is a new stored type and an up-caster beside the old ones, never a change to a type here; the
//! samples in `tests/samples/` hold every version to that.

use engine::{Action, Command, Entry, Envelope};
use wincode::{SchemaRead, SchemaWrite};

use crate::sealer::{Opened, Place, Sealed};
use crate::{KeyError, Kind, Sealer, leaf};

/// Version of the payload schema that is written.
pub const SCHEMA: u8 = 1;

/// Why an entry can't be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A part is larger than its format allows: refuse the command.
    #[error("the entry is too large for one record")]
    TooLarge,
    /// A key can't be made or read: stop taking commands, look at the keys folder.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// Why a payload can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer program: start that one.
    #[error("schema version {0} is not known, this program reads up to {SCHEMA}")]
    Schema(u8),
    /// The checksum holds, but the payload is not of its schema: damaged before it was written.
    #[error("the payload is not of its schema: {0}")]
    Payload(String),
    /// A sealed part can't be opened.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// Schema 1 of a command, as stored. The salt of a command with a secret part is sealed with it, or a guess at an
/// erased secret could be checked against its hash for ever.
#[derive(Debug, SchemaRead)]
#[cfg_attr(test, derive(SchemaWrite))]
pub(crate) struct StoredCommand {
    pub(crate) envelope: Envelope,
    pub(crate) action: Action,
    pub(crate) sealed: Option<Sealed>,
}

/// An entry as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The entry; a secret part whose key was destroyed is there, with empty fields.
    pub entry: Entry,
    /// The commands whose secret part is erased: position and what the leaf hash needs instead.
    pub erased: Vec<(u32, [u8; 32])>,
}

/// The kind of record an entry is written as.
pub(crate) fn kind_of(entry: &Entry) -> Kind {
    let skips = |command: &Command| matches!(command.action, Action::Skip { .. });
    if entry.commands.iter().any(skips) { Kind::Skip } else { Kind::Entry }
}

/// Appends the payload of an entry; allocates nothing for commands without a secret part.
pub(crate) fn encode(entry: &Entry, shard: u16, sealer: &Sealer, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    write(bytes, &(entry.commands.len() as u64))?;
    for (position, command) in entry.commands.iter().enumerate() {
        let Some(secret) = &command.secret else {
            write(bytes, &command.envelope)?;
            write(bytes, &command.action)?;
            bytes.push(0);
            continue;
        };
        let place = Place::Log { shard, index: entry.index, position: position as u32 };
        let salt = command.envelope.salt;
        let sealed = sealer.seal_secret(place, salt, secret)?;
        write(bytes, &Envelope { salt: [0; 16], ..command.envelope.clone() })?;
        write(bytes, &command.action)?;
        write(bytes, &Some(sealed))?;
    }
    Ok(())
}

fn write<T>(bytes: &mut Vec<u8>, value: &T) -> Result<(), EncodeError>
where
    T: SchemaWrite<wincode::config::DefaultConfig, Src = T>,
{
    // Writing to a vector fails for one reason only: a list or text above the preallocation limit of the format,
    // which reading would refuse.
    wincode::serialize_into(bytes, value).map_err(|_| EncodeError::TooLarge)
}

/// Reads the payload of the entry at `index` of `shard`.
pub fn decode(
    payload: &[u8],
    schema: u8,
    shard: u16,
    index: u64,
    sealer: &Sealer,
) -> Result<Decoded, DecodeError> {
    let stored = decode_stored(payload, schema)?;
    let mut decoded = Decoded { entry: Entry { index, commands: Vec::new() }, erased: Vec::new() };
    decoded.entry.commands.reserve_exact(stored.len());
    for (position, command) in stored.into_iter().enumerate() {
        let StoredCommand { mut envelope, action, sealed } = command;
        let mut secret = None;
        if let Some(sealed) = sealed {
            let position = position as u32;
            match sealer.open_secret(Place::Log { shard, index, position }, &sealed)? {
                Opened::Clear { salt, secret: clear } => {
                    envelope.salt = salt;
                    secret = Some(clear);
                }
                Opened::Erased(placeholder) => {
                    decoded.erased.push((position, sealed.digest));
                    secret = Some(placeholder);
                }
            }
        }
        decoded.entry.commands.push(Command { envelope, action, secret });
    }
    Ok(decoded)
}

/// Reads the public parts of a payload, for which no key is needed.
pub(crate) fn decode_stored(payload: &[u8], schema: u8) -> Result<Vec<StoredCommand>, DecodeError> {
    match schema {
        1 => wincode::deserialize_exact(payload).map_err(|error| DecodeError::Payload(error.to_string())),
        newer => Err(DecodeError::Schema(newer)),
    }
}

/// The digest of a secret part that its leaf hash is made of.
pub(crate) fn secret_digest(salt: [u8; 16], secret: &engine::Secret) -> [u8; 32] {
    leaf::secret_digest(salt, Some(secret))
}
