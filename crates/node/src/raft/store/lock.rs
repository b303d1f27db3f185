//! One daemon per data directory: a lock that ends with the process that holds it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Uid, chownat, flock};

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon uses it.
    #[error(
        "another quorated ({holder}) uses the data directory {path}: stop it first, or give this one a data_dir of its own"
    )]
    Held {
        /// The data directory.
        path: PathBuf,
        /// Who, as far as it is known: `pid 123`.
        holder: String,
    },
    /// The file system refused.
    #[error("the data directory {path} can't be used: {cause}")]
    Io {
        /// The data directory.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// A data directory that nobody else uses as long as this value lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory if it is not there (mode 0700), and locks it.
    ///
    /// # Errors
    ///
    /// If another process has it, or the file system refuses.
    pub fn lock(path: &Path) -> Result<Self, LockError> {
        let io = |cause| LockError::Io { path: path.to_owned(), cause };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        Self::lock_there(path)
    }

    /// Locks a directory that is there; `None` if it is not.
    ///
    /// # Errors
    ///
    /// If another process has it, or the file system refuses.
    pub fn lock_existing(path: &Path) -> Result<Option<Self>, LockError> {
        match fs::metadata(path) {
            Ok(_) => Self::lock_there(path).map(Some),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(LockError::Io { path: path.to_owned(), cause }),
        }
    }

    fn lock_there(path: &Path) -> Result<Self, LockError> {
        let io = |cause| LockError::Io { path: path.to_owned(), cause };
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = fs::read_to_string(&lock_path).unwrap_or_default();
                let holder = match pid.trim() {
                    "" => "its pid is not known".to_owned(),
                    pid => format!("pid {pid}"),
                };
                return Err(LockError::Held { path: path.to_owned(), holder });
            }
            Err(cause) => return Err(io(cause.into())),
        }
        // For a person only: a full disk must not keep a daemon from starting.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        super::replace::finish(path).map_err(io)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Gives what root made in the directory to whoever the directory belongs to: a daemon without
    /// root's rights could not open it.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub fn give_back(&self) -> io::Result<()> {
        let owner = fs::metadata(&self.path)?;
        if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        let mut directories = vec![self.path.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                // A link is given away itself, and not what it leads to.
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                chownat(CWD, entry.path(), Some(uid), Some(gid), flags)?;
                if entry.file_type()?.is_dir() {
                    directories.push(entry.path());
                }
            }
        }
        Ok(())
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
