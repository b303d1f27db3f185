//! The identity's file: `DATA_DIR/identity`, mode 0600, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use quorate_api::convert::{DecodeError, decode};
use quorate_api::peer::v1 as peer;

use super::Identity;

/// Why the identity can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file has no identity in it.
    #[error(
        "{path} is damaged: {cause}; this node can't come back under its old number: move the data directory away and join again as a new node"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: DecodeError,
    },
}

/// Where the identity stands.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("identity")
}

/// Reads the identity; `None`: this node belongs to no cluster yet.
///
/// # Errors
///
/// If there is a file, and it can't be read.
pub fn load(data_dir: &Path) -> Result<Option<Identity>, IdentityFileError> {
    let path = path(data_dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(IdentityFileError::Io { path, cause }),
    };
    let message: Result<peer::Identity, _> = decode("Identity", &bytes);
    match message.and_then(Identity::try_from) {
        Ok(identity) => Ok(Some(identity)),
        Err(cause) => Err(IdentityFileError::Damaged { path, cause }),
    }
}

/// Writes the identity; it is on disk when this returns.
///
/// # Errors
///
/// If the file system refuses.
pub fn save(data_dir: &Path, identity: &Identity) -> Result<(), IdentityFileError> {
    let path = path(data_dir);
    write_durably(&path, &peer::Identity::from(identity).encode_to_vec())
        .map_err(|cause| IdentityFileError::Io { path, cause })
}

/// Replaces a file by another of these contents, readable by its owner alone: after a crash either
/// the old one or the new one is there, whole.
///
/// # Errors
///
/// If the file system refuses.
pub fn write_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => sync_directory(directory),
        None => Ok(()),
    }
}

/// Makes the names in a directory durable.
///
/// # Errors
///
/// If the file system refuses.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
