//! Snapshots: one plain file, `snapshots/current`, replaced as a whole.
//!
//! The file is a header (length as 4 bytes, highest first; then the message), and the data. The
//! log is purged only after the file is on disk.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use quorate_api::convert::decode;
use quorate_api::peer::v1 as peer;

use super::database::invalid;
use crate::identity::authority::sha256;
use crate::identity::file::{sync_directory, write_durably};
use crate::raft::types::{Snapshot, SnapshotBytes, SnapshotMeta};
use crate::raft::wire;

/// The last snapshot, on disk and at hand.
#[derive(Debug)]
pub(crate) struct Snapshots {
    path: PathBuf,
    current: Mutex<Option<Current>>,
}

#[derive(Debug, Clone)]
struct Current {
    meta: SnapshotMeta,
    data: Arc<SnapshotBytes>,
}

impl Snapshots {
    /// Reads the last snapshot.
    ///
    /// # Errors
    ///
    /// If there is one, and it is damaged.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        if let Some(parent) = directory.parent() {
            sync_directory(parent)?;
        }
        let path = directory.join("current");
        let current = match fs::read(&path) {
            Ok(bytes) => Some(parse(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path, current: Mutex::new(current) })
    }

    /// The last snapshot.
    pub(crate) fn current(&self) -> Option<Snapshot> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Snapshot { meta: current.meta, snapshot: current.data.as_ref().clone() })
    }

    /// Writes a snapshot; it is on disk when this returns. One that is no newer than the last is dropped:
    /// of the same entries there is the same snapshot, and Raft installs the last one at each start.
    pub(crate) async fn save(
        self: &Arc<Self>,
        meta: SnapshotMeta,
        data: Arc<SnapshotBytes>,
    ) -> io::Result<()> {
        let this = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || this.write(meta, data));
        written.await.map_err(io::Error::other)?
    }

    /// As [`Snapshots::save`], on this thread.
    pub(super) fn write(&self, meta: SnapshotMeta, data: Arc<SnapshotBytes>) -> io::Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|c| c.meta.last_log_id >= meta.last_log_id) {
            return Ok(());
        }
        let header = wire::snapshot_header(&meta, &data, sha256(&data).0).encode_to_vec();
        let length = u32::try_from(header.len()).map_err(io::Error::other)?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(data.as_slice());
        write_durably(&self.path, &bytes)?;
        *current = Some(Current { meta, data });
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> io::Result<Current> {
    let short = || invalid("the snapshot is cut short");
    let (length, rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
    let (header, data) = rest.split_at_checked(length).ok_or_else(short)?;
    let header: peer::SnapshotHeader =
        decode("SnapshotHeader", header).map_err(|error| invalid(&error.to_string()))?;
    let meta = check(header, data)?;
    Ok(Current { meta, data: Arc::new(data.to_vec()) })
}

/// Checks that a snapshot's data is what its header says.
///
/// # Errors
///
/// If it is not.
pub(crate) fn check(header: peer::SnapshotHeader, data: &[u8]) -> io::Result<SnapshotMeta> {
    let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
    if header.size_bytes != size || header.digest != sha256(data).0 {
        return Err(invalid("the snapshot is damaged"));
    }
    wire::read_snapshot_header(header).map_err(|error| invalid(&error.to_string()))
}
