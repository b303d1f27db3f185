//! One member's store and identity in place of another's, in the same data directory: after a crash
//! at any point, the old ones are there, or the new ones are.
//!
//! The new ones are made in `replacing/`, and named `replacement-STAMP/` when they are on disk: that
//! one rename decides. Whoever locks the data directory next finishes what a crash cut off: the old
//! ones go to `before-STAMP/`, and stay there, and the new ones to their place. Tests: at the end of
//! this file.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::identity::file::sync_directory;

/// What belongs together. The lists of what is in the kernel are not among it: they stay true.
const PARTS: [&str; 3] = ["identity", "db", "snapshots"];
const MAKING: &str = "replacing";
const DECIDED: &str = "replacement-";
const FORMER: &str = "before-";

/// An empty directory in the data directory, for what shall replace it. What a crash left of a
/// former one is removed.
///
/// # Errors
///
/// If the file system refuses.
pub(crate) fn begin(data_dir: &Path) -> io::Result<PathBuf> {
    let making = data_dir.join(MAKING);
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    DirBuilder::new().mode(0o700).create(&making)?;
    Ok(making)
}

/// Decides for what was made, and carries it out; gives where the former ones are now.
///
/// # Errors
///
/// If the file system refuses. The next one that locks the directory tries again.
pub(crate) fn commit(data_dir: &Path, stamp: &str) -> io::Result<PathBuf> {
    let making = data_dir.join(MAKING);
    for part in PARTS {
        fs::metadata(making.join(part))?;
    }
    sync_directory(&making)?;
    fs::rename(&making, data_dir.join(format!("{DECIDED}{stamp}")))?;
    sync_directory(data_dir)?;
    finish(data_dir)?;
    Ok(data_dir.join(format!("{FORMER}{stamp}")))
}

/// Finishes what was decided and cut off by a crash.
///
/// # Errors
///
/// If the file system refuses: then nothing in the directory may be used.
pub(super) fn finish(data_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data_dir)? {
        let name = entry?.file_name();
        if let Some(stamp) = name.to_str().and_then(|name| name.strip_prefix(DECIDED)) {
            put_in_place(data_dir, stamp)?;
        }
    }
    Ok(())
}

fn put_in_place(data_dir: &Path, stamp: &str) -> io::Result<()> {
    let decided = data_dir.join(format!("{DECIDED}{stamp}"));
    let former = data_dir.join(format!("{FORMER}{stamp}"));
    match DirBuilder::new().mode(0o700).create(&former) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    for part in PARTS {
        let (new, place) = (decided.join(part), data_dir.join(part));
        // As long as the new one waits, what stands in its place is the former one.
        if !fs::exists(&new)? {
            continue;
        }
        if fs::exists(&place)? {
            fs::rename(&place, former.join(part))?;
        }
        fs::rename(&new, &place)?;
    }
    for directory in [&former, &decided, data_dir] {
        sync_directory(directory)?;
    }
    fs::remove_dir(&decided)?;
    sync_directory(data_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(directory: &Path, text: &str) {
        for part in PARTS {
            if part == "identity" {
                fs::write(directory.join(part), text).unwrap();
            } else {
                fs::create_dir(directory.join(part)).unwrap();
                fs::write(directory.join(part).join("file"), text).unwrap();
            }
        }
    }

    fn read(directory: &Path) -> Vec<String> {
        let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_else(|e| e.to_string());
        PARTS
            .iter()
            .map(|part| match *part {
                "identity" => text(directory.join(part)),
                part => text(directory.join(part).join("file")),
            })
            .collect()
    }

    #[test]
    fn what_is_not_decided_leaves_the_old_in_place() {
        let data = tempfile::tempdir().unwrap();
        put(data.path(), "old");
        let making = begin(data.path()).unwrap();
        put(&making, "new");
        finish(data.path()).unwrap();
        assert_eq!(read(data.path()), ["old"; 3]);
        // The next attempt begins with nothing.
        assert_eq!(fs::read_dir(begin(data.path()).unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_decided_stands_in_place_and_the_old_is_kept() {
        let data = tempfile::tempdir().unwrap();
        put(data.path(), "old");
        put(&begin(data.path()).unwrap(), "new");
        let former = commit(data.path(), "now").unwrap();
        assert_eq!(read(data.path()), ["new"; 3]);
        assert_eq!(read(&former), ["old"; 3]);
        finish(data.path()).unwrap();
        assert_eq!(read(data.path()), ["new"; 3]);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 4);
    }

    #[test]
    fn half_of_a_replacement_is_never_decided() {
        let data = tempfile::tempdir().unwrap();
        put(data.path(), "old");
        fs::write(begin(data.path()).unwrap().join("identity"), "new").unwrap();
        assert!(commit(data.path(), "now").is_err());
        finish(data.path()).unwrap();
        assert_eq!(read(data.path()), ["old"; 3]);
    }

    /// The renames after the decision, cut off after each of them.
    #[test]
    fn a_crash_after_the_decision_is_made_up_for_whenever_it_comes() {
        for done in 0..=2 * PARTS.len() {
            let data = tempfile::tempdir().unwrap();
            put(data.path(), "old");
            put(&begin(data.path()).unwrap(), "new");
            let (decided, former) =
                (data.path().join("replacement-now"), data.path().join("before-now"));
            fs::rename(data.path().join(MAKING), &decided).unwrap();
            let renames = PARTS.iter().flat_map(|part| {
                let place = data.path().join(part);
                [(place.clone(), former.join(part)), (decided.join(part), place)]
            });
            if done > 0 {
                fs::create_dir(&former).unwrap();
            }
            for (from, to) in renames.take(done) {
                fs::rename(from, to).unwrap();
            }
            finish(data.path()).unwrap();
            assert_eq!(read(data.path()), ["new"; 3], "cut off after {done} renames");
            assert_eq!(read(&former), ["old"; 3], "cut off after {done} renames");
            assert!(!decided.exists());
        }
    }
}
