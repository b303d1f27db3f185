//! The virtual machine's initramfs: a cpio archive ("newc") of busybox, the modules to load and
//! the script `scripts/init.sh`. Owns the archive's format, nothing of what is in it. Its tests
//! are below.

/// A file of the archive.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its path, without a leading slash.
    pub(crate) path: String,
    /// Its content.
    pub(crate) content: Vec<u8>,
    /// Whether it can be executed.
    pub(crate) executable: bool,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// The archive of these folders and files; the kernel unpacks it as it is, uncompressed.
pub(crate) fn archive(folders: &[&str], files: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for folder in folders {
        append(&mut out, folder, DIRECTORY, &[]);
    }
    for file in files {
        append(&mut out, &file.path, if file.executable { PROGRAM } else { FILE }, &file.content);
    }
    append(&mut out, "TRAILER!!!", 0, &[]);
    out
}

fn append(out: &mut Vec<u8>, path: &str, mode: u32, content: &[u8]) {
    // Inode numbers only matter for hard links, of which there are none.
    let inode = 0;
    let links = 1;
    let name_size = path.len() + 1;
    let size = content.len();
    let header = format!(
        "070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}\
         {name_size:08x}{:08x}",
        0, 0, 0, 0, 0, 0, 0, 0
    );
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

/// Headers and contents begin at multiples of four.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_is_aligned_and_carries_sizes() {
        let file = Entry { path: "init".into(), content: b"12345".to_vec(), executable: true };
        let bytes = archive(&["bin"], &[file]);
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let headers: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(headers.len(), 3);
        assert!(headers.iter().all(|at| at % 4 == 0), "{headers:?}");
        let init = &text[headers[1]..headers[2]];
        assert_eq!(&init[14..22], "000081ed");
        assert_eq!(&init[54..62], "00000005");
        assert_eq!(&init[94..102], "00000005");
        assert_eq!(&init[110..114], "init");
    }
}
