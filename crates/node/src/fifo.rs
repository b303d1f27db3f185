//! The FIFO of events (`events_fifo`): each event as a line of JSON, for a program of this machine.
//!
//! Nothing waits for its reader: where there is none, or the pipe is full, events are dropped, and the
//! next line that goes through says how many. A line goes in whole or not at all. Tests: below.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use quorate_api::event::json_line;
use quorate_api::v1::Event;
use rustix::fs::{CWD, FileType, Mode, OFlags, chown, mknodat};
use tracing::{info, warn};

use crate::api::local::group_id;
use crate::journal::{Reader, missing};

/// What a pipe takes whole or not at all (PIPE_BUF, pipe(7)).
const LINE_BYTES_MAX: usize = 4_096;
/// Events that are written at a time.
const TAKEN_MAX: usize = 64;

/// Why there is no FIFO.
#[derive(Debug, thiserror::Error)]
pub enum FifoError {
    /// Something else stands there.
    #[error("{0} is not a FIFO: move it away, or give `events_fifo` in node.toml another path")]
    NotAFifo(PathBuf),
    /// The file system refuses.
    #[error("cannot make the FIFO {path}: {cause}")]
    Io {
        /// The FIFO.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// Makes the FIFO, readable by its group (`quorate` where there is one), unless it stands already.
///
/// # Errors
///
/// If something else stands there, or the file system refuses.
pub(crate) fn make(path: &Path) -> Result<(), FifoError> {
    let failed = |cause| FifoError::Io { path: path.to_owned(), cause };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_fifo() => return Ok(()),
        Ok(_) => return Err(FifoError::NotAFifo(path.to_owned())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(failed(cause)),
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let only_mine = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path, FileType::Fifo, only_mine, 0).map_err(|cause| failed(cause.into()))?;
    // Whoever may read it is set before its group may; not to be let is no reason not to run.
    let group = group_id().is_some_and(|gid| chown(path, None, Some(gid)).is_ok());
    let mode = if group { 0o640 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

/// The writing end.
#[derive(Debug)]
struct Fifo {
    path: PathBuf,
    node: String,
    open: Option<fs::File>,
    /// Events that were not written.
    lost: u64,
    /// Whether the log says that it is not read fast enough.
    said_full: bool,
}

/// Writes what the journal says into the FIFO, from now on.
pub(crate) async fn feed(path: PathBuf, node: String, mut journal: Reader) {
    let mut fifo = Fifo { path, node, open: None, lost: 0, said_full: false };
    while journal.wait().await {
        let taken = journal.take(TAKEN_MAX);
        fifo.lost += taken.missed;
        for entry in taken.entries {
            fifo.event(&entry.event);
        }
    }
}

/// What became of a line.
enum Written {
    Whole,
    NoReader,
    Full,
}

impl Fifo {
    /// Writes an event, and before it how many were lost; or counts it.
    fn event(&mut self, event: &Event) {
        if self.lost > 0 && self.line(&missing(&self.node, self.lost)) {
            self.lost = 0;
        }
        // Order holds: what is lost is told before what follows it.
        if self.lost > 0 || !self.line(event) {
            self.lost += 1;
        }
    }

    fn line(&mut self, event: &Event) -> bool {
        let Ok(line) = json_line(event) else { return false };
        let line = line + "\n";
        if line.len() > LINE_BYTES_MAX {
            return false;
        }
        let written = self.write(line.as_bytes());
        match written {
            Ok(Written::Whole) => self.said_full = false,
            Ok(Written::NoReader) => {}
            Ok(Written::Full) if self.said_full => {}
            Ok(Written::Full) => {
                self.said_full = true;
                warn!(fifo = %self.path.display(), "events are dropped: nobody reads them in time");
            }
            Err(ref cause) => {
                info!(fifo = %self.path.display(), %cause, "an event could not be written");
                self.open = None;
            }
        }
        matches!(written, Ok(Written::Whole))
    }

    /// A line that is no longer than this goes in whole, or the pipe says that it is full.
    fn write(&mut self, line: &[u8]) -> io::Result<Written> {
        // A reader that has gone is noticed by writing, and another may have come.
        for _ in 0..2 {
            let file = match &mut self.open {
                Some(file) => file,
                None => match open(&self.path)? {
                    Some(file) => self.open.insert(file),
                    None => return Ok(Written::NoReader),
                },
            };
            match file.write(line) {
                Ok(_) => return Ok(Written::Whole),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Written::Full);
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.open = None,
                Err(error) => return Err(error),
            }
        }
        Ok(Written::NoReader)
    }
}

/// Opens the FIFO for writing, if somebody has it open for reading.
fn open(path: &Path) -> io::Result<Option<fs::File>> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => fs::File::from(file),
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.file_type().is_fifo() {
        return Ok(Some(file));
    }
    Err(io::Error::other("it is no FIFO any more"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::*;

    fn fifo(path: &Path) -> Fifo {
        make(path).unwrap();
        Fifo {
            path: path.to_owned(),
            node: "lb1".to_owned(),
            open: None,
            lost: 0,
            said_full: false,
        }
    }

    fn reader(path: &Path) -> fs::File {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap()
    }

    fn event(sequence: u64) -> Event {
        Event { sequence, kind: "group_up".to_owned(), ..Event::default() }
    }

    /// What is in the pipe: the word of each line, with its number.
    fn lines(reader: &mut fs::File) -> Vec<String> {
        let mut text = String::new();
        let read = reader.read_to_string(&mut text);
        assert!(read.is_ok() || read.unwrap_err().kind() == io::ErrorKind::WouldBlock);
        let word = |line: &str| {
            let after = |key: &str| line.split(key).nth(1).and_then(|t| t.split([',', '"']).next());
            let number = if line.contains("events_lost") { "\"lost\":" } else { "\"sequence\":" };
            format!("{} {}", after("\"event\":\"").unwrap(), after(number).unwrap())
        };
        text.lines().map(word).collect()
    }

    #[test]
    fn a_fifo_without_a_reader_never_blocks_and_the_next_reader_is_told_what_it_missed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/events");
        let mut fifo = fifo(&path);
        (1..=3).for_each(|sequence| fifo.event(&event(sequence)));
        let mut reader = reader(&path);
        fifo.event(&event(4));
        assert_eq!(lines(&mut reader), ["events_lost 3", "group_up 4"]);
        drop(reader);
        fifo.event(&event(5));
        let mut reader = self::reader(&path);
        fifo.event(&event(6));
        assert_eq!(lines(&mut reader), ["events_lost 1", "group_up 6"]);
    }

    #[test]
    fn a_full_fifo_drops_whole_lines_and_says_how_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut fifo = fifo(&path);
        let mut reader = reader(&path);
        let mut written = 0;
        while fifo.lost == 0 {
            written += 1;
            fifo.event(&event(written));
        }
        fifo.event(&event(written + 1));
        assert_eq!(fifo.lost, 2);
        let before = lines(&mut reader);
        assert_eq!(before.last(), Some(&format!("group_up {}", written - 1)));
        fifo.event(&event(written + 2));
        assert_eq!(
            lines(&mut reader),
            ["events_lost 2".to_owned(), format!("group_up {}", written + 2)]
        );
    }

    #[test]
    fn a_file_that_is_no_fifo_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        fs::write(&path, "precious").unwrap();
        let refused = make(&path).unwrap_err().to_string();
        assert!(refused.contains("is not a FIFO: move it away"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn only_its_owner_writes_and_others_do_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        make(&path).unwrap();
        make(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }
}
