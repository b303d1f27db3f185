//! The conversions between protobuf messages and the model.
//!
//! Towards protobuf they always succeed (`From`); towards the model they check everything that
//! the model's types promise (`TryFrom`). The tests are in `convert/tests.rs`.

use std::time::Duration;

use quorate_model::command::Digest;
use quorate_model::id::NameError;
use quorate_model::time::TimingError;

mod command;
mod datagram;
mod node;
mod promises;
mod state;
#[cfg(test)]
mod tests;

pub use datagram::message;
pub use datagram::{address, address_bytes};
pub use promises::Promises;

/// The version of every stored message.
pub const FORMAT: u32 = 1;

/// Why a message does not mean anything to this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no protobuf message of this kind.
    #[error("not a {message} message: {cause}")]
    Protobuf {
        /// The message expected.
        message: &'static str,
        /// What prost found.
        cause: prost::DecodeError,
    },
    /// A field is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field of bytes has the wrong length.
    #[error("{field} has {found} bytes instead of {expected}")]
    Length {
        /// The field.
        field: &'static str,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// An enumeration has a value that this version does not know.
    #[error("{field} has the unknown value {found}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// The value found.
        found: i32,
    },
    /// A name is none.
    #[error("{field} is no name: {cause}")]
    Name {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        cause: NameError,
    },
    /// A socket address is none.
    #[error("{field} is no address and port: {found:?}")]
    Address {
        /// The field.
        field: &'static str,
        /// The text found.
        found: String,
    },
    /// The times don't fit each other.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// Another version of quorated wrote it.
    #[error(
        "{message} has format {found}, this version of quorated reads format {FORMAT}: install the version that wrote it"
    )]
    Format {
        /// The message.
        message: &'static str,
        /// The format found.
        found: u32,
    },
    /// The configuration in a snapshot can't be read by this version.
    #[error("the cluster's configuration can't be read by this version of quorated: {0}")]
    Configuration(String),
}

/// Decodes a protobuf message.
///
/// # Errors
///
/// If the bytes are no such message.
pub fn decode<M: prost::Message + Default>(
    message: &'static str,
    bytes: &[u8],
) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|cause| DecodeError::Protobuf { message, cause })
}

/// Checks the version of a stored message.
///
/// # Errors
///
/// If another version wrote it.
pub fn check_format(message: &'static str, found: u32) -> Result<(), DecodeError> {
    if found == FORMAT { Ok(()) } else { Err(DecodeError::Format { message, found }) }
}

/// A cluster's id as it is sent and stored: 16 bytes, the highest first.
#[must_use]
pub fn cluster_id_bytes(id: u128) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

/// A cluster's id.
///
/// # Errors
///
/// If there are not 16 bytes.
pub fn cluster_id(bytes: &[u8]) -> Result<u128, DecodeError> {
    Ok(u128::from_be_bytes(array("cluster_id", bytes)?))
}

fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Length { field, expected: N, found: bytes.len() })
}

/// A SHA-256 as it is sent and stored.
///
/// # Errors
///
/// If there are not 32 bytes.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, DecodeError> {
    Ok(Digest(array(field, bytes)?))
}

fn name<N: std::str::FromStr<Err = NameError>>(
    field: &'static str,
    text: &str,
) -> Result<N, DecodeError> {
    text.parse().map_err(|cause| DecodeError::Name { field, cause })
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing(field))
}

/// Nanoseconds of a duration, as they are sent and stored; 584 years at most.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
