//! `cargo xtask bpf`: builds the fence's object from its source with clang. Owns how, and that the
//! committed object is of the committed source. Its tests are below.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use quorate_tests::lab::packages::Package;
use quorate_tests::lab::{command, packages, workspace_dir};

use crate::TaskError;
use crate::report::say;

const CLANG: &[Package] =
    &[Package { name: "clang", file: "clang", reason: "compiles the fence for the kernel" }];
const LIMIT: Duration = Duration::from_secs(60);

/// What stands beside the object, to tell whether it is of this source.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    source: String,
    object: String,
    /// Another version of it may make another object of the same source.
    compiler: String,
}

impl Stamp {
    fn of(source: &[u8], object: &[u8], compiler: &str) -> Self {
        let compiler = compiler.to_owned();
        Self { source: checksum(source), object: checksum(object), compiler }
    }

    fn text(&self) -> String {
        let Self { source, object, compiler } = self;
        format!("fence.c {source}\nfence.o {object}\ncompiler {compiler}\n")
    }

    #[cfg(test)]
    fn read(text: &str) -> Option<Self> {
        let of = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.map(str::to_owned)
        };
        Some(Self { source: of("fence.c")?, object: of("fence.o")?, compiler: of("compiler")? })
    }
}

/// Builds the object and its stamp anew.
pub(crate) fn run() -> Result<ExitCode, TaskError> {
    packages::ensure(&[CLANG], &mut packages::say_on_stderr)?;
    let folder = folder();
    let object = folder.join("fence.o");
    let before = std::fs::read(&object).unwrap_or_default();
    let compiler = compiler()?;
    say(&format!("compiling {} with {compiler}", folder.join("fence.c").display()));
    compile(&object)?;
    let (source, after) = (read(&folder.join("fence.c"))?, read(&object)?);
    let stamp = folder.join("fence.stamp");
    let text = Stamp::of(&source, &after, &compiler).text();
    std::fs::write(&stamp, text)
        .map_err(|source| TaskError::Io { what: format!("write {}", stamp.display()), source })?;
    say(if before == after { "fence.o is as it was" } else { "fence.o has changed: commit it" });
    Ok(ExitCode::SUCCESS)
}

fn folder() -> PathBuf {
    workspace_dir().join("crates/dataplane/bpf")
}

fn read(path: &Path) -> Result<Vec<u8>, TaskError> {
    std::fs::read(path)
        .map_err(|source| TaskError::Io { what: format!("read {}", path.display()), source })
}

/// The first line of its version; it tells distributions apart too.
fn compiler() -> Result<String, TaskError> {
    let text = command::run_ok(Command::new("clang").arg("--version"), LIMIT)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn compile(object: &Path) -> Result<(), TaskError> {
    let mut clang = Command::new("clang");
    // Instruction set v2: v3 needs Linux 5.1 and saves nothing here. No debug information, which
    // would name folders of the machine that built it.
    clang.args(["-target", "bpfel", "-mcpu=v2", "-O2", "-Wall", "-Wextra", "-Werror", "-c"]);
    clang.current_dir(folder()).arg("fence.c").arg("-o").arg(object);
    command::run_ok(&mut clang, LIMIT)?;
    Ok(())
}

/// FNV-1a: it has to notice an edit, not an attack.
fn checksum(bytes: &[u8]) -> String {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> (Vec<u8>, Vec<u8>, Stamp) {
        let of = |name| read(&folder().join(name)).unwrap();
        let stamp = Stamp::read(&String::from_utf8(of("fence.stamp")).unwrap()).unwrap();
        (of("fence.c"), of("fence.o"), stamp)
    }

    #[test]
    fn the_committed_object_is_of_the_committed_source() {
        let (source, object, stamp) = committed();
        assert_eq!(stamp, Stamp::of(&source, &object, &stamp.compiler), "run `cargo xtask bpf`");
    }

    #[test]
    fn a_fresh_build_makes_the_committed_object() {
        let (_, object, stamp) = committed();
        let here = match compiler() {
            Ok(here) if here == stamp.compiler => here,
            other => {
                let here = other.unwrap_or_else(|error| error.to_string());
                say(&format!("skipped: built with {}; here: {here}", stamp.compiler));
                return;
            }
        };
        let place = std::env::temp_dir().join(format!("quorate-fence-{}.o", std::process::id()));
        compile(&place).unwrap();
        let fresh = read(&place).unwrap();
        std::fs::remove_file(&place).unwrap();
        assert!(fresh == object, "{here} makes another fence.o: run `cargo xtask bpf`");
    }

    #[test]
    fn an_edit_of_the_source_is_noticed() {
        let stamp = Stamp::of(b"source", b"object", "clang 14");
        assert_eq!(Stamp::read(&stamp.text()).unwrap(), stamp);
        assert_ne!(Stamp::of(b"Source", b"object", "clang 14"), stamp);
        // The published value of FNV-1a for one letter.
        assert_eq!(checksum(b"a"), "af63dc4c8601ec8c");
    }
}
