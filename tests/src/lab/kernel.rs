//! The virtual machine's kernel: Debian's, unpacked into the cache, never installed. Owns its
//! download and the order in which its modules load. Its tests are below; a real download is
//! made by the first `cargo xtask vm` on a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{LabError, command, packages};

const META_PACKAGE: &str = "linux-image-amd64";

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    root: PathBuf,
    release: String,
}

impl Kernel {
    /// The cached kernel, fetched and unpacked first if there is none.
    ///
    /// # Errors
    /// When apt-get, dpkg or depmod fail, or the package does not hold a kernel.
    pub fn fetch(cache: &Path, say: &mut dyn FnMut(&str)) -> Result<Self, LabError> {
        fs::create_dir_all(cache).map_err(LabError::io(format!("make {}", cache.display())))?;
        let lock = File::create(cache.join("kernel.lock")).map_err(LabError::io("make a lock"))?;
        // Held until `lock` is dropped: two runs at once fetch it once.
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(std::io::Error::from)
            .map_err(LabError::io("lock the kernel's cache"))?;
        let root = cache.join("kernel");
        if !root.exists() {
            Self::unpack(cache, &root, say)?;
        }
        let release = only_entry(&root.join("lib/modules"))?;
        let kernel = Self { root, release };
        kernel.expand(say)?;
        Ok(kernel)
    }

    fn unpack(cache: &Path, root: &Path, say: &mut dyn FnMut(&str)) -> Result<(), LabError> {
        let package = Self::package(say)?;
        let work = tempfile::Builder::new()
            .prefix("kernel-")
            .tempdir_in(cache)
            .map_err(LabError::io("make a folder for the kernel"))?;
        say(&format!("downloading {package} (a kernel with IPVS; it is not installed)"));
        let mut download = packages::apt_get();
        // The sandbox user of apt cannot write into our folder, and need not.
        download.args(["-o", "APT::Sandbox::User=root", "download", &package]);
        command::run_ok(download.current_dir(work.path()), Duration::from_secs(1800))?;
        let archive = work.path().join(only_entry(work.path())?);
        let unpacked = work.path().join("unpacked");
        say("unpacking it and listing its modules (dpkg -x, depmod)");
        let mut dpkg = Command::new("dpkg");
        command::run_ok(dpkg.arg("-x").arg(&archive).arg(&unpacked), Duration::from_secs(600))?;
        let release = only_entry(&unpacked.join("lib/modules"))?;
        let mut depmod = Command::new("depmod");
        depmod.arg("-b").arg(&unpacked).arg(&release);
        command::run_ok(&mut depmod, Duration::from_secs(300))?;
        fs::rename(&unpacked, root).map_err(LabError::io("put the kernel in its place"))
    }

    /// The package that Debian's own name for "the kernel" stands for at present.
    fn package(say: &mut dyn FnMut(&str)) -> Result<String, LabError> {
        let depends = || {
            let mut cache = Command::new("apt-cache");
            cache.args(["show", "--no-all-versions", META_PACKAGE]);
            Ok::<_, LabError>(command::run(&mut cache, Duration::from_secs(120))?.stdout)
        };
        // Always asked afresh: an old index names a package that is gone from the mirror.
        packages::refresh(say)?;
        let text = depends()?;
        image_of(&text).ok_or(LabError::Unreadable { what: "the kernel's package".into(), text })
    }

    /// Expands the image once, here: under emulation the kernel takes half its boot to do so itself.
    fn expand(&self, say: &mut dyn FnMut(&str)) -> Result<(), LabError> {
        let image = self.image();
        if image.exists() {
            return Ok(());
        }
        let compressed = self.root.join(format!("boot/vmlinuz-{}", self.release));
        let bytes = fs::read(&compressed)
            .map_err(LabError::io(format!("read {}", compressed.display())))?;
        let payload = payload(&bytes).ok_or_else(|| LabError::Unreadable {
            what: compressed.display().to_string(),
            text: "no kernel is where its header says".to_owned(),
        })?;
        say("expanding its image (xz)");
        let part = |suffix: &str| image.with_extension(format!("part{suffix}"));
        fs::write(part(".xz"), payload).map_err(LabError::io("write the kernel's payload"))?;
        let output = File::create(part("")).map_err(LabError::io("write the kernel's image"))?;
        let mut xz = Command::new("xz");
        // What follows the stream is its size, for the kernel's own use.
        xz.args(["-dc", "--single-stream"]).arg(part(".xz")).stdout(output);
        let status = xz.status().map_err(LabError::io("start xz"))?;
        fs::remove_file(part(".xz")).map_err(LabError::io("remove the kernel's payload"))?;
        if !status.success() {
            let command = command::line_of(&xz);
            return Err(LabError::Command {
                command,
                status: status.to_string(),
                output: String::new(),
            });
        }
        fs::rename(part(""), &image).map_err(LabError::io("put the kernel's image in its place"))
    }

    /// `uname -r` of this kernel.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The kernel's image, an ELF file that the emulator starts directly (PVH).
    pub fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinux-{}", self.release))
    }

    /// Its modules: what belongs at `/lib/modules/RELEASE`.
    pub fn modules_dir(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// The files of these modules and of all that they need, in the order to load them. Names of
    /// what is built in stand for nothing.
    ///
    /// # Errors
    /// When a module is neither there nor built in.
    pub fn load_order(&self, wanted: &[&str]) -> Result<Vec<PathBuf>, LabError> {
        let read = |name: &str| {
            let path = self.modules_dir().join(name);
            fs::read_to_string(&path).map_err(LabError::io(format!("read {}", path.display())))
        };
        let order = load_order(&read("modules.dep")?, &read("modules.builtin")?, wanted)?;
        Ok(order.into_iter().map(|file| self.modules_dir().join(file)).collect())
    }
}

fn only_entry(dir: &Path) -> Result<String, LabError> {
    let what = || format!("read {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(LabError::io(what()))? {
        names.push(entry.map_err(LabError::io(what()))?.file_name().to_string_lossy().into_owned());
    }
    match names.as_slice() {
        [name] => Ok(name.clone()),
        _ => Err(LabError::Unreadable { what: dir.display().to_string(), text: names.join(" ") }),
    }
}

/// The compressed kernel within a bzImage, as its header tells (Documentation/arch/x86/boot.rst).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = image.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let setup_sectors = usize::from(*image.get(0x1f1)?);
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    image.get(start..start.checked_add(word(0x24c)?)?)
}

fn image_of(show: &str) -> Option<String> {
    show.lines()
        .find_map(|line| line.strip_prefix("Depends:"))?
        .split(',')
        .filter_map(|dependency| dependency.split_whitespace().next())
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
}

/// `kernel/fs/9p/9p.ko` → `9p`; names with `-` and `_` are the same to the kernel.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

fn load_order(dep: &str, builtin: &str, wanted: &[&str]) -> Result<Vec<String>, LabError> {
    let mut modules = BTreeMap::new();
    for line in dep.lines() {
        if let Some((file, needs)) = line.split_once(':') {
            let needs: Vec<String> = needs.split_whitespace().map(module_name).collect();
            modules.insert(module_name(file), (file.to_owned(), needs));
        }
    }
    let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let mut order = Vec::new();
    for &name in wanted {
        let name = module_name(name);
        let Some((file, needs)) = modules.get(&name) else {
            if builtin.contains(&name) {
                continue;
            }
            return Err(LabError::Unreadable { what: "modules.dep".into(), text: name });
        };
        // modules.dep lists everything that a module needs, what is needed first last.
        let needed = needs.iter().rev().filter_map(|need| modules.get(need)).map(|m| &m.0);
        for file in needed.chain([file]) {
            if !order.contains(file) {
                order.push(file.clone());
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_after_what_they_need_and_once() {
        let dep = "net/9p/9pnet.ko:\nnet/9p/9pnet_virtio.ko: net/9p/9pnet.ko drivers/virtio.ko\n\
                   drivers/virtio.ko:\nfs/9p/9p.ko: fs/netfs.ko net/9p/9pnet.ko\nfs/netfs.ko:\n";
        let order = load_order(dep, "kernel/fs/ext4.ko\n", &["9pnet_virtio", "ext4", "9p"]);
        let expected = [
            "drivers/virtio.ko",
            "net/9p/9pnet.ko",
            "net/9p/9pnet_virtio.ko",
            "fs/netfs.ko",
            "fs/9p/9p.ko",
        ];
        assert_eq!(order.unwrap(), expected);
    }

    #[test]
    fn the_payload_is_where_the_header_says() {
        let mut image = vec![0; 2048];
        image[0x1f1] = 1;
        image[0x248] = 16;
        image[0x24c] = 3;
        image[1040..1043].copy_from_slice(b"xyz");
        assert_eq!(payload(&image), Some(b"xyz".as_slice()));
        assert_eq!(payload(&image[..1042]), None);
        assert_eq!(payload(b"short"), None);
    }

    #[test]
    fn a_module_that_is_nowhere_is_named() {
        let error = load_order("a.ko:\n", "", &["gone"]).unwrap_err();
        assert!(error.to_string().contains("gone"));
    }

    #[test]
    fn the_image_is_what_the_meta_package_depends_on() {
        let show = "Package: linux-image-amd64\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.1-1)\n";
        assert_eq!(image_of(show).as_deref(), Some("linux-image-6.1.0-56-amd64"));
    }
}
